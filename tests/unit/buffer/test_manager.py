"""The expert manager against golden, event by event, under random routing, timing and failures."""

import pytest
from amaranth.sim import Simulator

from stmoe.buffer.manager import ExpertManager
from stmoe.interfaces import Event, Status
from stmoe_golden.buffer.manager import ExpertManager as Golden
from stmoe_golden.buffer.manager import Kind, Mismatch
from stmoe_golden.buffer.worth import Worth
from support.manager_bench import Bench, geometry


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("more", [
    {}, {"retain": False}, {"prefetch": False}, {"retain": False, "prefetch": False},
    {"retention": "ewma"}, {"retention": "ewma", "prefetch": False}])
def test_every_event_equals_golden(seed, more):
    Bench(geometry(shared=1), seed=seed, **more).settle()


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("retention", ["lru", "ewma"])
@pytest.mark.parametrize("slots", [2, 4, 7, 40])
def test_few_slots_and_many(seed, slots, retention):
    bench = Bench(geometry(slots=slots, prefetch_round=3), seed=seed, retention=retention)
    bench.settle()
    if slots <= 7:
        assert Kind.STOP in bench.kinds and Kind.EVICT in bench.kinds


@pytest.mark.parametrize("seed", range(3))
def test_one_expert_per_layer_and_one_promise_per_round(seed):
    Bench(geometry(top_k=1, prefetch_round=1), seed=seed).settle()


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("retention", ["lru", "ewma"])
@pytest.mark.parametrize("slots", [3, 4, 12, 24])
def test_promises_for_deeper_layers_outlive_the_layers_before(seed, slots, retention):
    bench = Bench(geometry(slots=slots, prefetch_round=8), seed=seed, depth=3,
                  retention=retention).settle()
    if slots in (3, 12):  # a layer's experts have to fit beside them
        assert (bench.deep > 0) == (slots > 3)


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("retention", ["lru", "ewma"])
def test_a_host_that_skips_layers_leaves_no_promise_behind(seed, retention):
    bench = Bench(geometry(slots=6, prefetch_round=6), seed=seed, depth=2, skip=0.4,
                  retention=retention).settle()
    assert bench.deep and Kind.CANCEL in bench.kinds


@pytest.mark.parametrize("more", [
    {}, {"retention": "ewma", "worth": 90}, {"retain": False}, {"prefetch": False}])
@pytest.mark.parametrize("slots", [3, 7, 24])
def test_all_experts_of_a_prompts_next_layer_are_fetched_ahead(slots, more):
    g = geometry(slots=slots, prefetch_round=12, shared=1, max_tokens=4)
    bench = Bench(g, seed=slots, prompt=0.6, depth=2, **more).settle()
    assert (Kind.PREFETCH in bench.kinds) == more.get("prefetch", True)


class Backwards(Golden):
    """The last expert of a prompt's next layer comes first."""

    def _verify(self):
        super()._verify()
        if self.streaming:
            self.candidates.reverse()


class Judging(Golden):
    """An expert of a prompt's next layer must be worth it like any other."""

    def _candidate(self, layer, expert, score):
        super()._candidate(layer, expert, 0 if score is None else score)


class Predicting(Golden):
    """Takes what is predicted, of a prompt too."""

    def route(self, layer, experts, shared, tokens=None, *, stream=False):
        super().route(layer, experts, shared, tokens)


@pytest.mark.parametrize("wrong", [Backwards, Judging, Predicting])
def test_golden_notices_another_treatment_of_prompts(wrong):
    g = geometry(slots=24, prefetch_round=12, max_tokens=4)
    other = wrong(g, retain=True, prefetch=True, prefetch_round=12, worth=Worth(
        g.config.model.experts, g.config.linear.fraction, 90, 0))
    with pytest.raises(Mismatch, match="golden"):
        Bench(g, seed=1, prompt=1.0, golden=other, worth=90)


def test_every_kind_of_event_occurs():
    seen = set()
    for seed in range(4):
        bench = Bench(geometry(slots=8), seed=seed, tokens=30, depth=2, fail=0.1,
                      retention=("lru", "ewma")[seed % 2], worth=(None, 90)[seed // 2])
        bench.settle()
        seen |= set(bench.kinds)
    assert set(Kind) == {Kind(event) for event in Event if event}
    assert seen == set(Kind) - {Kind.DENSE}  # of which tests/unit/test_top_dense.py has some


def test_a_failed_expert_fails_its_layer_only():
    bench = Bench(geometry(), seed=4, tokens=20, fail=0.15)
    bench.settle()
    assert bench.counts["failed"] == bench.kinds.count(Kind.FAIL)
    assert 0 < sum(bench.failures) < 80


def test_golden_notices_another_policy():
    g = geometry(slots=8)
    other = Golden(g, retain=True, prefetch=True, prefetch_round=2)
    with pytest.raises(Mismatch, match="golden"):
        Bench(g, seed=1, golden=other)
    other = Golden(g, retain=False, prefetch=True, prefetch_round=6)
    with pytest.raises(Mismatch, match="golden"):
        Bench(g, seed=1, golden=other)


class Forgetful(Golden):
    """Settles every promise at every layer."""

    def _settle(self, due):
        super()._settle(lambda slot: True)


class Eager(Golden):
    """Takes every slot for deep promises."""

    def _candidate(self, layer, expert, score):
        self.about = layer
        super()._candidate(layer, expert, score)


class Continuous(Golden):
    """Keeps the promises of one token for the next."""

    def _begin_round(self, about, guessing=False):
        if not about:
            self.promises.clear()
        super()._begin_round(about, guessing)


@pytest.mark.parametrize("wrong", [Forgetful, Eager, Continuous])
def test_golden_notices_another_treatment_of_deep_promises(wrong):
    g = geometry(slots=10, prefetch_round=8)
    other = wrong(g, retain=True, prefetch=True, prefetch_round=8)
    with pytest.raises(Mismatch, match="golden"):
        Bench(g, seed=1, depth=3, skip=0.3, golden=other)


class Impatient(Golden):
    """Due times are new before the first victim is chosen."""

    def _demand(self):
        self._visit()
        super()._demand()


class Forgiving(Golden):
    """A prediction does not keep what is resident."""

    def _due_next(self, layer):
        return self.clock + (1 << 20)


class Young(Golden):
    """Nobody is used often."""

    def _due_again(self, layer, expert):
        return self.clock + 64


@pytest.mark.parametrize("wrong", [Golden, Impatient, Forgiving, Young])
def test_golden_notices_another_choice_of_victims(wrong):
    g = geometry(slots=8)
    other = wrong(g, retain=True, prefetch=True, prefetch_round=6,
                  retention="lru" if wrong is Golden else "ewma")
    with pytest.raises(Mismatch, match="golden"):
        Bench(g, seed=1, tokens=30, golden=other, retention="ewma")


def test_a_link_that_waits_for_a_victim_is_counted():
    g = geometry(slots=8)
    waits = {policy: Bench(g, seed=2, retention=policy).waits for policy in ("lru", "ewma")}
    assert waits["ewma"] > 0


def test_flush_frees_every_slot():
    g = geometry()
    dut = ExpertManager(g)

    async def bench(ctx):
        ctx.set(dut.shape.slots, 5)
        for _ in range(2):
            while ctx.get(dut.flushing):
                await ctx.tick()
            ctx.set(dut.demand.ready, 1)
            ctx.set(dut.routed.payload, {"layer": 1, "expert": 2, "count": 1, "last": 1})
            ctx.set(dut.routed.valid, 1)
            kinds = []
            for _ in range(30):
                *_, ready = await ctx.tick().sample(dut.routed.ready)
                if ready:
                    ctx.set(dut.routed.valid, 0)
                if ctx.get(dut.event.valid):
                    payload = ctx.get(dut.event.payload)
                    kinds.append((payload.kind, payload.slot))
            assert kinds == [(Kind.ROUTE, 0), (Kind.MISS, 0), (Kind.DEMAND, 0)]
            for status in (Status.FIRST, Status.DONE):
                ctx.set(dut.status.payload, {"slot": 0, "kind": status})
                ctx.set(dut.status.valid, 1)
                await ctx.tick()
                ctx.set(dut.status.valid, 0)
                await ctx.tick().repeat(4)
            assert ctx.get(dut.idle)
            ctx.set(dut.flush, 1)
            await ctx.tick()
            ctx.set(dut.flush, 0)
            assert ctx.get(dut.flushing)
    sim = Simulator(dut)
    sim.add_clock(1e-8)
    sim.add_testbench(bench)
    sim.run()


def test_a_flush_ends_what_is_fetched_for_a_prompt():
    g = geometry(max_tokens=4)
    dut = ExpertManager(g)
    ordered = []

    async def watch(ctx):
        async for _, _, valid in ctx.tick().sample(dut.prefetch.valid):
            ordered.append(valid)

    async def bench(ctx):
        for name, value in (("slots", g.slots), ("layers", 4), ("experts", 8)):
            ctx.set(dut.shape[name], value)
        ctx.set(dut.prefetch_enable, 1)
        while ctx.get(dut.flushing):
            await ctx.tick()
        ctx.set(dut.demand.ready, 1)
        ctx.set(dut.routed.payload,
                {"layer": 1, "expert": 2, "count": 1, "last": 1, "stream": 1})
        ctx.set(dut.routed.valid, 1)
        for _ in range(30):
            *_, ready = await ctx.tick().sample(dut.routed.ready)
            if ready:
                ctx.set(dut.routed.valid, 0)
        for status in (Status.FIRST, Status.DONE):
            ctx.set(dut.status.payload, {"slot": 0, "kind": status})
            ctx.set(dut.status.valid, 1)
            await ctx.tick()
            ctx.set(dut.status.valid, 0)
            await ctx.tick().repeat(4)
        assert not ctx.get(dut.idle)  # eight experts are to be fetched ahead, none is taken
        ctx.set(dut.prefetch_enable, 0)  # as a FLUSH command does
        await ctx.tick().repeat(2)
        assert ctx.get(dut.idle) and not any(ordered)
        ctx.set(dut.flush, 1)
        await ctx.tick()
        ctx.set(dut.flush, 0)
        while ctx.get(dut.flushing):
            await ctx.tick()
        ctx.set(dut.prefetch_enable, 1)
        ctx.set(dut.prefetch.ready, 1)
        await ctx.tick().repeat(20)
        assert ctx.get(dut.idle) and not any(ordered)
    sim = Simulator(dut)
    sim.add_clock(1e-8)
    sim.add_testbench(watch, background=True)
    sim.add_testbench(bench)
    sim.run()
