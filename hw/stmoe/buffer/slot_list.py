"""Order of the evictable slots: a doubly linked list in RAM."""

from enum import IntEnum

from amaranth.hdl import Module, Mux, Signal, unsigned
from amaranth.lib import data, memory, stream, wiring
from amaranth.lib.wiring import In, Out

__all__ = ["ListOp", "SlotList"]


class ListOp(IntEnum):
    """What is done to a slot."""

    PUSH_FRONT = 0
    PUSH_BACK = 1
    REMOVE = 2
    MOVE_BACK = 3


class SlotList(wiring.Component):
    """A list of distinct slots. Pushes take one cycle, removal two, moving to the back three.

    Reset: empty.

    Parameters
    ----------
    slots: slot numbers 0 .. slots - 1.

    Members
    -------
    op: operation and slot; REMOVE and MOVE_BACK of a slot in the list, pushes of one that is not.
    front, front_valid: first slot; count: slots in the list. They stand while ``op.ready``.
    clear: empties the list; not together with ``op``, and only while that is ready.
    """

    def __init__(self, slots: int):
        self.slots = slots
        self.bits = max(1, (slots - 1).bit_length())
        super().__init__({
            "op": In(stream.Signature(data.StructLayout({"kind": 2, "slot": self.bits}))),
            "front": Out(self.bits), "front_valid": Out(1), "count": Out(range(slots + 1)),
            "clear": In(1)})

    def elaborate(self, platform):
        m = Module()
        links = {}
        for name in ("after", "before"):
            m.submodules[name] = ram = memory.Memory(
                shape=unsigned(self.bits), depth=self.slots, init=[])
            links[name] = ram.read_port(), ram.write_port()
        (after, write_after), (before, write_before) = links["after"], links["before"]
        tail = Signal(self.bits)
        count = self.count
        slot, moving = Signal(self.bits), Signal()
        longer, shorter = Signal(), Signal()
        m.d.comb += [
            self.front_valid.eq(count != 0),
            after.addr.eq(self.op.payload.slot), before.addr.eq(self.op.payload.slot),
            after.en.eq(self.op.ready), before.en.eq(self.op.ready)]
        m.d.sync += [slot.eq(Mux(self.op.ready, self.op.payload.slot, slot)),
                     moving.eq(Mux(self.op.ready, self.op.payload.kind == ListOp.MOVE_BACK,
                                   moving))]

        def push_front(new):
            m.d.comb += [write_after.en.eq(1), write_after.addr.eq(new),
                         write_after.data.eq(self.front), write_before.en.eq(1),
                         write_before.addr.eq(self.front), write_before.data.eq(new)]
            m.d.comb += longer.eq(1)
            m.d.sync += self.front.eq(new)
            with m.If(count == 0):
                m.d.sync += tail.eq(new)

        def push_back(new):
            m.d.comb += [write_before.en.eq(1), write_before.addr.eq(new),
                         write_before.data.eq(tail), write_after.en.eq(1),
                         write_after.addr.eq(tail), write_after.data.eq(new)]
            m.d.comb += longer.eq(1)
            m.d.sync += tail.eq(new)
            with m.If(count == 0):
                m.d.sync += self.front.eq(new)

        with m.If(self.clear):
            m.d.sync += count.eq(0)
        with m.Elif(longer | shorter):
            m.d.sync += count.eq(Mux(shorter, count - 1, count + 1))
        with m.FSM():
            with m.State("IDLE"):
                m.d.comb += self.op.ready.eq(1)
                with m.If(self.op.valid):
                    with m.Switch(self.op.payload.kind):
                        with m.Case(ListOp.PUSH_FRONT):
                            push_front(self.op.payload.slot)
                        with m.Case(ListOp.PUSH_BACK):
                            push_back(self.op.payload.slot)
                        with m.Default():
                            m.next = "UNLINK"
            with m.State("UNLINK"):  # the first has nothing before it, the last nothing after it
                m.d.comb += [
                    write_after.addr.eq(before.data), write_after.data.eq(after.data),
                    write_after.en.eq(slot != self.front),
                    write_before.addr.eq(after.data), write_before.data.eq(before.data),
                    write_before.en.eq(slot != tail)]
                with m.If(slot == self.front):
                    m.d.sync += self.front.eq(after.data)
                with m.If(slot == tail):
                    m.d.sync += tail.eq(before.data)
                m.d.comb += shorter.eq(1)
                m.next = "IDLE"
                with m.If(moving):
                    m.next = "APPEND"
            with m.State("APPEND"):
                push_back(slot)
                m.next = "IDLE"
        return m
