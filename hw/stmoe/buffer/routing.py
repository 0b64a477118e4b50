"""States of the expert manager that verify a layer and settle promises."""

from amaranth.lib import wiring

from ..interfaces import Event
from .decision import Decision, SlotState
from .slot_list import ListOp

__all__ = ["add_routing"]


def add_routing(d: Decision, ports: wiring.Component) -> None:
    """From LOOKUP of the first expert, or PROMISE, back to IDLE."""
    m = d.m
    # Routed experts.
    with m.State("ASK"):
        m.d.comb += d.resident.ask.eq(1)
        with m.If(ports.routed.valid):
            m.next = "LOOKUP"
    with m.State("LOOKUP"):
        m.d.comb += d.mapped.eq(1)
        m.next = "CLASSIFY"
    m.d.comb += ports.promote.slot.eq(d.resident.kept_slot)
    with m.State("CLASSIFY"):
        m.d.comb += d.subject.eq(d.resident.kept_slot)
        with m.If(d.list_ready):
            m.d.comb += [ports.routed.ready.eq(1), d.shared.eq(d.routed.shared),
                         d.worth.used.eq(~d.settle_all), d.retention.used.valid.eq(1),
                         d.retention.used.expert.eq(d.routed.expert)]
            if d.config.dense_blobs:  # which nobody predicts
                with m.If(d.routed.dense):
                    m.d.comb += [d.worth.used.eq(0), d.retention.used.valid.eq(0)]
            m.d.sync += [d.rank.eq(d.rank + 1), d.gates[d.rank].eq(d.routed.gate),
                         d.experts[d.rank].eq(d.routed.expert)]
            pin = {"pinned": 1, "promised": 0, "rank": d.rank}
            with m.If(~d.resident.kept_found):
                d.log(Event.MISS, d.routed)
                m.d.sync += [d.missed.bit_select(d.rank, 1).eq(1), d.demanding.eq(d.demanding + 1)]
            with m.Else():
                with m.If(d.found.state == SlotState.FILLING):
                    d.log(Event.HIT_LATE, d.routed, d.resident.kept_slot)
                    m.d.comb += ports.promote.valid.eq(1)
                    m.d.sync += d.late.eq(d.late + 1)
                with m.Elif(d.found.promised):
                    d.log(Event.HIT_PREFETCHED, d.routed, d.resident.kept_slot)
                with m.Else():
                    d.log(Event.HIT_RESIDENT, d.routed, d.resident.kept_slot)
                    d.list_op(ListOp.REMOVE)
                d.update_record(**pin)
                m.d.comb += [
                    d.push.slot.eq(d.resident.kept_slot), d.push.gate.eq(d.routed.gate),
                    d.queue.w_en.eq((d.found.state == SlotState.READY) | d.found.first)]
            m.next = "ASK"
            with m.If(d.routed.last):
                m.next = "PROMISE"
                if d.config.dense_blobs:
                    with m.If(d.routed.dense):
                        m.next = "IDLE"

    m.d.comb += ports.cancel.slot.eq(d.unused)

    # What had been promised for layers up to this one and was not used.
    with m.State("PROMISE"):
        m.d.comb += [d.promise.addr.eq(d.index), d.worth.forget.eq(1)]
        m.d.sync += d.landing.eq(0)
        with m.If(d.landing):
            d.log(Event.LANDED, d.tag, d.unused, d.landed)
        m.next = "PROMISE-LOOKUP"
        with m.If(d.index == d.promises):
            m.d.sync += d.promises.eq(d.kept)
            m.next = "IDLE"
            with m.If(d.visit_due & ~d.missed.any()):
                d.visit()
    with m.State("PROMISE-LOOKUP"):
        m.d.comb += d.record.eq(d.promise.data)
        m.d.sync += [d.unused.eq(d.promise.data), d.index.eq(d.index + 1)]
        m.next = "PROMISE-SETTLE"
    with m.State("PROMISE-SETTLE"):
        m.d.comb += d.subject.eq(d.unused)
        m.d.sync += [d.tag.layer.eq(d.found.layer), d.tag.expert.eq(d.found.expert)]
        with m.If(d.list_ready):
            m.next = "PROMISE"
            with m.If(d.found.promised & (d.found.layer > d.layer) & ~d.settle_all):
                d.keep_promise(d.kept, d.unused)
                m.d.sync += d.kept.eq(d.kept + 1)
            with m.Elif(d.found.promised & (d.found.state == SlotState.FILLING)):
                d.free()
                m.d.sync += ports.cancel.valid.eq(1)
                m.next = "PROMISE-CANCEL"
            with m.Elif(d.found.promised):
                d.log(Event.DROP, d.found, d.unused)
                with m.If(ports.retain):
                    d.update_record(promised=0)
                    d.list_op(ListOp.PUSH_FRONT)
                with m.Else():
                    d.free()
    with m.State("PROMISE-CANCEL"):
        m.d.sync += ports.cancel.valid.eq(0)
        m.next = "PROMISE-CANCELLED"
    with m.State("PROMISE-CANCELLED"):
        d.log(Event.CANCEL, d.tag, d.unused, ports.cancel_beats)
        m.d.sync += [d.landed.eq(ports.cancel_landed), d.landing.eq(1)]
        m.next = "PROMISE"
