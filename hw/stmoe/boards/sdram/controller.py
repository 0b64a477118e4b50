"""An SDR SDRAM behind AXI4."""

import itertools

from amaranth.hdl import Cat, Module, Mux, ResetSignal, Signal
from amaranth.lib import data, fifo, wiring
from amaranth.lib.wiring import In, Out

from ...config import ConfigError
from ..memory_port import MemorySignature
from .banks import Command, SdramBanks, countdown
from .part import ALL, SdramPart
from .segments import RowSegments, segment

__all__ = ["SdramController", "sdram_pins"]

DECERR = 3
READ_BEATS = 16  # that wait for R


def sdram_pins(part: SdramPart) -> dict[str, wiring.Member]:
    """What is registered on its way to the pins, active high, and ``dq_i``, behind a register."""
    return {"clk_en": Out(1), "cs": Out(1), "ras": Out(1), "cas": Out(1), "we": Out(1),
            "ba": Out(part.bank_bits), "a": Out(part.address_pins), "dqm": Out(part.data_bits // 8),
            "dq_o": Out(part.data_bits), "dq_oe": Out(1), "dq_i": In(part.data_bits)}


class SdramController(wiring.Component):
    """An AXI4 subordinate over a part of SDRAM; INCR bursts of whole beats.

    A beat is one READ or WRITE of 2, 4 or 8 words. Bursts are done in the order in which they were
    taken, reads and writes by turns where both wait; a burst of several rows, and bursts that
    follow one another, go on at a word per cycle: the next row is opened in a cycle without another
    command, if it is in another bank. Rows stay open. Of an idle part in its open row, the first
    beat of a read comes ``cas`` + beat's words + 4 cycles after AR was taken. A write is answered
    when its last beat was commanded; later reads see it. Byte strobes are honoured. Refresh comes
    first, between any two beats: a row closed, opened again, and ``rfc``. Bursts beyond the part
    answer DECERR and change nothing. Back-pressure is honoured; R is buffered. While the beats of a
    taken write do not come, nothing but refresh is done.

    Reset: the part is initialised, without its power-up time but after configuration; its contents
    stay, but for a beat that was being written.

    Parameters
    ----------
    part: SdramPart. port: of AXI; a beat of 2, 4 or 8 words. clock_hz: of ``sync``.
    capture: cycles from a command to ``dq_i`` holding the first word that it reads, less the CAS
        latency: 1 with a register at each pin each way, if the part sees the command within the
        cycle in which it is on the pins.

    Members
    -------
    axi: :class:`MemorySignature`, subordinate side. ready: the part was initialised.
    Pins: see :func:`sdram_pins`.
    """

    def __init__(self, part: SdramPart, port: MemorySignature, clock_hz: int, capture: int = 1):
        words = port.data_bits // part.data_bits
        if words not in (2, 4, 8):
            raise ConfigError("axi_data_bits", port.data_bits, "2, 4 or 8 words of "
                              f"{part.data_bits} bits, as memory of this board is read")
        self.part, self.port, self.words, self.capture = part, port, words, capture
        self.cycles = part.cycles(clock_hz)
        super().__init__({"axi": In(port), "ready": Out(1), **sdram_pins(part)})

    def elaborate(self, platform):
        m = Module()
        t, axi, words = self.cycles, self.axi, self.words
        m.submodules.segments = segments = RowSegments(self.part, self.port)
        m.submodules.banks = banks = SdramBanks(self.part, t, words)
        wiring.connect(m, wiring.flipped(axi.ar), segments.ar)
        wiring.connect(m, wiring.flipped(axi.aw), segments.aw)

        # The segment at work, and the one behind it.
        shape = segment(self.part, self.port)
        now, then = Signal(shape), Signal(shape)
        now_valid, then_valid, beat, over = (Signal(name=name) for name in (
            "now_valid", "then_valid", "beat", "over"))
        m.d.comb += [over.eq(beat & (now.beats == 1)),
                     segments.out.ready.eq(~then_valid | ~now_valid)]  # not by way of ``over``
        with m.If(beat):
            m.d.sync += [now.column.eq(now.column + 1), now.beats.eq(now.beats - 1)]
        with m.If(over | ~now_valid):
            m.d.sync += [now.eq(then), now_valid.eq(then_valid), then_valid.eq(0)]
        with m.If(segments.out.ready):
            m.d.sync += [then.eq(segments.out.payload), then_valid.eq(segments.out.valid)]

        # What may be commanded.
        command, mode = Signal(3), Signal(self.part.address_pins)
        for asked, of in zip((banks.asked[0], banks.asked[1]), (now, then), strict=True):
            m.d.comb += [asked.bank.eq(of.bank), asked.row.eq(of.row)]
        spacing, turning = Signal(range(words + 1)), Signal(range(t.cas + words + 2))
        reading, answered = Signal(range(READ_BEATS + 1)), Signal()
        is_read, is_write = Signal(), Signal()
        m.d.comb += [is_read.eq(command == Command.READ), is_write.eq(command == Command.WRITE)]
        countdown(m, spacing, (is_read | is_write, words))
        countdown(m, turning, (is_read, t.cas + words + 1))  # a cycle between two that drive
        other = Signal()
        m.d.comb += other.eq(then_valid & (~now_valid | (then.bank != now.bank)))

        m.d.comb += [
            answered.eq(~axi.b.valid | axi.b.ready),
            self.clk_en.eq(1), self.cs.eq(1), Cat(self.we, self.cas, self.ras).eq(command),
            banks.command.eq(command)]
        wait, owed = Signal(range(max(t.rp, t.rfc, t.mrd, 2) + 1)), Signal(4)
        left, since = Signal(range(t.refreshes + 1)), Signal(range(t.refresh))
        power = Signal(range(t.power_up + 1), init=t.power_up, reset_less=True)
        settle = t.rc + t.wr + t.cas + 2 * words + 2  # whatever was begun before a reset has ended
        settling, fresh = Signal(range(settle + 1), init=settle), Signal(init=1)
        refreshed = Signal()
        m.d.comb += refreshed.eq(command == Command.REFRESH)
        with m.If(~ResetSignal()):  # not before a PLL has locked
            m.d.sync += power.eq(power - (power != 0))
        m.d.sync += [settling.eq(settling - (settling != 0)),
                     wait.eq(wait - (wait != 0)), since.eq(since + 1)]
        due = since == t.refresh - 1
        with m.If(due):
            m.d.sync += since.eq(0)
        with m.If(due & ~refreshed & ~owed.all()):
            m.d.sync += owed.eq(owed + 1)
        with m.Elif(refreshed & ~due & (owed != 0)):
            m.d.sync += owed.eq(owed - 1)

        def place(of):
            m.d.comb += [banks.place.bank.eq(of.bank), banks.place.row.eq(of.row),
                         self.ba.eq(of.bank), self.a.eq(of.row)]

        with m.FSM():
            with m.State("POWER"):
                m.d.comb += self.dqm.eq(~0)
                m.d.sync += left.eq(t.refreshes)
                with m.If((power == 0) & (settling == 0)):
                    m.next = "CLOSE"
            with m.State("CLOSE"):
                with m.If(banks.may_close_all):
                    m.d.comb += [command.eq(Command.PRECHARGE), banks.all.eq(1),
                                 self.a.eq(1 << ALL)]
                    m.d.sync += wait.eq(t.rp - 1)
                    m.next = "REFRESH"
            with m.State("REFRESH"):
                with m.If((wait == 0) & banks.all_quiet):
                    m.d.comb += command.eq(Command.REFRESH)
                    m.d.sync += [wait.eq(t.rfc - 1), left.eq(left - 1)]
                    with m.If(left == 1):
                        m.next = "RESUME"
                        with m.If(fresh):
                            m.next = "MODE"
            with m.State("MODE"):
                with m.If((wait == 0) & banks.all_quiet):
                    m.d.comb += [command.eq(Command.MODE), self.a.eq(mode)]
                    m.d.sync += [wait.eq(t.mrd - 1), fresh.eq(0), owed.eq(0)]
                    m.next = "RESUME"
            with m.State("RESUME"):
                with m.If(wait == 0):
                    m.next = "RUN"
            with m.State("RUN"):
                m.d.comb += self.ready.eq(1)
                m.d.sync += left.eq(1)
                with m.If(owed != 0):
                    m.next = "CLOSE"
                with m.Elif(now_valid & banks.may[0].column & (spacing == 0)
                            & (~now.last | (now.beats != 1) | ~now.writes | answered)
                            & Mux(now.writes, axi.w.valid & (turning == 0),
                                  reading != READ_BEATS)):
                    m.d.comb += [
                        beat.eq(1), self.ba.eq(now.bank), banks.place.bank.eq(now.bank),
                        self.a.eq(now.column << (words.bit_length() - 1)),
                        command.eq(Mux(now.writes, Command.WRITE, Command.READ))]
                for valid, may, of in ((now_valid, banks.may[0], now),
                                       (other, banks.may[1], then)):
                    with m.Elif(valid & may.activate):
                        m.d.comb += command.eq(Command.ACTIVATE)
                        place(of)
                    with m.Elif(valid & may.close):
                        m.d.comb += [command.eq(Command.PRECHARGE), banks.place.bank.eq(of.bank),
                                     self.ba.eq(of.bank)]
        m.d.comb += mode.eq((words.bit_length() - 1) | t.cas << 4)

        # Words to write: the first with its command.
        size, lanes = self.part.data_bits, self.part.data_bits // 8
        rest, mask = Signal(size * (words - 1)), Signal(lanes * (words - 1))
        driving = Signal(range(words))
        m.d.comb += [axi.w.ready.eq(is_write), self.dq_oe.eq(is_write | (driving != 0))]
        with m.If(is_write):
            strobes = Mux(now.outside, 0, axi.w.payload.strb)
            m.d.comb += [self.dq_o.eq(axi.w.payload.data), self.dqm.eq(~strobes[:lanes])]
            m.d.sync += [rest.eq(axi.w.payload.data >> size), mask.eq(~strobes >> lanes),
                         driving.eq(words - 1)]
        with m.Elif(driving != 0):
            m.d.comb += [self.dq_o.eq(rest), self.dqm.eq(mask)]
            m.d.sync += [rest.eq(rest >> size), mask.eq(mask >> lanes), driving.eq(driving - 1)]
        with m.If(is_write & over & now.last):
            m.d.sync += [axi.b.valid.eq(1), axi.b.payload.id.eq(now.id),
                         axi.b.payload.resp.eq(now.outside.replicate(2))]
        with m.Elif(axi.b.ready):
            m.d.sync += axi.b.valid.eq(0)

        # Words that were read: a token follows each READ until its last word is there.
        token = data.StructLayout({"valid": 1, "id": self.port.id_bits, "last": 1, "outside": 1})
        steps = [Signal(token, name=f"token_{i}") for i in range(t.cas + self.capture + words)]
        m.d.comb += [steps[0].valid.eq(is_read), steps[0].id.eq(now.id),
                     steps[0].last.eq(now.last & over), steps[0].outside.eq(now.outside)]
        m.d.sync += [after.eq(before) for before, after in itertools.pairwise(steps)]
        held = Signal(size * (words - 1))
        m.d.sync += held.eq(Cat(held, self.dq_i)[size:])
        width = self.port.data_bits + self.port.id_bits + 2
        m.submodules.read = read = fifo.SyncFIFOBuffered(width=width, depth=READ_BEATS)
        arrived, failed = steps[-1], Signal()
        m.d.comb += [
            read.w_data.eq(Cat(held, self.dq_i, arrived.id, arrived.last, arrived.outside)),
            read.w_en.eq(arrived.valid), axi.r.valid.eq(read.r_rdy), read.r_en.eq(axi.r.ready),
            Cat(axi.r.payload.data, axi.r.payload.id, axi.r.payload.last, failed).eq(read.r_data),
            axi.r.payload.resp.eq(failed.replicate(2))]
        m.d.sync += reading.eq(reading + is_read - (axi.r.valid & axi.r.ready))
        return m
