"""States of the expert manager that take reports of the DMA and of the PEs."""

from amaranth.lib import wiring

from ..interfaces import Event, Status
from .decision import Decision, SlotState
from .slot_list import ListOp

__all__ = ["add_reporting"]


def add_reporting(d: Decision, ports: wiring.Component) -> None:
    """From STATUS of ``report``, or RELEASE, back to IDLE."""
    m = d.m
    # Reports of the DMA.
    with m.State("STATUS"):
        m.d.comb += d.subject.eq(d.report.slot)
        with m.If(d.list_ready):
            m.next = "IDLE"
            with m.If(d.report.kind == Status.FIRST):
                d.log(Event.FIRST, d.found, d.report.slot)
                d.update_record(first=1)
            with m.Elif(d.report.kind == Status.DONE):
                d.log(Event.READY, d.found, d.report.slot)
                d.update_record(state=SlotState.READY)
            with m.Else():
                d.log(Event.FAIL, d.found, d.report.slot, d.found.pinned)
                with m.If(d.found.pinned):
                    d.update_record(state=SlotState.READY, bad=1)
                    with m.If(~ports.layer_failed):
                        m.d.sync += [ports.layer_failed.eq(1),
                                     ports.failed_layer.eq(d.found.layer),
                                     ports.failed_expert.eq(d.found.expert),
                                     ports.failed_tile.eq(d.report.tile),
                                     ports.failed_corrupt.eq(d.report.corrupt)]
                with m.Else():
                    d.free()
            with m.If(d.found.pinned):
                with m.If(~d.found.first):
                    d.hand_out(d.report.slot, d.found.rank)
                with m.If(d.report.kind != Status.FIRST):
                    m.d.sync += [d.demanding.eq(d.demanding - d.found.demanded),
                                 d.late.eq(d.late - ~d.found.demanded)]

    # Slots that the PEs have read to the end.
    with m.State("RELEASE"):
        done = ports.release.payload.slot
        m.d.comb += d.subject.eq(done)
        with m.If(d.found.state == SlotState.FILLING):  # its report is on the way
            m.next = "IDLE"
        with m.Elif(d.list_ready):
            m.d.comb += ports.release.ready.eq(1)
            d.log(Event.RELEASE, d.found, done)
            keeps = ports.retain & ~d.found.bad
            if d.config.dense_blobs:
                keeps = keeps & ~d.dense(d.found)
            with m.If(keeps):
                d.update_record(pinned=0, first=0, demanded=0)
                d.list_op(ListOp.PUSH_BACK)
            with m.Else():
                d.free()
            m.next = "IDLE"
