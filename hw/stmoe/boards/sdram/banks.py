"""Which row is open in each bank, and when a bank may be commanded again."""

from amaranth.hdl import Array, Module, Mux, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from .part import SdramCycles, SdramPart

__all__ = ["Command", "SdramBanks", "countdown"]


class Command:
    """RAS, CAS and WE of the commands, active high, bit 2 first."""

    NOP, WRITE, READ, ACTIVATE, PRECHARGE, REFRESH, MODE = 0b000, 0b011, 0b010, 0b100, 0b101, \
        0b110, 0b111


def countdown(m: Module, counter: Signal, *starts: tuple[object, int]) -> None:
    """Count to 0; where a condition holds, not below its number of cycles, this one included."""
    value = Mux(counter == 0, 0, counter - 1)
    for condition, cycles in starts:
        value = Mux(condition & (value < cycles - 1), cycles - 1, value)
    m.d.sync += counter.eq(value)


class SdramBanks(wiring.Component):
    """Follows the commands of this cycle; says of two addresses what their banks allow.

    Times between commands of a bank, and from one ACTIVATE to the next, are kept here; the commands
    must be asked for only where they are allowed. Combinational answers. Reset: all banks closed.

    Parameters
    ----------
    part: SdramPart. cycles: its times. burst: words of a READ or WRITE.

    Members
    -------
    command: a :class:`Command`, with ``bank``, ``row``, and for PRECHARGE ``all``.
    asked: two addresses: bank and row. may: per address: ``open``: its row is; ``column``,
        ``activate``, ``close``: such a command is allowed.
    may_close_all, all_quiet: PRECHARGE of all banks, REFRESH or MODE is allowed.
    """

    def __init__(self, part: SdramPart, cycles: SdramCycles, burst: int):
        self.part, self.cycles, self.burst = part, cycles, burst
        place = {"bank": part.bank_bits, "row": part.row_bits}
        super().__init__({
            "command": In(3), "place": In(data.StructLayout(place)), "all": In(1),
            "asked": In(data.ArrayLayout(data.StructLayout(place), 2)),
            "may": Out(data.ArrayLayout(data.StructLayout(
                {"open": 1, "column": 1, "activate": 1, "close": 1}), 2)),
            "may_close_all": Out(1), "all_quiet": Out(1)})

    def elaborate(self, platform):
        m = Module()
        t, count = self.cycles, 1 << self.part.bank_bits
        most = range(max(t.rc, t.ras, t.rcd, t.rp, t.rrd, t.rfc, self.burst + t.wr) + 1)
        opened = Signal(count)
        rows = Array(Signal(self.part.row_bits, name=f"row_{b}") for b in range(count))
        column, close, activate = ([Signal(most, name=f"{name}_{b}") for b in range(count)]
                                   for name in ("to_column", "to_close", "to_activate"))
        spaced = Signal(most)
        is_activate, is_precharge = (Signal(name=f"is_{name}") for name in
                                     ("activate", "precharge"))
        m.d.comb += [is_activate.eq(self.command == Command.ACTIVATE),
                     is_precharge.eq(self.command == Command.PRECHARGE)]
        countdown(m, spaced, (is_activate, t.rrd))
        for b in range(count):
            here = Signal(name=f"here_{b}")
            opens, closes = Signal(name=f"opens_{b}"), Signal(name=f"closes_{b}")
            m.d.comb += [here.eq(self.place.bank == b), opens.eq(is_activate & here),
                         closes.eq(is_precharge & (here | self.all))]
            with m.If(opens):
                m.d.sync += [opened[b].eq(1), rows[b].eq(self.place.row)]
            with m.If(closes):
                m.d.sync += opened[b].eq(0)
            countdown(m, column[b], (opens, t.rcd))
            countdown(m, close[b], (opens, t.ras),
                      (here & (self.command == Command.READ), self.burst),
                      (here & (self.command == Command.WRITE), self.burst - 1 + t.wr))
            countdown(m, activate[b], (opens, t.rc), (closes, t.rp))
        for asked, may in ((self.asked[i], self.may[i]) for i in range(2)):
            m.d.comb += [
                may.open.eq(opened.bit_select(asked.bank, 1) & (rows[asked.bank] == asked.row)),
                may.column.eq(may.open & (Array(column)[asked.bank] == 0)),
                may.activate.eq(~opened.bit_select(asked.bank, 1)
                                & (Array(activate)[asked.bank] == 0) & (spaced == 0)),
                may.close.eq(opened.bit_select(asked.bank, 1) & ~may.open
                             & (Array(close)[asked.bank] == 0))]
        quiet = opened == 0
        closable = 1
        for b in range(count):
            quiet &= activate[b] == 0
            closable &= close[b] == 0
        m.d.comb += [self.all_quiet.eq(quiet), self.may_close_all.eq(closable)]
        return m
