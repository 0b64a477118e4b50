"""The expert manager among models of its neighbours, checked against golden event by event."""

import random

from amaranth.sim import Simulator

from stmoe.buffer.counters import COUNTERS
from stmoe.buffer.manager import ExpertManager
from stmoe.config import AcceleratorConfig, Geometry, ModelShape
from stmoe.interfaces import Status
from stmoe_golden.buffer.manager import ExpertManager as Golden
from stmoe_golden.buffer.manager import Kind, ManagerEvent
from stmoe_golden.buffer.worth import Worth

__all__ = ["Bench", "geometry"]

EXACT = set(COUNTERS) - {"failed"}


def geometry(*, slots=12, shared=0, prefetch_round=6, top_k=3, max_tokens=1):
    model = ModelShape(layers=4, experts=8, top_k=top_k, d_model=64, d_ff=32, shared_experts=shared,
                       shared_d_ff=32 if shared else 0)
    return Geometry(AcceleratorConfig(model=model, slots=slots, prefetch_round=prefetch_round,
                                      max_tokens=max_tokens))


class Bench:
    """A manager among models of sequencer, predictor, DMA and PEs, each with its own whims."""

    def __init__(self, g, *, seed, tokens=15, retain=True, prefetch=True, fail=0.0, golden=None,
                 depth=1, skip=0.0, retention="lru", worth=None, counted=False,
                 rows_slack=0, prompt=0.0):
        self.g, self.fail = g, fail
        self.dut = ExpertManager(g)
        model, self.floor, self.counted = g.config.model, worth, counted
        judge = worth is not None and Worth(
            model.experts, None if counted else g.config.linear.fraction, worth, rows_slack)
        self.golden = golden or Golden(
            g, retain=retain, prefetch=prefetch, prefetch_round=g.config.prefetch_round,
            retention=retention, worth=judge or None)
        self.retain, self.prefetch, self.retention = retain, prefetch, retention
        self.rows_slack = rows_slack
        self.rng = random.Random(seed)
        self.shared = list(range(model.experts, model.expert_ids))
        # (layer or None for a token, its experts, [(layer, candidates), ..], of a prompt?)
        self.plan = []
        for _ in range(tokens):
            for layer in (None, *range(model.layers)):
                if layer and self.rng.random() < skip:
                    continue
                experts = self.rng.sample(range(model.experts), model.top_k)
                first = 0 if layer is None else (layer + 1) % model.layers
                following = [(deeper, self.guess(deeper == first))
                             for deeper in range(first, min(first + depth, model.layers))]
                of_prompt = prompt > 0 and self.rng.random() < prompt
                self.plan.append((layer, experts, following, of_prompt))
        self.layers = sum(layer is not None for layer, *_ in self.plan)
        self.transfers, self.reports, self.working, self.released = {}, [], {}, []
        self.kinds, self.work, self.counts = [], [], dict.fromkeys(COUNTERS, 0)
        self.done, self.failures, self.cycle = 0, [], 0
        self.deep = 0  # prefetches for a layer beyond the next
        self.waits = 0  # cycles in which a demand and the link wait for a victim
        sim = Simulator(self.dut)
        sim.add_clock(1e-8)
        sim.add_testbench(self.run)
        sim.run()

    def guess(self, near):
        most = 8 if near else 4
        count = self.rng.randrange(most + 1)
        one = 1 << self.g.config.linear.fraction
        scores = range(25) if self.counted else range(-3 * one, 5 * one)
        return [(e, self.rng.choice(scores))
                for e in self.shared + self.rng.sample(range(8), count)]

    async def run(self, ctx):
        dut, rng = self.dut, self.rng
        for name in ("slots", "blob_beats"):
            ctx.set(dut.shape[name], getattr(self.g, name))
        for name in ("layers", "experts"):
            ctx.set(dut.shape[name], getattr(self.g.config.model, name))
        ctx.set(dut.retention, self.retention == "ewma")
        ctx.set(dut.retain, self.retain)
        ctx.set(dut.prefetch_enable, self.prefetch)
        ctx.set(dut.worth, self.floor is not None)
        ctx.set(dut.worth_floor, self.floor or 0)
        ctx.set(dut.rows_slack, self.rows_slack)
        ctx.set(dut.counted, self.counted)
        while ctx.get(dut.flushing):
            await ctx.tick()
        beats, candidates, offered = [], [], None
        status, release = None, None
        token = False
        step, remaining, quiet = 0, 0, 0
        while step < len(self.plan) or remaining or quiet < 60:
            assert self.cycle < 100_000, "the manager hangs"
            if not remaining and not token and step < len(self.plan) and rng.random() < 0.05:
                layer, experts, following, of_prompt = self.plan[step]
                everyone = experts + self.shared
                if layer is None:
                    token = True
                else:
                    beats = [{"layer": layer, "expert": e, "gate": 100 + e,
                              "shared": e in self.shared, "count": len(everyone),
                              "last": e == everyone[-1]}
                             | ({"stream": of_prompt} if self.g.token_bits else {})
                             for e in everyone]
                    remaining, self.work = len(everyone), []
                candidates.append((rng.randrange(8), [
                    {"layer": about, "expert": e, "score": score, "end": 0}
                    for about, guess in following for e, score in guess]))
                step += 1
            quiet = quiet + 1 if step == len(self.plan) and not remaining else 0
            # Inputs of this cycle.
            ctx.set(dut.routed.valid, bool(beats))
            if beats:
                ctx.set(dut.routed.payload, beats[0])
            ctx.set(dut.token.valid, token)
            if offered is None and candidates and not beats:
                wait, following = candidates.pop(0)
                if wait:
                    candidates.insert(0, (wait - 1, following))
                elif following:
                    offered = following[0]
                    candidates.insert(0, (0, following[1:]))
                else:
                    offered = {"end": 1}
            ctx.set(dut.candidates.valid, offered is not None)
            if offered:
                ctx.set(dut.candidates.payload, offered)
            if status is None and self.reports and rng.random() < 0.5:
                status = self.reports.pop(0)
            ctx.set(dut.status.valid, status is not None)
            if status:
                ctx.set(dut.status.payload, {"slot": status[0], "kind": status[1]})
            if release is None and self.released and rng.random() < 0.5:
                release = self.released.pop(rng.randrange(len(self.released)))
            ctx.set(dut.release.valid, release is not None)
            if release is not None:
                ctx.set(dut.release.payload.slot, release)
            busy = len(self.transfers)
            ctx.set(dut.link_idle, not busy)
            ctx.set(dut.link_beat, bool(busy))
            ctx.set(dut.link_demanded, any(self.golden.slots[slot].pinned
                                           for slot in self.transfers))
            ctx.set(dut.demand.ready, busy < 4 and rng.random() < 0.7)
            ctx.set(dut.prefetch.ready, busy < 3 and rng.random() < 0.7)
            ctx.set(dut.work.ready, rng.random() < 0.5)
            if ctx.get(dut.cancel.valid):
                slot = ctx.get(dut.cancel.slot)
                if status and status[0] == slot:
                    status = None
                    ctx.set(dut.status.valid, 0)
                self.reports = [entry for entry in self.reports if entry[0] != slot]
                self.transfers.pop(slot, None)
                read = rng.randrange(self.g.blob_beats + 1)
                landed = rng.randrange(read + 1)
                ctx.set(dut.cancel_beats, read)
                ctx.set(dut.cancel_landed, landed)
            # What happens at the edge.
            ports = ("token", "routed", "candidates", "status", "release", "demand", "prefetch",
                     "work")
            fired = {name: ctx.get(getattr(dut, name).valid) and ctx.get(getattr(dut, name).ready)
                     for name in ports}
            payload = {name: ctx.get(getattr(dut, name).payload) for name in ports[5:]}
            promoted = ctx.get(dut.promote.slot) if ctx.get(dut.promote.valid) else None
            failing = ctx.get(dut.layer_failed)
            await ctx.tick()
            self.cycle += 1
            if ctx.get(dut.event.valid):
                self.check(ctx.get(dut.event.payload))
            self.waits += ctx.get(dut.waiting_victim)
            for name in COUNTERS:
                self.counts[name] += ctx.get(getattr(dut, f"inc_{name}"))
            if fired["token"]:
                token = False
            if fired["routed"]:
                beats.pop(0)
            if fired["candidates"]:
                offered = None
            if fired["status"]:
                status = None
            if fired["release"]:
                release = None
                remaining -= 1
                if not remaining:
                    self.failures.append(failing)
            for name in ("demand", "prefetch"):
                if fired[name]:
                    order = payload[name]
                    assert order.slot not in self.transfers
                    self.transfers[order.slot] = [rng.randrange(40), (order.layer, order.expert)]
                    if name == "prefetch" and (self.golden.guessing
                                               or order.layer != self.golden.about):
                        assert not busy, "a deep candidate did not wait for the link"
                        self.deep += 1
            if promoted is not None:
                assert self.golden.slots[promoted].pinned
            if fired["work"]:
                slot, gate = payload["work"].slot, payload["work"].gate
                self.work.append(slot)
                self.working[slot] = rng.randrange(30)
                assert gate == (100 + self.golden.slots[slot].expert)
            # The DMA and the PEs go on.
            for slot, entry in list(self.transfers.items()):
                entry[0] -= 1
                if entry[0] == 8 and rng.random() < 0.8:
                    self.reports.append((slot, Status.FIRST))
                if entry[0] <= 0:
                    bad = rng.random() < self.fail
                    self.reports.append((slot, Status.FAILED if bad else Status.DONE))
                    del self.transfers[slot]
            for slot in list(self.working):
                self.working[slot] -= 1
                if self.working[slot] <= 0 and slot not in self.transfers:
                    del self.working[slot]
                    self.released.append(slot)

    def check(self, payload):
        event = ManagerEvent(payload.kind, payload.layer, payload.expert, payload.slot, payload.arg)
        self.kinds.append(Kind(event.kind))
        begins = event.kind in (Kind.ROUTE, Kind.TOKEN)
        if begins:
            layer, experts, following, of_prompt = self.plan[self.done]
            self.done += 1
            if layer is None:
                self.golden.token()
            else:
                self.golden.route(layer, experts, self.shared, stream=of_prompt)
        self.golden.check(event)
        if begins:
            for about, guess in following:
                self.golden.predict(about, guess)

    def settle(self):
        """Counters, and that every token and layer was seen."""
        assert self.done == len(self.plan)
        assert {name: self.counts[name] for name in EXACT} == {
            name: self.golden.counters[name] for name in EXACT}
        return self
