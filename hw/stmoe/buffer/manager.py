"""Expert manager: verifies predictions, allocates slots, orders transfers, hands out work."""

from amaranth.hdl import Cat, Module, Mux, Signal, unsigned
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from .. import interfaces
from ..config import Geometry
from ..interfaces import Event
from .counters import COUNTERS, ManagerCounters, increments
from .decision import Decision
from .ordering import add_ordering
from .reporting import add_reporting
from .routing import add_routing
from .slack import SLACK_BITS
from .slot_list import ListOp
from .worth import BUCKETS

__all__ = ["ExpertManager"]

class ExpertManager(wiring.Component):
    """Takes one decision at a time, each with an event (docs/architecture.md, "Expert manager").

    An expert is looked up and classified every third cycle, a READY one is in ``work`` in the next.
    Victims come from the front of a list that is kept in order as slots are released, or, with
    ``retention``, from :class:`Retention`, which looks for the next one ahead of time. A layer's
    first order goes out first, then due times and the next victim are worked out beside its
    transfer. Back-pressure: ``demand`` and ``prefetch`` wait for the DMA; ``candidates`` wait while
    anything else is to be decided or the layer's experts have all slots, deep ones for the link;
    ``status`` and ``release`` are taken between two decisions. Reset: every slot is freed, as by
    ``flush``.

    Parameters
    ----------
    geometry: Geometry

    Members
    -------
    token: a token begins; its round is about layer 0. Before its ``routed`` and ``candidates``.
    routed: experts of a layer; its round is about the next, after the last about layer 0 of the
        token to come. With ``stream`` all experts of that layer, shared ones first, then by number,
        each worth it, are taken for the candidates, and those that come are not.
    candidates: predicted experts, one closed round per token and per layer routed. Those of a layer
        beyond the one that the round is about, and all of the token to come, are deep: they follow
        the others and wait for ``link_idle``.
    demand, prefetch: orders to the DMA. promote, cancel: on a slot in flight; ``cancel`` is
        confirmed in the next cycle by ``cancel_ack`` with ``cancel_beats`` read and
        ``cancel_landed`` of them written. status: reports of the DMA.
    work: experts that are READY, or whose first tile has landed. release: slots read to the end.
    flush, flushing: pulse while ``idle``, frees every slot; it is over when ``flushing`` falls.
    link_idle, link_demanded: the DMA has nothing in hand, or a demand. link_beat: a beat has come.
    retain, retention, prefetch_enable, shape: settings; ``prefetch_enable`` may change at any time,
        ``retention`` (0 least recently used, 1 expected to be used last) with a flush.
    worth, worth_floor, counted: only candidates that pay are ordered, see :class:`CandidateWorth`.
    rows_slack: with ``worth``, rows by token identity of a token that begins now are not to be
        moved, ``rows_withheld``, unless the average slack is as much.
    event: valid and payload, one decision. inc_NAME: increments, see :func:`increments`.
    waiting_demand, waiting_late: an expert of this layer loaded on demand, or prefetched too late,
        has not landed whole.
    waiting_victim: the link is idle because a demand waits for the search of a slot.
    idle: nothing in work or waiting.
    layer_failed: an expert of this layer could not be read; stands until the next layer.
    failed_layer, failed_expert: the first such; failed_tile, failed_corrupt: what the DMA says.
    """

    def __init__(self, geometry: Geometry):
        g = self.geometry = geometry
        order = stream.Signature(interfaces.transfer(g))
        on_slot = data.StructLayout({"valid": 1, "slot": g.slot_bits})
        super().__init__({
            "token": In(stream.Signature(1)),  # the payload means nothing
            "routed": In(stream.Signature(interfaces.routed(g))),
            "candidates": In(stream.Signature(interfaces.candidate(g))),
            "demand": Out(order), "prefetch": Out(order),
            "promote": Out(on_slot), "cancel": Out(on_slot), "cancel_ack": In(1),
            "cancel_beats": In(g.beat_bits), "cancel_landed": In(g.landed_bits),
            "status": In(stream.Signature(interfaces.status(g))),
            "work": Out(stream.Signature(interfaces.work(g))),
            "release": In(stream.Signature(data.StructLayout({"slot": unsigned(g.slot_bits)}))),
            "flush": In(1), "flushing": Out(1), "retain": In(1), "prefetch_enable": In(1),
            "link_idle": In(1), "link_beat": In(1), "link_demanded": In(1), "retention": In(1),
            "worth": In(1), "worth_floor": In(8), "counted": In(1),
            "rows_slack": In(SLACK_BITS), "rows_withheld": Out(1),
            "shape": In(interfaces.shape_layout(g)),
            "event": Out(data.StructLayout({"valid": 1, "payload": interfaces.event(g)})),
            "waiting_demand": Out(1), "waiting_late": Out(1),
            "waiting_victim": Out(1), "idle": Out(1),
            "layer_failed": Out(1), "failed_layer": Out(g.layer_bits),
            "failed_expert": Out(g.expert_bits),
            "failed_tile": Out(g.tile_bits), "failed_corrupt": Out(1),
            **{f"inc_{name}": Out(bits) for name, bits in increments(g).items()}})

    def elaborate(self, platform):
        m = Module()
        d = Decision(m, self, self.geometry)
        with m.FSM(init="FLUSH") as fsm:
            with m.State("IDLE"):
                self._choose(m, d)
            add_routing(d, self)
            add_ordering(d, self, self.geometry)
            add_reporting(d, self)
            with m.State("FLUSH"):
                self._flush(m, d)
        waiting = Cat(self.status.valid, self.release.valid, self.token.valid, self.routed.valid,
                      d.missed, self.candidates.valid, d.retention.busy,
                      *((d.sweeping,) if d.many else ()))
        m.submodules.counters = counters = ManagerCounters(self.geometry)
        m.d.comb += [
            self.work.payload.eq(d.queue.r_data), self.work.valid.eq(d.queue.r_rdy),
            d.queue.r_en.eq(self.work.ready),
            self.rows_withheld.eq(self.worth & d.worth.scarce),
            self.waiting_demand.eq(d.demanding != 0), self.waiting_late.eq(d.late != 0),
            self.waiting_victim.eq(fsm.ongoing("IDLE") & d.missed.any() & d.order.front_valid
                                   & self.link_idle & ~d.chosen),
            self.idle.eq(fsm.ongoing("IDLE") & ~waiting.any()),
            counters.made.eq(d.made_of), counters.arg.eq(d.made.arg), counters.shared.eq(d.shared),
            counters.expert.eq(d.made.expert), counters.blob_beats.eq(self.shape.blob_beats),
            *([counters.demand_beats.eq(
                Mux(d.matrix, self.shape.matrix_beats, self.shape.blob_beats))]
              if self.geometry.config.dense_blobs else []),
            *(getattr(self, f"inc_{name}").eq(getattr(counters, f"inc_{name}"))
              for name in COUNTERS)]
        m.d.sync += [self.event.valid.eq(d.made_of.any()), self.event.payload.eq(d.made)]
        return m

    def _choose(self, m, d):
        """The next decision, in order of priority."""
        m.d.comb += [
            d.resident.ask.eq(1),
            # Whatever is decided: a record is looked at only where it was asked for.
            d.record.eq(Mux(self.status.valid, self.status.payload.slot, Mux(
                self.release.valid, self.release.payload.slot, d.slot)))]
        with m.If(self.flush):
            m.d.comb += d.order.clear.eq(1)
            m.next = "FLUSH"
        with m.Elif(self.status.valid):
            m.d.comb += self.status.ready.eq(1)
            m.d.sync += d.report.eq(self.status.payload)
            m.next = "STATUS"
        with m.Elif(self.release.valid):
            m.next = "RELEASE"
        with m.Elif(d.retention.busy):
            pass
        with m.Elif(self.token.valid):
            m.d.comb += [self.token.ready.eq(1), d.worth.forget.eq(1)]
            d.log(Event.TOKEN, arg=self.rows_withheld)
            d.begin_round(0)
            if self.geometry.token_bits:
                m.d.sync += d.streaming.eq(0)
            with m.If(d.about != 0):  # promises for layer 0 and behind it stay
                m.d.sync += d.settle_all.eq(1)
                m.next = "PROMISE"
        if self.geometry.config.dense_blobs:
            with m.Elif(self.routed.valid & d.routed.dense):
                d.log(Event.DENSE, arg=d.routed.count)
                m.d.comb += d.made.layer.eq(d.routed.layer)
                m.d.sync += [d.layer.eq(d.routed.layer), d.rank.eq(0), self.layer_failed.eq(0),
                             d.matrix.eq(d.routed.matrix)]
                m.next = "LOOKUP"
        with m.Elif(self.routed.valid):
            m.d.comb += d.made.layer.eq(d.routed.layer)
            d.log(Event.ROUTE, arg=Cat(d.routed.count, d.slack.slack))
            after_last = d.routed.layer + 1 == self.shape.layers
            d.begin_round(Mux(after_last, 0, d.routed.layer + 1), after_last)
            m.d.comb += [d.retention.route.eq(1), d.slack.take.eq(1), d.worth.measured.eq(1)]
            m.d.sync += [d.layer.eq(d.routed.layer), d.rank.eq(0), d.visit_due.eq(1),
                         d.settle_all.eq(d.routed.layer != d.about),
                         self.layer_failed.eq(0)]
            if self.geometry.token_bits:
                m.d.sync += [d.streaming.eq(d.routed.stream), d.sweep.eq(0)]
            if self.geometry.config.dense_blobs:
                m.d.sync += d.matrix.eq(0)
            m.next = "LOOKUP"
        with m.Elif(d.missed.any()):
            m.d.sync += [d.tag.layer.eq(d.layer), d.tag.expert.eq(d.experts[d.next_missed])]
            with m.If(d.chosen & self.demand.ready):
                m.next = "DEMAND-EVICT"
        # Else an expert of the layer is in a slot, which may go once it has been computed.
        all_promised = ~d.order.front_valid & (d.promises >= self.shape.slots)
        able = self.prefetch.ready & d.list_ready & (d.chosen | all_promised)
        with m.Elif(self.candidates.valid):
            m.d.sync += [d.tag.layer.eq(d.candidate.layer),
                         d.tag.expert.eq(d.candidate.expert), d.tag_deep.eq(d.deep)]
            with m.If(d.candidate.end):
                m.d.comb += self.candidates.ready.eq(1)
                m.d.sync += d.rounds.eq(d.rounds - 1)
            with m.Elif(d.stale):
                m.d.comb += self.candidates.ready.eq(1)
            with m.Elif(able & (self.link_idle | ~d.deep)):
                if d.many:
                    m.d.sync += d.swept.eq(0)
                m.next = "CANDIDATE-LOOKUP"
        if d.many:
            with m.Elif(d.sweeping):
                m.d.sync += [d.tag.layer.eq(d.about), d.tag.expert.eq(d.next_swept),
                             d.tag_deep.eq(d.guessing)]
                with m.If(able & (self.link_idle | ~d.guessing)):
                    m.d.sync += d.swept.eq(1)
                    m.next = "CANDIDATE-LOOKUP"

    def _flush(self, m, d):
        """Slots and residency map, one after the other."""
        resident, banks = d.resident, self.geometry.banks
        steps = max(resident.depth, banks, BUCKETS)
        position = Signal(range(steps))
        m.d.comb += [
            self.flushing.eq(1), resident.to.as_value().eq(0), resident.write.eq(1),
            Cat(resident.to.expert, resident.to.layer).eq(position)]
        m.d.comb += [
            d.subject.eq(position), d.retention.clear.eq(1), d.retention.position.eq(position),
            d.worth.clear.eq(1), d.worth.position.eq(position), d.worth.forget.eq(1)]
        with m.If(position < banks):
            d.write_record()
            d.set_state()
        with m.If(position < self.shape.slots):
            d.list_op(ListOp.PUSH_BACK, free=1)
        m.d.sync += [position.eq(position + 1), d.promises.eq(0), d.missed.eq(0),
                     d.demanding.eq(0), d.late.eq(0), d.wanted_valid.eq(0), d.about.eq(0),
                     d.visit_due.eq(0), *((d.streaming.eq(0),) if d.many else ())]
        with m.If(position == steps - 1):
            m.d.sync += position.eq(0)
            m.next = "IDLE"
