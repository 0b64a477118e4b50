"""Frequencies, due times and victims against golden."""

import random

import pytest
from amaranth.sim import Simulator

from stmoe.buffer import frequency
from stmoe.buffer.frequency import UseFrequency
from stmoe.buffer.retention import VISIT, Retention
from stmoe.buffer.victim import CLOCK_BITS, VictimScan, arrangement
from stmoe.config import AcceleratorConfig, Geometry, ModelShape
from stmoe_golden.buffer import retention as golden


def simulate(dut, bench):
    sim = Simulator(dut)
    sim.add_clock(1e-8)
    sim.add_testbench(bench)
    sim.run()


def geometry(experts=6, **more):
    model = ModelShape(layers=3, experts=experts, top_k=2, d_model=64, d_ff=32, shared_experts=1,
                       shared_d_ff=32)
    return Geometry(AcceleratorConfig(model=model, **more))


def scan(slots, seed, changes=60, broken=False):
    """Random changes, often before a scan is over; every victim that is ready is checked."""
    dut, rng = VictimScan(slots), random.Random(seed)
    state, due = {}, dict.fromkeys(range(slots), 0)

    def expected(clock):
        evictable = [slot for slot, (can, _) in state.items() if can]
        return max(evictable, key=lambda slot: (
            state[slot][1], state[slot][1] or golden.ahead(due[slot], clock),
            slot if broken else -slot), default=None)

    async def bench(ctx):
        clock = (1 << CLOCK_BITS) - 40  # it wraps
        checked = 0
        for slot in range(slots):
            state[slot] = slot % 3 > 0, False
            ctx.set(dut.state, {"valid": 1, "slot": slot, "evictable": slot % 3 > 0, "free": 0})
            ctx.set(dut.due, {"valid": 1, "slot": slot, "time": 0})
            await ctx.tick()
        for _ in range(changes):
            ctx.set(dut.state.valid, 0)
            ctx.set(dut.due.valid, 0)
            ctx.set(dut.hold, rng.random() < 0.1)
            ctx.set(dut.clock, clock)
            kind = rng.randrange(3)
            slot = expected(clock) if rng.random() < 0.5 else None
            slot = rng.randrange(slots) if slot is None else slot
            if kind == 0:
                due[slot] = (clock + rng.randrange(-20, 20)) % (1 << CLOCK_BITS)
                ctx.set(dut.due, {"valid": 1, "slot": slot, "time": due[slot]})
            elif kind == 1:
                state[slot] = rng.random() < 0.5, rng.random() < 0.1
                ctx.set(dut.state, {"valid": 1, "slot": slot, "evictable": state[slot][0],
                                    "free": state[slot][1]})
            await ctx.tick()
            ctx.set(dut.state.valid, 0)
            ctx.set(dut.due.valid, 0)
            if rng.random() < 0.2:
                clock = (clock + VISIT) % (1 << CLOCK_BITS)
                ctx.set(dut.clock, clock)
            if rng.random() < 0.7:
                ctx.set(dut.hold, 0)
                cycles = 0
                while not ctx.get(dut.ready):
                    await ctx.tick()
                    cycles += 1
                assert cycles <= dut.rows + 4
            want = expected(clock)
            if ctx.get(dut.ready) and want is not None:
                checked += 1
                assert ctx.get(dut.victim) == want, (slots, seed, checked)
                assert ctx.get(dut.victim_free) == state[want][1]
                assert ctx.get(dut.victim_due) == due[want]
        assert checked > changes // 3

    simulate(dut, bench)


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("slots", [2, 5, 16, 70, 200])
def test_the_victim_is_due_last(slots, seed):
    scan(slots, seed, changes=60 if slots > 16 else 300)


def test_equal_slots_go_in_their_order_and_the_check_sees_it():
    with pytest.raises(AssertionError):
        scan(5, 0, changes=300, broken=True)


@pytest.mark.parametrize("slots, lanes, rows", [
    (2, 1, 2), (64, 1, 64), (65, 2, 33), (768, 16, 48), (4096, 16, 256)])
def test_lanes_grow_with_the_slots(slots, lanes, rows):
    assert arrangement(slots) == (lanes, rows)


def visits(g, seed, broken=False, count=120):
    """Visits of layers with every expert, in and out of the buffer; due times in order."""
    dut, rng = Retention(g), random.Random(seed)
    model = g.config.model
    use = golden.UseFrequencies(model.layers, model.experts, model.shared_units)
    if broken:
        use.experts = model.expert_ids
    where, found, clock = {}, [], 0

    async def answer(ctx):
        """The residency map."""
        async for _, _, ask, at in ctx.tick().sample(dut.ask, dut.at):
            if ask:
                slot = where.get((at.layer, at.expert))
                ctx.set(dut.found, slot is not None)
                ctx.set(dut.slot, slot or 0)

    async def watch(ctx):
        async for _, _, due in ctx.tick().sample(dut.due):
            if due.valid:
                found.append((due.slot, due.time))

    async def bench(ctx):
        nonlocal clock
        ctx.set(dut.clear, 1)
        for position in range(model.layers << g.expert_bits):
            ctx.set(dut.position, position)
            await ctx.tick()
        ctx.set(dut.clear, 0)
        ctx.set(dut.enable, 1)
        ctx.set(dut.layers, model.layers)
        for number in range(count):
            layer = number % model.layers
            ids = range(model.expert_ids)
            routed = [*rng.sample(range(model.experts), model.top_k), *ids[model.experts:]]
            held = [(a, b) for a in range(model.layers) for b in ids]
            where.clear()
            where.update(zip(rng.sample(held, g.banks), range(g.banks), strict=True))
            ctx.set(dut.route, 1)
            await ctx.tick()
            ctx.set(dut.route, 0)
            ctx.set(dut.layer, layer)
            for expert in routed:
                ctx.set(dut.used, {"valid": 1, "expert": expert})
                await ctx.tick()
            ctx.set(dut.used.valid, 0)
            found.clear()
            ctx.set(dut.visit, 1)
            await ctx.tick()
            ctx.set(dut.visit, 0)
            cycles = 0
            while ctx.get(dut.busy):
                await ctx.tick()
                cycles += 1
            assert cycles <= model.expert_ids + 7
            clock += VISIT
            use.visit(layer, routed)
            await ctx.tick()
            assert found == [(where[layer, e], clock + use.wait(layer, e)) for e in ids
                             if (layer, e) in where], (seed, number)
            late = rng.randrange(model.expert_ids)
            where[layer, late] = 3
            found.clear()
            ctx.set(dut.refresh, {"valid": 1, "expert": late})
            await ctx.tick()
            ctx.set(dut.refresh.valid, 0)
            await ctx.tick().repeat(9)
            assert not ctx.get(dut.busy)
            assert found == [(3, clock + use.wait(layer, late))]

    sim = Simulator(dut)
    sim.add_clock(1e-8)
    sim.add_testbench(bench)
    sim.add_testbench(answer, background=True)
    sim.add_testbench(watch, background=True)
    sim.run()


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("experts", [6, 20])  # more than averages by leader
def test_due_times_are_goldens(seed, experts):
    visits(geometry(experts, slots=9), seed)


@pytest.mark.parametrize("leaders", [1, 8])
def test_another_choice_of_leaders_is_noticed(leaders, monkeypatch):
    monkeypatch.setattr(golden, "LEADERS", leaders)
    with pytest.raises(AssertionError):
        visits(geometry(20, slots=9), 0)


def test_a_shared_expert_that_had_to_earn_its_place_is_noticed():
    with pytest.raises((AssertionError, IndexError)):
        visits(geometry(slots=9), 0, broken=True)


def test_formats_are_goldens():
    assert frequency.SHIFTS == golden.SHIFTS and frequency.WEIGHTS == golden.WEIGHTS
    assert (frequency.LEADERS, (1 << frequency.LED_BITS) - 1) == (golden.LEADERS, golden.LEADER_ONE)
    assert tuple(frequency.WAIT) == golden.WAIT and VISIT == golden.VISIT
    assert CLOCK_BITS == golden.CLOCK_BITS and (1 << frequency.BITS) - 1 == golden.FREQUENCY_ONE


def test_many_uses_saturate_and_disuse_forgets():
    g = geometry(slots=4)
    dut, use = UseFrequency(g), golden.UseFrequencies(3, 6, 1)

    async def bench(ctx):
        ctx.set(dut.layers, 3)
        former = 0
        for number in range(700):
            used = number < 250 or (400 < number < 600 and number % 3 == 0)
            use.visit(2, [1] if used else [])
            ctx.set(dut.ask, {"valid": 1, "update": 1, "used": used, "layer": 2, "expert": 1,
                              "leader": int(used), "former": former})
            former = int(used)
            await ctx.tick()
            ctx.set(dut.ask.valid, 0)
            await ctx.tick().repeat(5)
            assert not ctx.get(dut.wait.valid)
            await ctx.tick()
            assert ctx.get(dut.wait.valid) and ctx.get(dut.wait.time) == use.wait(2, 1), number

    simulate(dut, bench)
