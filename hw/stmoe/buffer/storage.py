"""Expert buffer: banks, their regrouping into slots, and the network that connects PEs to them."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import data, memory, wiring
from amaranth.lib.wiring import In, Out

from .. import interfaces
from ..config import Geometry
from ..interfaces import BufferReadSignature
from ..sharing import share
from .bank import BankMemory

__all__ = ["BufferStorage"]


def _log2(value: int) -> int:
    return value.bit_length() - 1


class BufferStorage(wiring.Component):
    """``slots * banks_per_slot`` banks of weight words, each with a side RAM of parameter rows.

    A slot is ``2**shape.group`` banks, which take words in turn; changing ``group`` regroups the
    banks, after which every slot counts as empty. A beat that is filled in is readable by what is
    issued two cycles later, which is when a watermark given with it can be seen. No back-pressure.
    Not reset: a watermark means nothing until ``progress`` has set it.

    Parameters
    ----------
    geometry: Geometry

    Members
    -------
    fill: valid and a beat of a slot's blob; beats of a slot in any order.
    progress: valid, slot, beats: sets the slot's watermark.
    read: ports of the PEs. shape: run-time shape; ``group`` and ``side_words`` are used.
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
        group_bits = max(1, Geometry(g.config, g.max_d_ff).group.bit_length())
        group = self.shape.group[:group_bits]

        def place(slot, word, name):
            """Bank and address of a word of a slot."""
            bank, addr = Signal(g.slot_bits, name=f"{name}_bank"), Signal(24, name=f"{name}_addr")
            inside = word & ((1 << group) - 1)
            m.d.comb += [bank.eq((slot << group) | inside), addr.eq(word >> group)]
            return bank, addr

        # Filling: one register stage, then the banks.
        beat = Signal(g.beat_bits)
        first_weight = Signal(g.beat_bits)
        m.d.comb += [beat.eq(self.fill.payload.beat),
                     first_weight.eq(self.shape.side_words * side_beats)]
        weight_beat = Signal(g.beat_bits)
        is_weight = Signal()
        m.d.comb += [is_weight.eq(beat >= first_weight), weight_beat.eq(beat - first_weight)]
        bank, addr = place(
            self.fill.payload.slot,
            Mux(is_weight, weight_beat >> _log2(word_beats), beat >> _log2(side_beats)), "fill")
        write_bank, write_addr = Signal.like(bank), Signal.like(addr)
        write_data = Signal(beat_bits)
        weight_en, side_en = Signal(word_beats), Signal(side_beats)
        part = weight_beat & (word_beats - 1)
        side_part = beat & (side_beats - 1)
        m.d.sync += [
            write_bank.eq(bank), write_addr.eq(addr), write_data.eq(self.fill.payload.data),
            weight_en.eq(Mux(self.fill.valid & is_weight, 1 << part[:_log2(word_beats)]
                             if word_beats > 1 else 1, 0)),
            side_en.eq(Mux(self.fill.valid & ~is_weight, 1 << side_part[:_log2(side_beats)]
                           if side_beats > 1 else 1, 0))]
        m.d.comb += [self.bank_writes.eq(self.fill.valid),
                     self.bank_reads.eq(sum(read.en for read in self.read))]

        # Reading: a register stage, the RAM, the network.
        asked = []
        for index, read in enumerate(self.read):
            word = place(read.slot, read.word, f"word_{index}")
            row = place(read.param_slot, read.row >> _log2(side_rows), f"row_{index}")
            stage = {}
            for name, en, (bank, addr) in (("word", read.en, word), ("row", read.param_en, row)):
                held = {"en": Signal(name=f"{name}_en_{index}"),
                        "bank": Signal.like(bank, name=f"{name}_bank_{index}_1"),
                        "addr": Signal.like(addr, name=f"{name}_addr_{index}_1"),
                        "from": Signal.like(bank, name=f"{name}_bank_{index}_2")}
                m.d.sync += [held["en"].eq(en), held["bank"].eq(bank), held["addr"].eq(addr),
                             held["from"].eq(held["bank"])]
                stage[name] = held
            asked.append(stage)

        outputs: dict[str, list] = {"word": [], "row": []}
        for number in range(g.banks):
            for name, width, depth, en in (
                    ("word", 8 * g.word_bytes, g.bank_words, weight_en),
                    ("row", 8 * g.side_bytes, g.bank_side_words, side_en)):
                ram = share(m, f"{name}_{number}", platform, BankMemory, width, depth, beat_bits)
                m.d.comb += [ram.write_addr.eq(write_addr), ram.write_data.eq(write_data)]
                with m.If(write_bank == number):
                    m.d.comb += ram.write_en.eq(en)
                for stage in asked:
                    held = stage[name]
                    with m.If(held["en"] & (held["bank"] == number)):
                        m.d.comb += [ram.read_en.eq(1), ram.read_addr.eq(held["addr"])]
                outputs[name].append(ram.read_data)
        for index, read in enumerate(self.read):
            side_word = Signal(8 * g.side_bytes, name=f"side_word_{index}")
            for name, target in (("word", read.data), ("row", side_word)):
                with m.Switch(asked[index][name]["from"]):
                    for number, output in enumerate(outputs[name]):
                        with m.Case(number):
                            m.d.comb += target.eq(output)
            if side_rows > 1:
                row = Signal(_log2(side_rows), name=f"row_part_{index}")
                chosen = Signal.like(row, name=f"row_part_{index}_1")
                m.d.sync += [row.eq(read.row), chosen.eq(row)]
                m.d.comb += read.params.eq(
                    side_word.word_select(chosen, 32 * g.config.rows))
            else:
                m.d.comb += read.params.eq(side_word)

        # Watermarks.
        m.submodules.watermarks = marks = memory.Memory(
            shape=g.beat_bits, depth=g.banks, init=[])
        port = marks.write_port()
        m.d.comb += [port.addr.eq(self.progress.slot), port.data.eq(self.progress.beats),
                     port.en.eq(self.progress.valid)]
        for read in self.read:
            mark = marks.read_port()
            m.d.comb += [mark.addr.eq(read.watch), mark.en.eq(1), read.watermark.eq(mark.data)]
        return m
