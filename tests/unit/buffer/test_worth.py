"""Worth of candidates: block and manager against golden, link slack against its definition."""

import random

import pytest
from amaranth.sim import Simulator

from stmoe.buffer.slack import LinkSlack
from stmoe.buffer.worth import CandidateWorth
from stmoe_golden.buffer.manager import ExpertManager as Golden
from stmoe_golden.buffer.manager import Kind, Mismatch
from stmoe_golden.buffer.worth import Worth
from support.manager_bench import Bench, geometry


def simulate(dut, bench):
    sim = Simulator(dut)
    sim.add_clock(1e-8)
    sim.add_testbench(bench)
    sim.run()


def run_block(seed, *, counted, floor, golden=None, rounds=150):
    """Rounds of candidates, each judged, some of them used, with little slack or much."""
    g = geometry(shared=1)
    fraction = g.config.linear.fraction
    golden = golden or Worth(8, None if counted else fraction, floor, 12)
    dut, rng, answers, withheld = CandidateWorth(g), random.Random(seed), [], []

    async def bench(ctx):
        ctx.set(dut.counted, counted)
        ctx.set(dut.floor, floor)
        ctx.set(dut.rows_slack, 12)
        ctx.set(dut.near, 1)
        for number in range(rounds):
            for expert in rng.sample(range(9), rng.randrange(10)):
                score = (rng.randrange(64) if counted
                         else rng.randrange(-4 << fraction, 6 << fraction))
                ctx.set(dut.expert, expert)
                ctx.set(dut.score, score)
                await ctx.tick()
                pays = golden.pays(expert, score)
                answers.append(pays)
                assert ctx.get(dut.pays) == pays, (seed, number, expert, score)
                golden.decided(expert, score)
                ctx.set(dut.decided, 1)
                await ctx.tick()
                ctx.set(dut.decided, 0)
            slack, expected = rng.randrange(64) >> rng.randrange(5), rng.random() < 0.9
            routed = rng.sample(range(9), 4)
            ctx.set(dut.slack, slack)
            ctx.set(dut.measured, 1)
            await ctx.tick()
            ctx.set(dut.measured, 0)
            for expert in routed:
                ctx.set(dut.of, expert)
                await ctx.tick()
                ctx.set(dut.used, expected)
                await ctx.tick()
                ctx.set(dut.used, 0)
                await ctx.tick()
            golden.routed(routed, slack, expected=expected)
            withheld.append(golden.withholds())
            assert ctx.get(dut.scarce) == withheld[-1], (seed, number)
            ctx.set(dut.forget, 1)
            await ctx.tick()
            ctx.set(dut.forget, 0)
    simulate(dut, bench)
    assert 0.05 < sum(withheld) / rounds < 0.95
    return answers


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("counted", [False, True])
@pytest.mark.parametrize("floor", [0, 140])
def test_every_answer_is_that_of_golden(seed, counted, floor):
    answers = run_block(seed, counted=counted, floor=floor)
    assert 0.05 < sum(answers) / len(answers) < 0.95


class Credulous(Worth):
    """Believes scores."""

    def decided(self, expert, score):
        pass


class Carefree(Worth):
    """Takes no notice of the link."""

    def least(self):
        return self.floor


class Unforgetting(Worth):
    """Credits candidates of layers that were skipped."""

    def routed(self, experts, slack, *, expected):
        super().routed(experts, slack, expected=True)


class Lavish(Worth):
    """Moves rows a little earlier."""

    def withholds(self):
        return self.average < 11 << 4


@pytest.mark.parametrize("wrong", [Credulous, Carefree, Unforgetting, Lavish])
def test_another_rule_is_noticed(wrong):
    with pytest.raises(AssertionError):
        run_block(0, counted=False, floor=0, rounds=600,
                  golden=wrong(8, geometry().config.linear.fraction, rows_slack=12))


@pytest.mark.parametrize("unit", [1, 3, 40])
def test_slack_is_quiet_time_in_sixteenths_of_a_drain(unit):
    """``beats`` beats, ``unit`` cycles each, make a drain."""
    dut, beats = LinkSlack(32), 32

    async def bench(ctx):
        ctx.set(dut.active, 1)
        for cycle in range(2 * beats * unit):
            ctx.set(dut.beat, cycle % unit == unit - 1)
            await ctx.tick()
        ctx.set(dut.beat, 0)
        drain = beats * unit
        for quiet in (drain // 16, drain // 2, 2 * drain + drain // 16, 9 * drain):
            ctx.set(dut.take, 1)
            await ctx.tick()
            ctx.set(dut.take, 0)
            assert ctx.get(dut.slack) == 0
            for _ in range(drain):  # demands have the link
                await ctx.tick()
            ctx.set(dut.quiet, 1)
            for _ in range(quiet):
                await ctx.tick()
            ctx.set(dut.quiet, 0)
            assert ctx.get(dut.slack) == min(63, 16 * quiet // drain)
    simulate(dut, bench)


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("more", [
    {}, {"retain": False}, {"retention": "ewma"}, {"retention": "ewma", "depth": 3},
    {"counted": True}, {"skip": 0.3}, {"rows_slack": 30}])
def test_every_event_of_the_manager_equals_golden(seed, more):
    bench = Bench(geometry(shared=1), seed=seed, tokens=20, worth=90, **more).settle()
    assert Kind.SKIP in bench.kinds and Kind.PREFETCH in bench.kinds
    assert ("rows_slack" in more) == (0 < bench.counts["rows_withheld"])


@pytest.mark.parametrize("judge", [None, Carefree, Credulous])
def test_golden_notices_a_manager_with_another_judge(judge):
    g = geometry()
    other = Golden(g, retain=True, prefetch=True, prefetch_round=6,
                   worth=judge and judge(8, g.config.linear.fraction, 90))
    with pytest.raises(Mismatch, match="golden"):
        Bench(g, seed=0, tokens=60, golden=other, worth=90)


def test_golden_notices_a_manager_that_withholds_rows_at_another_slack():
    g = geometry()
    other = Golden(g, retain=True, prefetch=True, prefetch_round=6,
                   worth=Lavish(8, g.config.linear.fraction, 90, 30))
    with pytest.raises(Mismatch, match="TOKEN"):
        Bench(g, seed=0, tokens=60, golden=other, worth=90, rows_slack=30)


def test_a_floor_out_of_range_is_refused():
    with pytest.raises(ValueError, match="floor is 256, not 0 to 255"):
        Worth(8, None, 256)
