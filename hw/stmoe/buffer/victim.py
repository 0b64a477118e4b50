"""Victim scan: the evictable slot whose expert is expected to be used last."""

from amaranth.hdl import Cat, Module, Mux, Signal, unsigned
from amaranth.lib import data, memory, wiring
from amaranth.lib.wiring import In, Out

__all__ = ["CLOCK_BITS", "VictimScan", "arrangement", "slot_state"]

CLOCK_BITS = 24
MAX_LANES = 16
ROWS = 64  # of slots, that a scan is to take; more lanes only up to MAX_LANES


def slot_state(slot_bits: int) -> data.StructLayout:
    """A slot's new state."""
    return data.StructLayout({"valid": 1, "slot": slot_bits, "evictable": 1, "free": 1})


def arrangement(slots: int) -> tuple[int, int]:
    """Lanes (slots looked at in a cycle) and rows (cycles) of a scan."""
    lanes = 1
    while lanes < MAX_LANES and lanes * ROWS < slots:
        lanes *= 2
    return lanes, -(-slots // lanes)


class VictimScan(wiring.Component):
    """Keeps due time and state of every slot and looks for the next victim in the background.

    A change starts a scan from the beginning: ``rows`` + 4 cycles, ``lanes`` slots a cycle. A slot
    other than the victim that ceases to be evictable starts none. ``ready`` falls in the cycle
    after a change. Victim: a free slot, else the evictable one with the largest ``due`` - ``clock``
    as a signed number; of equals that of the lower number. Meaningless if no slot is evictable.
    Reset: no scan; state of slots as written before.

    Parameters
    ----------
    slots: slot numbers 0 .. slots - 1.

    Members
    -------
    state: slot ``slot`` becomes ``evictable`` or not, and ``free`` or not.
    due: due time of slot ``slot``. clock: what it is compared with.
    hold: puts off scans; changes are taken.
    victim, victim_free, victim_due: of the victim. ready: they are up to date.
    """

    def __init__(self, slots: int):
        self.slots = slots
        self.bits = max(1, (slots - 1).bit_length())
        self.lanes, self.rows = arrangement(slots)
        super().__init__({
            "state": In(slot_state(self.bits)),
            "due": In(data.StructLayout({"valid": 1, "slot": self.bits, "time": CLOCK_BITS})),
            "clock": In(CLOCK_BITS), "hold": In(1),
            "victim": Out(self.bits), "victim_free": Out(1), "victim_due": Out(CLOCK_BITS),
            "ready": Out(1)})

    def elaborate(self, platform):
        m = Module()
        lanes, shift = self.lanes, (self.lanes - 1).bit_length()
        flags_of = data.StructLayout({"evictable": 1, "free": 1})
        m.submodules.flags = flags = memory.Memory(
            shape=data.ArrayLayout(flags_of, lanes), depth=self.rows, init=[])
        m.submodules.times = times = memory.Memory(
            shape=data.ArrayLayout(unsigned(CLOCK_BITS), lanes), depth=self.rows, init=[])
        read_flags, read_times = flags.read_port(), times.read_port()
        write_flags, write_times = (one.write_port(granularity=1) for one in (flags, times))
        state, due, hold = Signal.like(self.state), Signal.like(self.due), Signal()
        m.d.sync += [state.eq(self.state), due.eq(self.due), hold.eq(self.hold)]
        for port, change in ((write_flags, state), (write_times, due)):
            lane = change.slot[:shift] if shift else 0
            m.d.comb += [port.addr.eq(change.slot >> shift),
                         port.en.eq(Mux(change.valid, 1 << lane, 0))]
        for lane in range(lanes):
            m.d.comb += [write_flags.data[lane].evictable.eq(state.evictable),
                         write_flags.data[lane].free.eq(state.free),
                         write_times.data[lane].eq(due.time)]

        # Row of a scan, then its best slot, then the best of all: one cycle each.
        row = Signal(range(self.rows + 1), init=self.rows)
        reading, read_row = Signal(), Signal(range(self.rows))
        found = data.StructLayout({"valid": 1, "free": 1, "ahead": CLOCK_BITS, "due": CLOCK_BITS,
                                   "slot": self.bits})
        best, best_valid, total = Signal(found), Signal(), Signal(found)
        since = Signal(CLOCK_BITS)  # clock of this scan
        settled, changed, dirty = Signal(), Signal(), Signal()
        m.d.comb += [
            read_flags.addr.eq(row), read_times.addr.eq(row),
            changed.eq(due.valid | (state.valid & (
                state.evictable | ~settled | (state.slot == self.victim)))),
            settled.eq(~dirty & (row == self.rows) & ~reading & ~best_valid),
            self.ready.eq(settled & ~changed),
            self.victim.eq(total.slot), self.victim_free.eq(total.free),
            self.victim_due.eq(total.due)]

        def better(one, other):
            """Of two slots, the second only if it is to go before the first."""
            pick = Signal(found)
            order = [Cat(slot.ahead, slot.free, slot.valid) for slot in (one, other)]
            m.d.comb += pick.eq(Mux(order[1] > order[0], other, one))
            return pick

        level = []
        for lane in range(lanes):
            slot = Signal(found, name=f"lane_{lane}")
            number = Signal(range(self.rows * lanes), name=f"number_{lane}")
            half = 1 << (CLOCK_BITS - 1)
            m.d.comb += [
                number.eq(Cat(Signal(shift, init=lane), read_row) if shift else read_row),
                slot.valid.eq(read_flags.data[lane].evictable & (number < self.slots)),
                slot.free.eq(read_flags.data[lane].free),
                slot.ahead.eq(Mux(slot.free, 0, read_times.data[lane] - since + half)),
                slot.due.eq(read_times.data[lane]), slot.slot.eq(number)]
            level.append(slot)
        while len(level) > 1:
            level = [better(*level[i:i + 2]) for i in range(0, len(level), 2)]
        m.d.sync += [read_row.eq(row), reading.eq(row != self.rows), best.eq(level[0]),
                     best_valid.eq(reading)]
        with m.If(row != self.rows):
            m.d.sync += row.eq(row + 1)
        with m.If(best_valid):
            m.d.sync += total.eq(better(total, best))
        with m.If(changed):
            m.d.sync += [dirty.eq(1), row.eq(self.rows), reading.eq(0), best_valid.eq(0)]
        with m.Elif(dirty & ~hold):
            m.d.sync += [dirty.eq(0), row.eq(0), reading.eq(0), best_valid.eq(0), total.eq(0),
                         since.eq(self.clock)]
        return m
