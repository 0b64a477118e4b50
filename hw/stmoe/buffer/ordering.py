"""States of the expert manager that give slots to demands and candidates."""

from amaranth.hdl import Mux
from amaranth.lib import wiring

from ..config import Geometry
from ..interfaces import Event
from .decision import Decision, SlotState
from .slot_list import ListOp

__all__ = ["add_ordering"]

DENSE_SLOTS = 2


def add_ordering(d: Decision, ports: wiring.Component, g: Geometry) -> None:
    """From DEMAND-EVICT, or CANDIDATE-LOOKUP, of ``tag`` back to IDLE."""
    m = d.m
    for order in (ports.demand.payload, ports.prefetch.payload):
        m.d.comb += [order.slot.eq(d.slot), order.layer.eq(d.tag.layer),
                     order.expert.eq(d.tag.expert)]
    if g.config.dense_blobs:
        m.d.comb += ports.demand.payload.matrix.eq(d.matrix)
    active, round_size = g.config.model.active, g.config.prefetch_round
    stop = (~d.order.front_valid | (d.promises == round_size)
            | Mux(ports.retention, d.keep, d.wanted_valid & (d.wanted == d.slot))
            | (d.tag_deep & (d.order.count <= active)))
    if g.config.dense_blobs:  # which settle no promise, and need slots
        stop = stop | (d.promises + DENSE_SLOTS >= ports.shape.slots)
    # A slot for an expert that was missed.
    with m.State("DEMAND-EVICT"):
        m.d.comb += d.subject.eq(d.slot)
        with m.If(d.found.state != SlotState.FREE):
            d.log(Event.EVICT, d.found, d.slot)
            d.set_resident(d.found, 0)
        m.d.sync += ports.demand.valid.eq(1)  # in the next state
        m.next = "DEMAND-ORDER"
    with m.State("DEMAND-ORDER"):
        m.d.comb += d.subject.eq(d.slot)
        with m.If(ports.demand.ready):
            m.d.sync += ports.demand.valid.eq(0)
            d.log(Event.DEMAND, d.tag, d.slot)
            d.set_resident(d.tag)
            d.list_op(ListOp.REMOVE)
            d.write_record(state=SlotState.FILLING, pinned=1, demanded=1, rank=d.next_missed,
                           layer=d.tag.layer, expert=d.tag.expert)
            m.d.sync += d.missed.bit_select(d.next_missed, 1).eq(0)
            with m.If(d.visit_due):
                d.visit()
            with m.Else():
                m.d.comb += [d.retention.refresh.valid.eq(1),
                             d.retention.refresh.expert.eq(d.tag.expert)]
                if g.config.dense_blobs:
                    with m.If(d.dense(d.tag)):
                        m.d.comb += d.retention.refresh.valid.eq(0)
            m.next = "IDLE"

    # A candidate.
    with m.State("CANDIDATE-LOOKUP"):
        m.d.comb += [d.mapped.eq(1), d.record.eq(d.slot)]
        m.next = "CANDIDATE-DECIDE"
    with m.State("CANDIDATE-DECIDE"):
        m.d.comb += [d.record.eq(d.slot), d.subject.eq(d.resident.kept_slot)]
        m.next = "IDLE"
        with m.If(d.resident.kept_found):
            d.decided()
            d.log(Event.TOUCH, d.tag, d.resident.kept_slot)
            with m.If(d.evictable):
                d.list_op(ListOp.MOVE_BACK)
                d.predicted()
                with m.If(~d.wanted_valid):
                    m.d.sync += [d.wanted.eq(d.resident.kept_slot), d.wanted_valid.eq(1)]
        with m.Elif(ports.worth & ~d.pays & ~d.swept if d.many else ports.worth & ~d.pays):
            d.decided()
            d.log(Event.SKIP, d.tag)
        with m.Elif(stop):
            d.decided(judged=False)
            d.log(Event.STOP, d.tag)
            m.d.sync += d.stopped.eq(1)
        with m.Else():
            with m.If(d.found.state != SlotState.FREE):
                d.log(Event.EVICT, d.found, d.slot)
                d.set_resident(d.found, 0)
            m.d.sync += ports.prefetch.valid.eq(1)
            m.next = "CANDIDATE-ORDER"
    with m.State("CANDIDATE-ORDER"):
        m.d.comb += d.subject.eq(d.slot)
        with m.If(ports.prefetch.ready):
            m.d.sync += ports.prefetch.valid.eq(0)
            d.decided()
            d.keep_promise(d.promises, d.slot)
            d.log(Event.PREFETCH, d.tag, d.slot)
            d.set_resident(d.tag)
            d.list_op(ListOp.REMOVE)
            d.predicted()
            d.write_record(state=SlotState.FILLING, promised=1, layer=d.tag.layer,
                           expert=d.tag.expert)
            m.d.sync += d.promises.eq(d.promises + 1)
            m.next = "IDLE"
