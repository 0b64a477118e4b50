"""The expert manager: slots, residency and promises, told by its events; demands are served.

Around it are a sequencer, a predictor, a DMA and PEs that do anything which their contracts allow.
A record of every slot follows the events, as golden's does; the rules say that each event agrees
with the record, so that what is proved is golden's bookkeeping, not the hardware's own.
"""

from typing import Any

from amaranth.hdl import Array, Cat, Module, Mux, Signal
from amaranth.lib import data

from stmoe.buffer import manager, slot_list
from stmoe.buffer.slot_list import ListOp
from stmoe.config import Geometry
from stmoe.interfaces import Event, Status

from .bench import Bench
from .handshake import small
from .proof import Mutation, Proof

__all__ = ["PROOFS"]

FREE, FILLING, READY = range(3)


class Neighbours:
    """What surrounds a manager, with the slots that each of them has in hand.

    ``prompt``: they answer within a few cycles, and no failure or cancellation comes between.
    """

    def __init__(self, bench: Bench, dut: Any, g: Geometry, *, prompt: bool) -> None:
        m, slots, active = bench.m, g.banks, g.config.model.active
        self.filling, self.begun, self.working = (
            Signal(slots, name=name) for name in ("filling", "begun", "working"))
        self.in_layer, self.rank = Signal(), Signal(range(active + 1))  # a layer is not done
        self.given = Signal(range(active + 1))  # of it, experts handed out
        routed, token, status = dut.routed, dut.token, dut.status
        fires = {name: getattr(dut, name).valid & getattr(dut, name).ready for name in (
            "routed", "token", "candidates", "demand", "prefetch", "status", "work", "release")}
        bench.still(dut.shape, dut.retention, dut.retain)
        bench.assume((dut.shape.slots >= 2) & (dut.shape.slots <= slots)
                     & (dut.shape.layers == g.config.model.layers) & ~dut.flush)
        for port in (routed, token, dut.candidates, dut.release):
            bench.assume(bench.stable(port))
        cancelled = Signal()
        m.d.comb += cancelled.eq(dut.cancel.valid & (dut.cancel.slot == status.payload.slot))
        bench.assume(bench.stable(status) | bench.past(cancelled))

        # Sequencer: a layer's experts in rank order, all different; nothing else until it is done.
        said = Signal(data.ArrayLayout(g.expert_bits, active))
        layer = Signal(g.layer_bits)
        bench.assume(~routed.valid | (
            (routed.payload.layer < g.config.model.layers)
            & (routed.payload.expert < g.config.model.expert_ids)
            & (routed.payload.count == active) & ~routed.payload.shared
            & (routed.payload.last == (self.rank == active - 1))))
        bench.assume(~routed.valid | ~self.in_layer | (
            (self.rank != active) & (routed.payload.layer == layer)))
        for at in range(active):
            bench.assume(~routed.valid | (self.rank <= at) | (routed.payload.expert != said[at]))
        bench.assume(~token.valid | ~self.in_layer)
        bench.assume(~(token.valid & routed.valid))
        returned = Signal(range(active + 1))
        over = fires["release"] & (returned == active - 1) & (self.rank == active)
        with m.If(fires["routed"]):
            m.d.sync += [said[self.rank].eq(routed.payload.expert), self.rank.eq(self.rank + 1),
                         layer.eq(routed.payload.layer), self.in_layer.eq(1)]
        with m.If(fires["work"]):
            m.d.sync += self.given.eq(self.given + 1)
        with m.If(fires["release"]):
            m.d.sync += returned.eq(returned + 1)
        with m.If(over):
            m.d.sync += [self.in_layer.eq(0), self.rank.eq(0), returned.eq(0), self.given.eq(0)]

        # Predictor: a closed round per token and layer, about the layer that follows or later.
        owed, about = Signal(3), Signal(range(g.config.model.layers + 1))
        begins = fires["token"] | (fires["routed"] & routed.payload.last)
        candidate = dut.candidates.payload
        bench.assume(~dut.candidates.valid | ((owed != 0) & ~(routed.valid & (self.rank != 0))))
        bench.assume(~(routed.valid | token.valid) | (owed < 3))
        bench.assume(~dut.candidates.valid | candidate.end | (
            (candidate.expert < g.config.model.expert_ids)
            & (candidate.layer < g.config.model.layers)
            & ((owed != 1) | (candidate.layer >= about))))
        m.d.sync += owed.eq(owed + begins - (fires["candidates"] & candidate.end))
        with m.If(fires["token"]):
            m.d.sync += about.eq(0)
        with m.Elif(fires["routed"]):
            m.d.sync += about.eq(routed.payload.layer + 1)

        # DMA: reports FIRST at most once, then DONE or FAILED, of what it has in hand.
        at, kind = status.payload.slot, status.payload.kind
        bench.assume(~status.valid | (
            self.filling.bit_select(at, 1) & (kind <= Status.FAILED)
            & ((kind != Status.FIRST) | ~self.begun.bit_select(at, 1))))
        bench.assume(dut.cancel_landed <= dut.cancel_beats)
        self.idle = self.filling == 0
        bench.assume(~dut.link_idle | self.idle)
        bench.assume(~dut.prefetch.ready | (self.filling + 0 != (1 << slots) - 1))
        with m.If(fires["status"]):
            with m.If(kind == Status.FIRST):
                m.d.sync += self.begun.bit_select(at, 1).eq(1)
            with m.Else():
                m.d.sync += self.filling.bit_select(at, 1).eq(0)
        with m.If(dut.cancel.valid):
            m.d.sync += self.filling.bit_select(dut.cancel.slot, 1).eq(0)
        for name in ("demand", "prefetch"):
            slot = getattr(dut, name).payload.slot
            with m.If(fires[name]):
                m.d.sync += [self.filling.bit_select(slot, 1).eq(1),
                             self.begun.bit_select(slot, 1).eq(0)]

        # PEs: release what they were given, once, and not before its transfer is over.
        slot = dut.release.payload.slot
        bench.assume(~dut.release.valid | self.working.bit_select(slot, 1))
        with m.If(fires["release"]):
            m.d.sync += self.working.bit_select(slot, 1).eq(0)
        with m.If(fires["work"]):
            m.d.sync += self.working.bit_select(dut.work.payload.slot, 1).eq(1)
        self.fires = fires
        if prompt:
            self._prompt(bench, dut)

    def _prompt(self, bench: Bench, dut: Any) -> None:
        """Reports and releases come within three cycles; orders and work are taken.

        A prefetch is taken at any time, but whoever is ready stays so until an order is taken: the
        manager counts on that, and it is proved of :class:`PrefetchDma`.
        """
        bench.assume(dut.demand.ready & dut.work.ready & dut.prefetch_enable)
        ordered = self.fires["demand"] | self.fires["prefetch"]
        bench.assume(dut.prefetch.ready | ~bench.past(dut.prefetch.ready & ~ordered))
        bench.assume(~dut.status.valid | (dut.status.payload.kind == Status.DONE))
        for name, may in (("status", self.filling.any()), ("release", self.working.any())):
            idle = Signal(2, name=f"idle_{name}")
            bench.m.d.sync += idle.eq(
                Mux(may & ~getattr(dut, name).valid, Mux(idle == 3, 3, idle + 1), 0))
            bench.assume(idle < 3)


def events(g: Geometry, retention: int) -> Bench:
    """Every event agrees with the record of slots that the events before it make."""
    bench = Bench()
    dut = bench.add(manager.ExpertManager(g))
    near = Neighbours(bench, dut, g, prompt=False)
    bench.assume(dut.retention == retention)
    m, slots, event = bench.m, g.banks, dut.event.payload
    record = data.StructLayout({"state": 2, "pinned": 1, "promised": 1, "layer": g.layer_bits,
                                "expert": g.expert_bits})
    table = Array(Signal(record, name=f"slot_{slot}") for slot in range(slots))
    told = table[event.slot]
    kind = Signal(5)
    m.d.comb += kind.eq(Mux(dut.event.valid, event.kind, 0))

    def is_(*kinds):
        return Cat(kind == one for one in kinds).any()

    def same(one):
        return (one.layer == event.layer) & (one.expert == event.expert)

    holders = Signal(slots)  # that have, or will have, the event's expert
    m.d.comb += holders.eq(Cat((one.state != FREE) & same(one) for one in table))
    hits = (Event.HIT_RESIDENT, Event.HIT_PREFETCHED, Event.HIT_LATE)
    orders = (Event.DEMAND, Event.PREFETCH)
    leaves = is_(Event.CANCEL) | (is_(Event.FAIL) & ~told.pinned) | (
        is_(Event.DROP, Event.RELEASE) & ~dut.retain)
    bad = Signal(slots)
    with m.If(is_(Event.EVICT) | leaves | (
            is_(Event.RELEASE) & bad.bit_select(event.slot, 1))):
        m.d.sync += told.eq(0)
    with m.Elif(is_(*hits)):
        m.d.sync += [told.pinned.eq(1), told.promised.eq(0)]
    with m.Elif(is_(Event.RELEASE)):
        m.d.sync += told.pinned.eq(0)
    with m.Elif(is_(Event.DROP)):
        m.d.sync += told.promised.eq(0)
    with m.Elif(is_(Event.READY, Event.FAIL)):
        m.d.sync += told.state.eq(READY)
    with m.Elif(is_(*orders)):
        m.d.sync += [told.state.eq(FILLING), told.pinned.eq(kind == Event.DEMAND),
                     told.promised.eq(kind == Event.PREFETCH), told.layer.eq(event.layer),
                     told.expert.eq(event.expert)]
    with m.If(is_(Event.FAIL, *orders)):
        m.d.sync += bad.bit_select(event.slot, 1).eq(kind == Event.FAIL)

    about_slot = is_(*hits, Event.EVICT, Event.READY, Event.FIRST, Event.FAIL, Event.RELEASE,
                     Event.CANCEL, Event.DROP, Event.TOUCH)
    bench.rule("slot_in_use", ~is_(*orders) | (event.slot < dut.shape.slots))
    bench.rule("given_free", ~is_(*orders) | (told.state == FREE))
    bench.rule("evicted_idle", ~is_(Event.EVICT) | (
        (told.state == READY) & ~told.pinned & ~told.promised))
    bench.rule("not_in_hand", ~is_(Event.EVICT, *orders) | ~(
        near.working | Mux(is_(Event.EVICT), near.filling, 0)).bit_select(event.slot, 1))
    bench.rule("one_place", ~is_(Event.MISS, *orders) | (holders == 0))
    bench.rule("map_agrees", ~about_slot | ((told.state != FREE) & same(told)))
    bench.rule("hit_as_it_is", ~is_(*hits) | (~told.pinned & (
        (told.state == Mux(kind == Event.HIT_LATE, FILLING, READY))
        & ((kind == Event.HIT_RESIDENT) == ~told.promised))))
    bench.rule("settles_promises", ~is_(Event.CANCEL, Event.DROP) | (
        told.promised & ~told.pinned
        & (told.state == Mux(kind == Event.CANCEL, FILLING, READY))))
    bench.rule("released_pinned", ~is_(Event.RELEASE) | told.pinned)
    for name in ("demand", "prefetch"):
        port = getattr(dut, name)
        bench.rule(f"{name}_slot_free", ~near.fires[name] | ~(
            near.filling | near.working).bit_select(port.payload.slot, 1))
    work = dut.work.payload.slot
    bench.rule("work_pinned", ~dut.work.valid | (
        table[work].pinned | (is_(*hits) & (event.slot == work))))
    return bench


def served(g: Geometry, limit: int, retention: int) -> Bench:
    """From a layer's last expert on, all are with the PEs within ``limit`` cycles."""
    bench = Bench()
    dut = bench.add(manager.ExpertManager(g))
    near = Neighbours(bench, dut, g, prompt=True)
    bench.assume(dut.retention == retention)
    active = g.config.model.active
    waited = Signal(range(limit + 2))
    waiting = Signal()
    bench.m.d.comb += waiting.eq((near.rank == active) & (near.given != active))
    with bench.m.If(~waiting):
        bench.m.d.sync += waited.eq(0)
    with bench.m.Elif(waited != limit + 1):
        bench.m.d.sync += waited.eq(waited + 1)
    bench.rule("served", waited <= limit)
    return bench


def order(slots: int) -> Bench:
    """The list against a plain queue of slots that is shifted about."""
    bench = Bench()
    dut = bench.add(slot_list.SlotList(slots))
    m: Module = bench.m
    op, kind = dut.op, dut.op.payload.kind
    queue = [Signal(range(slots), name=f"queue_{i}") for i in range(slots)]
    count = Signal(range(slots + 1))
    held = [(count > i) & (queue[i] == op.payload.slot) for i in range(slots)]
    within = Cat(*held).any()
    push = (kind == ListOp.PUSH_FRONT) | (kind == ListOp.PUSH_BACK)
    bench.assume(~op.valid | (op.payload.slot < slots))
    bench.assume(~op.valid | ((push == ~within) & ~dut.clear))
    bench.assume(~dut.clear | dut.op.ready)
    back = Signal(range(slots + 1))
    with m.If(dut.clear):
        m.d.sync += count.eq(0)
    with m.Elif(op.valid & op.ready):
        m.d.comb += back.eq(count)
        with m.If(kind == ListOp.PUSH_FRONT):
            m.d.sync += [queue[0].eq(op.payload.slot),
                         *(queue[i + 1].eq(queue[i]) for i in range(slots - 1))]
        with m.Elif(~push):
            m.d.comb += back.eq(count - 1)
            for i in range(slots - 1):
                with m.If(Cat(*held[:i + 1]).any()):
                    m.d.sync += queue[i].eq(queue[i + 1])
        with m.If((kind == ListOp.PUSH_BACK) | (kind == ListOp.MOVE_BACK)):
            for i in range(slots):
                with m.If(back == i):
                    m.d.sync += queue[i].eq(op.payload.slot)
        m.d.sync += count.eq(Mux(push, count + 1, Mux(kind == ListOp.REMOVE, count - 1, count)))
    bench.rule("count", ~op.ready | (dut.count == count))
    bench.rule("front", ~op.ready | (dut.front_valid == (count != 0)))
    bench.rule("order", ~op.ready | (count == 0) | (dut.front == queue[0]))
    return bench


def tiny(**more: Any) -> Geometry:
    return small(**{"slots": 2, "model_experts": 2, "model_top_k": 1, "prefetch_round": 1, **more})


ORDERING, ROUTING, DECISION = (
    "buffer.ordering:add_ordering", "buffer.routing:add_routing", "buffer.decision:Decision")
USERS = ("buffer.manager",)
FAULTS = (
    Mutation(ORDERING, """d.list_op(ListOp.REMOVE)
            d.predicted()""", "d.predicted()", "evicted_idle", USERS),
    Mutation(ORDERING, """d.list_op(ListOp.REMOVE)
            d.write_record""", "d.write_record", "evicted_idle", USERS),
    Mutation(DECISION, """        self.set_resident(self.found, 0)
""", "", "hit_as_it_is", USERS),
    Mutation(ROUTING, '"promised": 0', '"promised": d.found.promised', "settles_promises", USERS),
)

PROOFS = (
    Proof(name="list of evictable slots is a queue", module="SlotList",
          build=lambda: order(3), mode="bmc", depth=14, quick=10, faults=(
        Mutation("buffer.slot_list:SlotList", "write_before.en.eq(slot != tail)",
                 "write_before.en.eq(0)", "order"),)),
    Proof(name="slots, residency, promises", module="ExpertManager",
          build=lambda: events(tiny(), 0), mode="bmc", depth=30, quick=28, fault_depth=32,
          faults=FAULTS),
    Proof(name="slots, residency, promises", module="ExpertManager, ewma",
          build=lambda: events(tiny(), 1), mode="bmc", depth=28, quick=0),
    Proof(name="demands are served", module="ExpertManager",
          build=lambda: served(tiny(), 20, 0), mode="bmc", depth=42, quick=40,
          fault_depth=42, faults=(
        Mutation("buffer.reporting:add_reporting", "with m.If(~d.found.first):",
                 "with m.If(d.found.first):", "served", USERS),)),
)
