"""Expert manager: verifies predictions, allocates slots, orders transfers, hands out work."""

from enum import IntEnum

from amaranth.hdl import Cat, Module, Mux, Signal, unsigned
from amaranth.lib import data, fifo, memory, stream, wiring
from amaranth.lib.wiring import In, Out

from .. import interfaces
from ..config import Geometry
from ..interfaces import Event, Status
from .counters import COUNTERS, ManagerCounters
from .residency import ResidencyMap
from .retention import Retention
from .slot_list import ListOp, SlotList

__all__ = ["ExpertManager"]

class SlotState(IntEnum):
    """What a slot holds."""

    FREE = 0
    FILLING = 1
    READY = 2


class ExpertManager(wiring.Component):
    """Takes one decision at a time, each with an event (docs/architecture.md, "Expert manager").

    An expert is looked up and classified every third cycle, a READY one is in ``work`` in the next.
    Victims come from the front of a list that is kept in order as slots are released, or, with
    ``retention``, from :class:`Retention`, which looks for the next one ahead of time. A layer's
    first order goes out first, then due times and the next victim are worked out beside its
    transfer. Back-pressure: ``demand`` and ``prefetch`` wait for the DMA; ``candidates`` wait while
    anything else is to be decided, deep ones also for the link;
    ``status`` and ``release`` are taken between two decisions. Reset: every slot is freed, as by
    ``flush``.

    Parameters
    ----------
    geometry: Geometry

    Members
    -------
    token: a token begins; its round is about layer 0. Before its ``routed`` and ``candidates``.
    routed: experts of a layer; its round is about the next. candidates: predicted experts, one
        closed round per token and per layer routed. Those of a layer beyond the one that the round
        is about are deep: they follow the others and wait for ``link_idle``.
    demand, prefetch: orders to the DMA. promote, cancel: on a slot in flight; ``cancel`` is
        confirmed at once by ``cancel_ack`` with ``cancel_beats`` read and ``cancel_landed`` of them
        written. status: reports of the DMA.
    work: experts that are READY, or whose first tile has landed. release: slots read to the end.
    flush, flushing: pulse while ``idle``, frees every slot; it is over when ``flushing`` falls.
    link_idle: the DMA has nothing in hand.
    retain, retention, prefetch_enable, shape: settings; ``prefetch_enable`` may change at any time,
        ``retention`` (0 least recently used, 1 expected to be used last) with a flush.
    event: valid and payload, one decision. inc_NAME: increments, see :data:`COUNTERS`.
    waiting_demand, waiting_late: an expert of this layer loaded on demand, or prefetched too late,
        has not landed whole.
    waiting_victim: the link is idle because a demand waits for the search of a slot.
    idle: nothing in work or waiting.
    layer_failed: an expert of this layer could not be read; stands until the next layer.
    failed_layer, failed_expert: the first such.
    """

    def __init__(self, geometry: Geometry):
        g = self.geometry = geometry
        order = stream.Signature(interfaces.transfer(g))
        on_slot = data.StructLayout({"valid": 1, "slot": g.slot_bits})
        self.record = data.StructLayout({
            "state": 2, "pinned": 1, "promised": 1, "first": 1, "bad": 1, "demanded": 1,
            "rank": range(g.config.model.active + 1), **interfaces.expert_tag(g)})
        super().__init__({
            "token": In(stream.Signature(1)),  # the payload means nothing
            "routed": In(stream.Signature(interfaces.routed(g))),
            "candidates": In(stream.Signature(interfaces.candidate(g))),
            "demand": Out(order), "prefetch": Out(order),
            "promote": Out(on_slot), "cancel": Out(on_slot), "cancel_ack": In(1),
            "cancel_beats": In(24), "cancel_landed": In(24),
            "status": In(stream.Signature(interfaces.status(g))),
            "work": Out(stream.Signature(interfaces.work(g))),
            "release": In(stream.Signature(data.StructLayout({"slot": unsigned(g.slot_bits)}))),
            "flush": In(1), "flushing": Out(1), "retain": In(1), "prefetch_enable": In(1),
            "link_idle": In(1), "retention": In(1),
            "shape": In(interfaces.shape_layout(g)),
            "event": Out(data.StructLayout({"valid": 1, "payload": interfaces.event(g)})),
            "waiting_demand": Out(1), "waiting_late": Out(1),
            "waiting_victim": Out(1), "idle": Out(1),
            "layer_failed": Out(1), "failed_layer": Out(g.layer_bits),
            "failed_expert": Out(g.expert_bits),
            **{f"inc_{name}": Out(bits) for name, bits in COUNTERS.items()}})

    def elaborate(self, platform):
        m = Module()
        g, shape = self.geometry, self.shape
        active, round_size = g.config.model.active, g.config.prefetch_round
        m.submodules.map = resident = ResidencyMap(g)
        m.submodules.list = order = SlotList(g.banks)
        m.submodules.retention = retention = Retention(g)
        m.submodules.work = queue = fifo.SyncFIFOBuffered(
            width=interfaces.work(g).size, depth=max(4, active))
        m.submodules.records = records = memory.Memory(
            shape=self.record, depth=g.banks, init=[])
        m.submodules.promised = promised = memory.Memory(
            shape=unsigned(g.slot_bits), depth=max(2, round_size), init=[])
        record, record_write = records.read_port(), records.write_port()
        promise, promise_write = promised.read_port(), promised.write_port()
        found = record.data
        m.d.comb += [self.work.payload.eq(queue.r_data), self.work.valid.eq(queue.r_rdy),
                     queue.r_en.eq(self.work.ready)]

        # The layer in work: what was routed, and which of it is still to be ordered.
        gates = Signal(data.ArrayLayout(16, active))
        experts = Signal(data.ArrayLayout(g.expert_bits, active))
        layer, rank = Signal(g.layer_bits), Signal(range(active + 1))
        missed = Signal(active)
        demanding, late = Signal(range(active + 1)), Signal(range(active + 1))
        m.d.comb += [self.waiting_demand.eq(demanding != 0), self.waiting_late.eq(late != 0)]
        next_missed = Signal(range(max(2, active)))
        for i in reversed(range(active)):
            with m.If(missed[i]):
                m.d.comb += next_missed.eq(i)

        # The round of candidates: only those of the last token or layer routed count.
        rounds, stopped = Signal(4), Signal()
        about = Signal(range(g.config.model.layers + 1))  # the layer that comes next
        promises, index, kept = (Signal(range(round_size + 1), name=name)
                                 for name in ("promises", "index", "kept"))
        settle_all = Signal()
        wanted, wanted_valid = Signal(g.slot_bits), Signal()  # first slot touched in this round
        candidate = self.candidates.payload
        stale = (rounds != 1) | stopped | ~self.prefetch_enable
        deep, tag_deep = Signal(), Signal()
        m.d.comb += deep.eq(candidate.layer != about)

        # One decision: event, and what it changes.
        made = Signal.like(self.event.payload)
        shared = Signal()
        m.d.sync += [self.event.valid.eq(made.kind != Event.NONE), self.event.payload.eq(made)]
        push = Signal(interfaces.work(g))

        def log(kind, tag=None, slot=0, arg=0):
            m.d.comb += [made.kind.eq(kind), made.slot.eq(slot), made.arg.eq(arg)]
            if tag is not None:
                m.d.comb += [made.layer.eq(tag.layer), made.expert.eq(tag.expert)]

        def write_record(slot, **fields):
            m.d.comb += [record_write.en.eq(1), record_write.addr.eq(slot),
                         *(record_write.data[name].eq(value) for name, value in fields.items())]

        def update_record(slot, **fields):
            write_record(slot, **({name: found[name] for name, _ in self.record} | fields))

        def set_resident(tag, slot, value=1):
            m.d.comb += [resident.write.eq(1), resident.to.layer.eq(tag.layer),
                         resident.to.expert.eq(tag.expert), resident.to_slot.eq(slot),
                         resident.resident.eq(value)]

        def list_op(kind, slot, free=0):
            m.d.comb += [order.op.valid.eq(1), order.op.payload.kind.eq(kind),
                         order.op.payload.slot.eq(slot)]
            if kind != ListOp.MOVE_BACK:
                set_state(slot, evictable=kind != ListOp.REMOVE, free=free)

        def set_state(slot, **fields):
            m.d.comb += [retention.state.valid.eq(1), retention.state.slot.eq(slot),
                         *(retention.state[name].eq(value) for name, value in fields.items())]

        def predicted(slot):
            m.d.comb += [retention.predicted.valid.eq(1), retention.predicted.slot.eq(slot)]

        def free(slot):
            write_record(slot)
            set_resident(found, slot, 0)
            list_op(ListOp.PUSH_FRONT, slot, free=1)

        def hand_out(slot, number):
            m.d.comb += [queue.w_en.eq(1), push.slot.eq(slot), push.gate.eq(gates[number])]

        def begin_round(layer):
            m.d.sync += [about.eq(layer), rounds.eq(rounds + 1), stopped.eq(0),
                         wanted_valid.eq(0), index.eq(0), kept.eq(0)]

        def keep_promise(number, slot):
            m.d.comb += [promise_write.en.eq(1), promise_write.addr.eq(number),
                         promise_write.data.eq(slot)]

        m.d.comb += queue.w_data.eq(push)
        list_ready = order.op.ready
        report = Signal(interfaces.status(g))
        unused, landed = Signal(g.slot_bits), Signal(24)
        evictable = Signal()
        m.d.comb += evictable.eq((found.state == SlotState.READY) & ~found.pinned & ~found.promised)
        routed = self.routed.payload
        tag = Signal(data.StructLayout(interfaces.expert_tag(g)))  # of the expert to be ordered
        slot = Signal(g.slot_bits)  # that is given out next, once it is chosen
        chosen, visit_due = Signal(), Signal()
        m.d.comb += [
            slot.eq(Mux(self.retention, retention.victim, order.front)),
            chosen.eq(list_ready & order.front_valid & (retention.ready | ~self.retention)),
            retention.enable.eq(self.retention), retention.layers.eq(shape.layers),
            retention.layer.eq(layer), retention.of_layer.eq(tag.layer), retention.about.eq(about),
            resident.also_ask.eq(retention.ask), resident.also_at.eq(retention.at),
            retention.found.eq(resident.also_found), retention.slot.eq(resident.also_slot)]

        def visit():
            m.d.comb += retention.visit.eq(1)
            m.d.sync += visit_due.eq(0)

        with m.FSM(init="FLUSH") as fsm:
            with m.State("IDLE"):
                m.d.comb += [resident.ask.eq(1), resident.at.layer.eq(routed.layer),
                             resident.at.expert.eq(routed.expert)]
                with m.If(self.flush):
                    m.d.comb += order.clear.eq(1)
                    m.next = "FLUSH"
                with m.Elif(self.status.valid):
                    m.d.comb += [self.status.ready.eq(1),
                                 record.addr.eq(self.status.payload.slot)]
                    m.d.sync += report.eq(self.status.payload)
                    m.next = "STATUS"
                with m.Elif(self.release.valid):
                    m.d.comb += record.addr.eq(self.release.payload.slot)
                    m.next = "RELEASE"
                with m.Elif(retention.busy):
                    pass
                with m.Elif(self.token.valid):
                    m.d.comb += self.token.ready.eq(1)
                    log(Event.TOKEN)
                    begin_round(0)
                    m.d.sync += settle_all.eq(1)
                    m.next = "PROMISE"
                with m.Elif(self.routed.valid):
                    m.d.comb += made.layer.eq(routed.layer)
                    log(Event.ROUTE, arg=routed.count)
                    begin_round(routed.layer + 1)
                    m.d.comb += retention.route.eq(1)
                    m.d.sync += [layer.eq(routed.layer), rank.eq(0), visit_due.eq(1),
                                 settle_all.eq(routed.layer != about), self.layer_failed.eq(0)]
                    m.next = "LOOKUP"
                with m.Elif(missed.any()):
                    m.d.comb += record.addr.eq(slot)
                    m.d.sync += [tag.layer.eq(layer), tag.expert.eq(experts[next_missed])]
                    with m.If(chosen & self.demand.ready):
                        m.next = "DEMAND-EVICT"
                with m.Elif(self.candidates.valid):
                    m.d.comb += [resident.at.layer.eq(candidate.layer),
                                 resident.at.expert.eq(candidate.expert)]
                    m.d.sync += [tag.layer.eq(candidate.layer), tag.expert.eq(candidate.expert),
                                 tag_deep.eq(deep)]
                    with m.If(candidate.end):
                        m.d.comb += self.candidates.ready.eq(1)
                        m.d.sync += rounds.eq(rounds - 1)
                    with m.Elif(stale):
                        m.d.comb += self.candidates.ready.eq(1)
                    with m.Elif(self.prefetch.ready & list_ready & (self.link_idle | ~deep)
                                & (chosen | ~order.front_valid)):
                        m.next = "CANDIDATE-LOOKUP"

            # Routed experts.
            with m.State("ASK"):
                m.d.comb += [resident.ask.eq(1), resident.at.layer.eq(routed.layer),
                             resident.at.expert.eq(routed.expert)]
                with m.If(self.routed.valid):
                    m.next = "LOOKUP"
            with m.State("LOOKUP"):
                m.d.comb += record.addr.eq(resident.slot)
                m.next = "CLASSIFY"
            with m.State("CLASSIFY"):
                m.d.comb += record.addr.eq(resident.slot)
                with m.If(list_ready):
                    m.d.comb += [self.routed.ready.eq(1), shared.eq(routed.shared),
                                 retention.used.valid.eq(1),
                                 retention.used.expert.eq(routed.expert)]
                    m.d.sync += [rank.eq(rank + 1), gates[rank].eq(routed.gate),
                                 experts[rank].eq(routed.expert)]
                    pin = {"pinned": 1, "promised": 0, "rank": rank}
                    with m.If(~resident.found):
                        log(Event.MISS, routed)
                        m.d.sync += [missed.bit_select(rank, 1).eq(1), demanding.eq(demanding + 1)]
                    with m.Else():
                        with m.If(found.state == SlotState.FILLING):
                            log(Event.HIT_LATE, routed, resident.slot)
                            m.d.comb += [self.promote.valid.eq(1),
                                         self.promote.slot.eq(resident.slot)]
                            m.d.sync += late.eq(late + 1)
                        with m.Elif(found.promised):
                            log(Event.HIT_PREFETCHED, routed, resident.slot)
                        with m.Else():
                            log(Event.HIT_RESIDENT, routed, resident.slot)
                            list_op(ListOp.REMOVE, resident.slot)
                        update_record(resident.slot, **pin)
                        m.d.comb += [
                            push.slot.eq(resident.slot), push.gate.eq(routed.gate),
                            queue.w_en.eq((found.state == SlotState.READY) | found.first)]
                    m.next = "ASK"
                    with m.If(routed.last):
                        m.next = "PROMISE"

            # What had been promised for layers up to this one and was not used.
            with m.State("PROMISE"):
                m.d.comb += promise.addr.eq(index)
                m.next = "PROMISE-LOOKUP"
                with m.If(index == promises):
                    m.d.sync += promises.eq(kept)
                    m.next = "IDLE"
                    with m.If(visit_due & ~missed.any()):
                        visit()
            with m.State("PROMISE-LOOKUP"):
                m.d.comb += record.addr.eq(promise.data)
                m.d.sync += [unused.eq(promise.data), index.eq(index + 1)]
                m.next = "PROMISE-SETTLE"
            with m.State("PROMISE-SETTLE"):
                m.d.comb += [record.addr.eq(unused), self.cancel.slot.eq(unused)]
                m.d.sync += [tag.layer.eq(found.layer), tag.expert.eq(found.expert)]
                with m.If(list_ready):
                    m.next = "PROMISE"
                    with m.If(found.promised & (found.layer > layer) & ~settle_all):
                        keep_promise(kept, unused)
                        m.d.sync += kept.eq(kept + 1)
                    with m.Elif(found.promised & (found.state == SlotState.FILLING)):
                        m.d.comb += self.cancel.valid.eq(1)
                        log(Event.CANCEL, found, unused, self.cancel_beats)
                        m.d.sync += landed.eq(self.cancel_landed)
                        free(unused)
                        m.next = "PROMISE-CANCELLED"
                    with m.Elif(found.promised):
                        log(Event.DROP, found, unused)
                        with m.If(self.retain):
                            update_record(unused, promised=0)
                            list_op(ListOp.PUSH_FRONT, unused)
                        with m.Else():
                            free(unused)
            with m.State("PROMISE-CANCELLED"):
                log(Event.LANDED, tag, unused, landed)
                m.next = "PROMISE"

            # A slot for an expert that was missed.
            with m.State("DEMAND-EVICT"):
                m.d.comb += record.addr.eq(slot)
                with m.If(found.state != SlotState.FREE):
                    log(Event.EVICT, found, slot)
                    set_resident(found, slot, 0)
                m.next = "DEMAND-ORDER"
            with m.State("DEMAND-ORDER"):
                m.d.comb += [self.demand.valid.eq(1), self.demand.payload.slot.eq(slot),
                             self.demand.payload.layer.eq(tag.layer),
                             self.demand.payload.expert.eq(tag.expert)]
                with m.If(self.demand.ready):
                    log(Event.DEMAND, tag, slot)
                    set_resident(tag, slot)
                    list_op(ListOp.REMOVE, slot)
                    write_record(slot, state=SlotState.FILLING, pinned=1, demanded=1,
                                 rank=next_missed, layer=tag.layer, expert=tag.expert)
                    m.d.sync += missed.bit_select(next_missed, 1).eq(0)
                    with m.If(visit_due):
                        visit()
                    with m.Else():
                        m.d.comb += [retention.refresh.valid.eq(1),
                                     retention.refresh.expert.eq(tag.expert)]
                    m.next = "IDLE"

            # A candidate.
            with m.State("CANDIDATE-LOOKUP"):
                m.d.comb += record.addr.eq(Mux(resident.found, resident.slot, slot))
                m.next = "CANDIDATE-DECIDE"
            with m.State("CANDIDATE-DECIDE"):
                m.d.comb += record.addr.eq(slot)
                m.next = "IDLE"
                with m.If(resident.found):
                    m.d.comb += self.candidates.ready.eq(1)
                    log(Event.TOUCH, tag, resident.slot)
                    with m.If(evictable):
                        list_op(ListOp.MOVE_BACK, resident.slot)
                        predicted(resident.slot)
                        with m.If(~wanted_valid):
                            m.d.sync += [wanted.eq(resident.slot), wanted_valid.eq(1)]
                with m.Elif(~order.front_valid | (promises == round_size)
                            | Mux(self.retention, retention.keep, wanted_valid & (wanted == slot))
                            | (tag_deep & (order.count <= active))):
                    m.d.comb += self.candidates.ready.eq(1)
                    log(Event.STOP, tag)
                    m.d.sync += stopped.eq(1)
                with m.Else():
                    with m.If(found.state != SlotState.FREE):
                        log(Event.EVICT, found, slot)
                        set_resident(found, slot, 0)
                    m.next = "CANDIDATE-ORDER"
            with m.State("CANDIDATE-ORDER"):
                m.d.comb += [self.prefetch.valid.eq(1), self.prefetch.payload.slot.eq(slot),
                             self.prefetch.payload.layer.eq(tag.layer),
                             self.prefetch.payload.expert.eq(tag.expert)]
                with m.If(self.prefetch.ready):
                    m.d.comb += self.candidates.ready.eq(1)
                    keep_promise(promises, slot)
                    log(Event.PREFETCH, tag, slot)
                    set_resident(tag, slot)
                    list_op(ListOp.REMOVE, slot)
                    predicted(slot)
                    write_record(slot, state=SlotState.FILLING, promised=1, layer=tag.layer,
                                 expert=tag.expert)
                    m.d.sync += promises.eq(promises + 1)
                    m.next = "IDLE"

            # Reports of the DMA.
            with m.State("STATUS"):
                m.d.comb += record.addr.eq(report.slot)
                with m.If(list_ready):
                    m.next = "IDLE"
                    with m.If(report.kind == Status.FIRST):
                        log(Event.FIRST, found, report.slot)
                        update_record(report.slot, first=1)
                    with m.Elif(report.kind == Status.DONE):
                        log(Event.READY, found, report.slot)
                        update_record(report.slot, state=SlotState.READY)
                    with m.Else():
                        log(Event.FAIL, found, report.slot, found.pinned)
                        with m.If(found.pinned):
                            update_record(report.slot, state=SlotState.READY, bad=1)
                            with m.If(~self.layer_failed):
                                m.d.sync += [self.layer_failed.eq(1),
                                             self.failed_layer.eq(found.layer),
                                             self.failed_expert.eq(found.expert)]
                        with m.Else():
                            free(report.slot)
                    with m.If(found.pinned):
                        with m.If(~found.first):
                            hand_out(report.slot, found.rank)
                        with m.If(report.kind != Status.FIRST):
                            m.d.sync += [demanding.eq(demanding - found.demanded),
                                         late.eq(late - ~found.demanded)]

            # Slots that the PEs have read to the end.
            with m.State("RELEASE"):
                done = self.release.payload.slot
                m.d.comb += record.addr.eq(done)
                with m.If(found.state == SlotState.FILLING):  # its report is on the way
                    m.next = "IDLE"
                with m.Elif(list_ready):
                    m.d.comb += self.release.ready.eq(1)
                    log(Event.RELEASE, found, done)
                    with m.If(self.retain & ~found.bad):
                        update_record(done, pinned=0, first=0, demanded=0)
                        list_op(ListOp.PUSH_BACK, done)
                    with m.Else():
                        free(done)
                    m.next = "IDLE"

            with m.State("FLUSH"):
                steps = max(resident.depth, g.banks)
                position = Signal(range(steps))
                m.d.comb += [
                    self.flushing.eq(1), resident.to.as_value().eq(0), resident.write.eq(1),
                    Cat(resident.to.expert, resident.to.layer).eq(position)]
                m.d.comb += [retention.clear.eq(1), retention.position.eq(position)]
                with m.If(position < g.banks):
                    write_record(position)
                    set_state(position)
                with m.If(position < shape.slots):
                    list_op(ListOp.PUSH_BACK, position, free=1)
                m.d.sync += [position.eq(position + 1), promises.eq(0), missed.eq(0),
                             demanding.eq(0), late.eq(0), wanted_valid.eq(0), about.eq(0),
                             visit_due.eq(0)]
                with m.If(position == steps - 1):
                    m.d.sync += position.eq(0)
                    m.next = "IDLE"
        m.d.comb += self.idle.eq(
            fsm.ongoing("IDLE") & ~Cat(self.status.valid, self.release.valid, self.token.valid,
                                       self.routed.valid, missed, self.candidates.valid,
                                       retention.busy).any())
        m.d.comb += self.waiting_victim.eq(
            fsm.ongoing("IDLE") & missed.any() & order.front_valid & self.link_idle & ~chosen)
        m.submodules.counters = counters = ManagerCounters(g)
        m.d.comb += [counters.event.eq(self.event), counters.blob_beats.eq(shape.blob_beats)]
        m.d.sync += counters.shared.eq(shared)
        for name in COUNTERS:
            m.d.comb += getattr(self, f"inc_{name}").eq(getattr(counters, f"inc_{name}"))
        return m
