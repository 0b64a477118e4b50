"""Names the rows of a layer, from the routing of recent layers and tokens."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from .linear_shape import LinearShape

__all__ = ["RowWalk"]


class RowWalk(wiring.Component):
    """Addresses of all rows in the score of a layer, one a cycle.

    Order: bias, lexical, then by feature and rank; of the features of the present token only those
    whose layer is among the first ``seen``. A walk of n rows has its first address two cycles after
    ``start`` and a further one in each cycle. The same walk while neither ``advance`` nor ``store``
    of a layer that it refers to comes between: learning walks as scoring did. No back-pressure.
    Reset: before the first token. Range: a token's layers in rising order.

    Parameters
    ----------
    shape: LinearShape

    Members
    -------
    advance, first: pulse, a token begins; ``first`` forgets those before. Not while ``active``.
    store, store_layer, store_past: pulse, routing of a layer of the present token; readable by a
        walk that starts in the next cycle.
    start, layer, seen, with_lexical: pulse, begins a walk. Not while ``active``.
    stop: pulse, there are no further addresses from the next cycle on.
    valid, address, lexical: a row, by address or the lexical one of ``walked``.
    walked: layer of the walk, until the next.
    active: addresses are still to come, including the present one.
    """

    def __init__(self, shape: LinearShape):
        self.shape = shape
        layer_bits = shape.geometry.layer_bits
        super().__init__({
            "advance": In(1), "first": In(1),
            "store": In(1), "store_layer": In(layer_bits), "store_past": In(shape.past),
            "start": In(1), "layer": In(layer_bits), "seen": In(9), "with_lexical": In(1),
            "stop": In(1),
            "valid": Out(1), "address": Out(shape.address_bits), "lexical": Out(1),
            "walked": Out(layer_bits), "active": Out(1)})

    def elaborate(self, platform):
        m = Module()
        shape = self.shape
        features = shape.options.features
        slot_bits = max(1, shape.token_lag.bit_length())
        layer_bits = shape.geometry.layer_bits

        m.submodules.history = history = Memory(
            shape=shape.past, depth=1 << layer_bits + slot_bits, init=[])
        read, write = history.read_port(), history.write_port()
        slot, position = Signal(slot_bits), Signal(range(max(2, shape.token_lag + 1)))
        with m.If(self.advance):
            m.d.sync += [slot.eq(slot + 1), position.eq(Mux(
                self.first, 0, Mux(position == shape.token_lag, position, position + 1)))]
        m.d.comb += [write.en.eq(self.store), write.addr.eq(Cat(self.store_layer, slot)),
                     write.data.eq(self.store_past)]

        due, left = Signal(max(1, len(features))), Signal(max(1, len(features)))
        base, offset = Signal(shape.address_bits), Signal(shape.address_bits)
        lexical, some = Signal(), Signal()
        rank = Signal(range(max(2, shape.top_k)))
        for f, (token, back) in enumerate(features):
            if back < shape.layers:
                recent = position >= token if token else self.layer < self.seen + back
                m.d.comb += due[f].eq(recent & (self.layer >= back) if back else recent)
        fetch = Signal()
        m.d.comb += read.en.eq(fetch & left.any())
        for f, (token, back) in reversed(list(enumerate(features))):
            with m.If(left[f]):
                m.d.comb += read.addr.eq(Cat((self.walked - back)[:layer_bits],
                                             (slot - token)[:slot_bits]))
                with m.If(fetch):
                    m.d.sync += [left.eq(left & (left - 1)),
                                 offset.eq(base + 1 + f * shape.experts)]

        def stoppable():
            with m.If(self.stop):
                m.next = "IDLE"

        m.d.sync += [self.valid.eq(0), self.lexical.eq(0)]
        with m.FSM() as fsm:
            m.d.comb += self.active.eq(~fsm.ongoing("IDLE") | self.valid)
            with m.State("IDLE"), m.If(self.start):
                m.d.sync += [self.walked.eq(self.layer), lexical.eq(self.with_lexical),
                             base.eq(self.layer * shape.stride), left.eq(due)]
                m.next = "BIAS"
            with m.State("BIAS"):
                m.d.comb += fetch.eq(1)
                m.d.sync += [self.valid.eq(1), self.address.eq(base), rank.eq(0)]
                m.d.sync += some.eq(left.any())
                with m.If(lexical):
                    m.next = "LEXICAL"
                with m.Elif(left.any()):
                    m.next = "FEATURES"
                with m.Else():
                    m.next = "IDLE"
                stoppable()
            with m.State("LEXICAL"):
                m.d.sync += [self.valid.eq(1), self.lexical.eq(1)]
                m.next = "IDLE"
                with m.If(some):
                    m.next = "FEATURES"
                stoppable()
            with m.State("FEATURES"):
                m.d.sync += [self.valid.eq(1), rank.eq(rank + 1),
                             self.address.eq(offset + read.data.ids[rank])]
                with m.If(rank + 1 >= read.data.count):
                    m.d.comb += fetch.eq(1)
                    m.d.sync += rank.eq(0)
                    with m.If(~left.any()):
                        m.next = "IDLE"
                stoppable()
        with m.If(self.stop):
            m.d.sync += self.valid.eq(0)
        return m
