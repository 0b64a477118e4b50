"""Residency map against a dictionary."""

import random

import pytest
from amaranth.sim import Simulator

from stmoe.buffer.residency import ResidencyMap
from stmoe.config import AcceleratorConfig, Geometry, ModelShape


def lookups(dut, seed, cycles=400, deaf=False):
    """Random changes and questions; answers of the cycle after, and a cycle later."""
    rng, g, where = random.Random(seed), dut.geometry, {}

    async def bench(ctx):
        asked = kept = None
        for _ in range(cycles):
            tag = (rng.randrange(2), rng.randrange(3))
            tag_also = tag if rng.random() < 0.5 else (rng.randrange(2), rng.randrange(3))
            ask, also = rng.random() < 0.4, rng.random() < 0.4
            write = (also or not ask) and rng.random() < 0.5
            to = tag_also if also and rng.random() < 0.7 else tag
            slot, resident = rng.randrange(g.banks), not also
            if also:  # then experts only cease to be resident
                write, slot = write and to in where, where.get(to, 0)
            before = dict(where)
            for name, value in {
                    "ask": ask, "also_ask": also, "write": write and not deaf,
                    "resident": resident,
                    "to_slot": slot}.items():
                ctx.set(getattr(dut, name), int(value))
            for name, (layer, expert) in {"at": tag, "also_at": tag_also, "to": to}.items():
                ctx.set(getattr(dut, name), {"layer": layer, "expert": expert})
            if write:
                where.pop(to, None)
                if resident:
                    where[to] = slot
            if asked is not None:
                prefix, answer = asked
                assert ctx.get(getattr(dut, f"{prefix}found")) == (answer is not None)
                if answer is not None:
                    assert ctx.get(getattr(dut, f"{prefix}slot")) == answer
            if kept is not None:
                assert ctx.get(dut.kept_found) == (kept[1] is not None)
            kept = asked if asked and not asked[0] else None
            asked = ("also_", before.get(tag_also)) if also else (
                ("", before.get(tag)) if ask else None)
            await ctx.tick()

    sim = Simulator(dut)
    sim.add_clock(1e-8)
    sim.add_testbench(bench)
    sim.run()


def geometry():
    return Geometry(AcceleratorConfig(
        model=ModelShape(layers=2, experts=4, top_k=2, d_model=64, d_ff=32)))


@pytest.mark.parametrize("seed", range(3))
def test_answers_are_what_was_resident(seed):
    lookups(ResidencyMap(geometry()), seed)


def test_a_map_that_misses_changes_is_noticed():
    with pytest.raises(AssertionError):
        lookups(ResidencyMap(geometry()), 0, deaf=True)
