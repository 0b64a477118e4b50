"""Expert buffer: banks, their regrouping into slots, and the network that connects PEs to them."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import data, memory, wiring
from amaranth.lib.wiring import In, Out

from .. import interfaces
from ..compute.pipeline import delay
from ..config import Geometry
from ..interfaces import BufferReadSignature
from ..sharing import share
from .bank import BankMemory
from .column import WordColumn, chosen

__all__ = ["BufferStorage"]


FAN = 4  # banks that are multiplexed behind their RAMs, ahead of a register


def _log2(value: int) -> int:
    return value.bit_length() - 1


def _times(value, constant: int):
    """``value * constant`` by shifts and adders: no multiplier is taken for it."""
    return sum((value << bit for bit in range(constant.bit_length()) if constant >> bit & 1),
               start=0)


class BufferStorage(wiring.Component):
    """``slots * banks_per_slot`` banks of weight words, and RAMs of their side regions per PE.

    Parameters and scales are few: each PE has its own copy of all, without a network. A slot is
    ``2**shape.group`` banks, which take words in turn; changing ``group`` regroups the banks, after
    which every slot counts as empty. One PE reads a word at a time: its banks are one behind
    another in a few RAMs, a slot's words in a row, and there is no network. With ``shape.ring``
    weight word w of a slot takes the place of word w - ``ring_words``. A beat that is filled in is
    readable by what is issued two cycles later; a watermark given with it is seen in the next. No
    back-pressure. Not reset: a watermark means nothing until ``progress`` has set it.

    Parameters
    ----------
    geometry: Geometry

    Members
    -------
    fill: valid and a beat of a slot's blob; beats of a slot in any order.
    progress: valid, slot, beats: sets the slot's watermark.
    read: ports of the PEs. shape: run-time shape; ``group``, ``ring``, ``side_words`` and, for
        scales, ``gu_groups`` and ``out_groups`` are used.
    bank_reads, bank_writes: weight words read and beats written in this cycle.
    """

    def __init__(self, geometry: Geometry):
        g = self.geometry = geometry
        super().__init__({
            "fill": In(data.StructLayout({"valid": 1, "payload": interfaces.fill(g)})),
            "progress": In(data.StructLayout(
                {"valid": 1, "slot": g.slot_bits, "beats": g.beat_bits})),
            "read": In(BufferReadSignature(g)).array(g.config.pes),
            "shape": In(interfaces.shape_layout(g)),
            "bank_reads": Out(range(g.config.pes + 1)), "bank_writes": Out(1)})

    def elaborate(self, platform):
        m = Module()
        g = self.geometry
        word_beats, side_beats = g.word_bytes // g.axi_bytes, g.side_bytes // g.axi_bytes
        side_rows = g.side_bytes // (4 * g.config.rows)
        beat_bits = 8 * g.axi_bytes
        group_bits = min(Geometry(g.config, g.max_d_ff).group, g.half).bit_length()
        group = self.shape.group[:group_bits] if group_bits else 0

        def placed(word):
            """Weight word in whose place ``word`` is."""
            return word if not g.has_ring else word & Mux(
                self.shape.ring, g.ring_words - 1, (1 << 24) - 1)

        def first(slot, depth):
            """Where a slot begins whose banks, of ``depth`` words each, are one behind another."""
            return _times(slot << group, depth)

        def at(address, depth, name):
            """``address`` in all banks, a cycle later."""
            later = Signal(range(g.banks * depth), name=f"{name}_at")
            m.d.sync += later.eq(address)
            return later

        # Filling: two register stages, then the banks. Scales are the side region's last words.
        filled = Signal.like(self.fill.payload)

        def filled_at(word, depth, name):
            """Address, two cycles after a beat, of its ``word``, which is known in between."""
            begin = delay(m, first(self.fill.payload.slot, depth), 1, f"{name}_first")
            return at(begin + word, depth, name)

        fill_valid = delay(m, self.fill.valid, 1, "fill_valid")
        m.d.sync += filled.eq(self.fill.payload)
        beat = Signal(g.beat_bits)
        first_weight = Signal(g.beat_bits)
        side_word = beat >> _log2(side_beats)
        if g.config.weight_group:
            params = self.shape.gu_groups + self.shape.out_groups + 1
            first_scale = Signal(16)
            is_scale = Signal()
            m.d.sync += first_scale.eq((params + (side_rows - 1)) >> _log2(side_rows))
            m.d.comb += is_scale.eq(side_word >= first_scale)
            side_word = Mux(is_scale, side_word - first_scale, side_word)
        m.d.comb += [beat.eq(filled.beat),
                     first_weight.eq(self.shape.side_words * side_beats)]
        weight_beat = Signal(g.beat_bits)
        is_weight = Signal()
        m.d.comb += [is_weight.eq(beat >= first_weight), weight_beat.eq(beat - first_weight)]
        write_data = Signal(beat_bits)
        weight_en, side_en = Signal(word_beats), Signal(side_beats)
        param_en, scale_en = Signal(side_beats), Signal(side_beats)
        part = weight_beat & (word_beats - 1)
        side_part = beat & (side_beats - 1)
        m.d.sync += [write_data.eq(filled.data), param_en.eq(side_en)]
        if g.config.weight_group:
            m.d.sync += [param_en.eq(Mux(is_scale, 0, side_en)),
                         scale_en.eq(Mux(is_scale, side_en, 0))]
        m.d.comb += [weight_en.eq(Mux(fill_valid & is_weight, 1 << part[:_log2(word_beats)]
                                      if word_beats > 1 else 1, 0)),
                     side_en.eq(Mux(fill_valid & ~is_weight, 1 << side_part[:_log2(side_beats)]
                                    if side_beats > 1 else 1, 0)),
                     self.bank_writes.eq(self.fill.valid),
                     self.bank_reads.eq(sum(read.en for read in self.read))]

        weight_word = placed(weight_beat >> _log2(word_beats))
        if g.config.pes == 1:
            read, = self.read
            width = max(beat_bits, 8 * g.config.lanes)  # a row of multipliers, or more
            parts = width // beat_bits
            begin = delay(m, first(self.fill.payload.slot, g.bank_words), 1, "fill_first")
            for number in range(8 * g.word_bytes // width):
                column = share(m, f"column_{number}", platform, WordColumn, width,
                               g.banks * g.bank_words, beat_bits)
                m.d.comb += [
                    column.write_at.eq(begin + weight_word),
                    column.write_en.eq(weight_en.word_select(number, parts)),
                    column.write_data.eq(filled.data), column.read_en.eq(read.en),
                    column.read_at.eq(first(read.slot, g.bank_words) + placed(read.word)),
                    read.data.word_select(number, width).eq(column.read_data)]
        else:
            def in_turn(slot, word, name):
                """Bank and address of a word of a slot whose banks take words in turn."""
                bank = Signal(g.slot_bits, name=f"{name}_bank")
                addr = Signal(24, name=f"{name}_addr")
                inside = word & ((1 << group) - 1)
                m.d.comb += [bank.eq((slot << group) | inside), addr.eq(word >> group)]
                return bank, addr
            self._network(m, platform, in_turn(filled.slot, weight_word, "fill"), write_data,
                          weight_en,
                          [in_turn(read.slot, placed(read.word), f"word_{index}")
                           for index, read in enumerate(self.read)])

        # The side region: parameters and scales, each PE's in RAMs of its own.
        def rows(name, slot, row, en, bits, depth, write_en):
            """Row ``row`` of a slot, chosen of its side word as that leaves the register."""
            each = 8 * g.side_bytes // bits
            ram = share(m, name, platform, BankMemory, 8 * g.side_bytes, g.banks * depth, beat_bits)
            m.d.comb += [
                ram.write_addr.eq(filled_at(side_word, depth, f"{name}_fill")),
                ram.write_data.eq(write_data), ram.write_en.eq(write_en),
                ram.read_addr.eq(at(first(slot, depth) + (row >> _log2(each)), depth, name)),
                ram.read_en.eq(delay(m, en, 1, f"{name}_en"))]
            word = delay(m, ram.read_data, 1, f"{name}_word")
            if each == 1:
                return word
            return word.word_select(delay(m, row[:_log2(each)], 3, f"{name}_part"), bits)

        for index, read in enumerate(self.read):
            m.d.comb += read.params.eq(rows(
                f"row_{index}", read.param_slot, read.row, read.param_en, 32 * g.config.rows,
                g.bank_param_words, param_en))
            if g.config.weight_group:
                m.d.comb += read.scales.eq(rows(
                    f"scale_{index}", read.slot, read.group, read.en, 8 * g.config.rows,
                    g.bank_scale_words, scale_en))

        # Watermarks.
        m.submodules.watermarks = marks = memory.Memory(
            shape=g.beat_bits, depth=g.banks, init=[])
        port = marks.write_port()
        m.d.comb += [port.addr.eq(self.progress.slot), port.data.eq(self.progress.beats),
                     port.en.eq(self.progress.valid)]
        for read in self.read:
            for watch, watermark in ((read.watch, read.watermark),
                                     (read.watch_next, read.watermark_next)):
                mark = marks.read_port(domain="comb")
                m.d.comb += [mark.addr.eq(watch), watermark.eq(mark.data)]
        return m

    def _network(self, m, platform, filled, write_data, weight_en, asked):
        """The banks, and the way of a word from any of them to each PE: a register stage, the RAM,
        a part of the network, a register, the rest of it.

        ``filled``, ``asked``: bank and address of what is written, and of each PE's word; written
        are ``write_data``, a cycle late, and ``weight_en``.
        """
        g = self.geometry
        write_bank, write_addr = (delay(m, value, 1, name) for value, name in zip(
            filled, ("write_bank", "write_addr"), strict=True))
        write_en = delay(m, weight_en, 1, "write_en")
        readers = []
        for index, (read, (bank, addr)) in enumerate(zip(self.read, asked, strict=True)):
            en = delay(m, read.en, 1, f"word_en_{index}")
            banks = [delay(m, bank, cycles, f"word_bank_{index}") for cycles in range(1, 4)]
            readers.append((en, delay(m, addr, 1, f"word_addr_{index}"), banks))
        outputs = []
        for number in range(g.banks):
            ram = share(m, f"word_{number}", platform, BankMemory, 8 * g.word_bytes, g.bank_words,
                        8 * g.axi_bytes)
            m.d.comb += [ram.write_addr.eq(write_addr), ram.write_data.eq(write_data)]
            with m.If(write_bank == number):
                m.d.comb += ram.write_en.eq(write_en)
            for en, addr, banks in readers:
                with m.If(en & (banks[0] == number)):
                    m.d.comb += [ram.read_en.eq(1), ram.read_addr.eq(addr)]
            outputs.append(ram.read_data)
        for index, (read, (_, _, banks)) in enumerate(zip(self.read, readers, strict=True)):
            parts = []
            for at in range(0, g.banks, FAN):
                part = Signal(8 * g.word_bytes, name=f"word_part_{index}_{at}")
                m.d.sync += part.eq(chosen(outputs[at:at + FAN], banks[1]))
                parts.append(part)
            m.d.comb += read.data.eq(chosen(parts, banks[2][_log2(FAN):]))
