"""The order in which words are issued, and that none is lost between two experts."""

import itertools

import pytest
from amaranth.sim import Simulator

from stmoe.compute.issue import IssueUnit
from stmoe.config import PRESETS, Geometry

CONFIG = PRESETS["tiny"].replace(
    model_layers=1, model_experts=4, model_top_k=1, model_d_model=64, model_d_ff=32, max_d_ff=64,
    slots=4, pes=1, predictor="none", router_layers=0)
GEOMETRY = Geometry(CONFIG)
WIDEST = Geometry(CONFIG, GEOMETRY.max_d_ff)
FULL = {"in_words": GEOMETRY.in_words, "gu_groups": WIDEST.gu_groups,
        "dn_tiles": WIDEST.dn_tiles, "out_groups": GEOMETRY.out_groups}
EXPERTS = 3


def order(shape):
    """Down, index, group of every word of an expert: activations within row groups, then row
    groups within hidden tiles."""
    up = itertools.product(range(shape["gu_groups"]), range(shape["in_words"]))
    down = itertools.product(range(shape["dn_tiles"]), range(shape["out_groups"]))
    return [(0, index, group) for group, index in up] + [(1, *word) for word in down]


def expected(shape):
    """What each cycle is to issue."""
    words = order(shape)
    inner = [shape["in_words"], shape["dn_tiles"]]
    return [(slot, at, down, index, group, index == 0, index == inner[down] - 1,
             at == 0, at == len(words) - 1)
            for slot in range(EXPERTS) for at, (down, index, group) in enumerate(words)]


def issued(shape, late=0):
    """What each cycle issued from the first word to the last, ``None`` for nothing; for ``late``
    cycles no hidden value is there."""
    dut = IssueUnit(GEOMETRY)
    words = len(order(shape))
    cycles = []

    async def bench(ctx):
        for name, value in shape.items():
            ctx.set(dut.shape[name], value)
        ctx.set(dut.shape.side_words, 1)
        ctx.set(dut.shape.blob_beats, 1)
        for watermark in (dut.watermark, dut.watermark_next):
            ctx.set(watermark, (1 << len(watermark)) - 1)
        ctx.set(dut.activations, shape["in_words"])
        await ctx.tick().repeat(4)
        given = 0
        for cycle in range(EXPERTS * words + late + 12):
            ctx.set(dut.hidden, shape["dn_tiles"] * CONFIG.lanes if cycle >= late else 0)
            ctx.set(dut.work.valid, given < EXPERTS)
            ctx.set(dut.work.payload.slot, given % 4)
            cycles.append(None if not ctx.get(dut.go) else tuple(ctx.get(value) for value in (
                dut.slot, dut.word, dut.down, dut.index, dut.group, dut.first, dut.last,
                dut.begin, dut.end)))
            given += ctx.get(dut.work.valid) & ctx.get(dut.work.ready)
            await ctx.tick()

    simulator = Simulator(dut)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()
    while cycles[-1] is None:
        cycles.pop()
    return cycles[next(at for at, one in enumerate(cycles) if one):]


@pytest.mark.parametrize("sizes", [
    {}, {"in_words": 2}, {"gu_groups": 1}, {"dn_tiles": 1}, {"out_groups": 4, "dn_tiles": 2},
    {"in_words": 2, "gu_groups": 1, "dn_tiles": 1, "out_groups": 4},
    {"in_words": 3, "gu_groups": 5, "dn_tiles": 3, "out_groups": 7}],
    ids=lambda sizes: "-".join(f"{name}={size}" for name, size in sizes.items()) or "full")
def test_every_word_comes_once_in_order_without_a_pause(sizes):
    shape = FULL | sizes
    assert issued(shape) == expected(shape)


def test_a_pause_and_another_shape_are_seen():
    gate_up = FULL["in_words"] * FULL["gu_groups"]
    assert issued(FULL, late=gate_up + 20) != expected(FULL)
    assert issued(FULL | {"dn_tiles": 2}) != expected(FULL)
