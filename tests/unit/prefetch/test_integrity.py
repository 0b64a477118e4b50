"""Tiles with a CRC: what was corrupted on its way is read again, then reported, never used."""

import random

import pytest
from amaranth.sim import Simulator

from stmoe.interfaces import Status
from stmoe.prefetch.crc import TileCheck
from stmoe.prefetch.dma import PrefetchDma
from stmoe_golden.prefetch.legalise import legalise
from support.dma_bench import Bench, base, geometry


def sealed(**more):
    return geometry(**{"integrity": True, "burst_beats": 64, **more})


async def three(bench, ctx):
    """Three experts on demand, into slots of their own number."""
    for slot in range(3):
        await bench.put(ctx, "demand", 0, slot, slot)
    await bench.settle(ctx)


def beat(g, expert, tile, at):
    """Address of a beat of a tile of an expert of layer 0; ``at`` -1 is its CRC."""
    last = min((tile + 1) * g.tile_beats, g.blob_beats) - 1
    number = last if at < 0 else tile * g.tile_beats + at
    return base(g) + expert * g.stride + number * g.axi_bytes


SHAPES = [{}, {"outstanding": 1}, {"axi_data_bits": 32, "tile_bytes": 64}, {"burst_beats": 5},
          {"axi_data_bits": 512, "rows": 8, "tile_bytes": 128, "outstanding": 8},
          {"axi_data_bits": 256, "rows": 8, "tile_bytes": 4096, "burst_beats": 128}]


@pytest.mark.parametrize("stall", [0.0, 0.4])
@pytest.mark.parametrize("more", SHAPES)
def test_sealed_experts_land_whole_and_without_their_crcs(more, stall):
    g = sealed(**more)
    bench = Bench(g, three, stall=stall)
    want = []
    for slot in range(3):
        assert bench.holds(slot, 0, slot)
        want += legalise(g, bench.blob_address(0, slot), g.blob_beats)
        marks = [beats for _, beats in bench.history[slot]]
        assert marks == sorted(set(marks)) and marks[0] == 0 and marks[-1] == g.blob_beats
        assert all(mark % (g.tile_beats - 1) == 0 for mark in marks[:-1])
    assert len(want) == 3 * g.tiles  # a tile is a burst
    assert sorted(bench.bursts) == sorted(want)
    assert bench.counts == {
        "beats": 3 * g.blob_beats, "bursts": len(want), "retried": 0, "corrupted": 0}


@pytest.mark.parametrize("more", SHAPES)
@pytest.mark.parametrize(("tile", "at"), [(0, 0), (0, -1), (1, 0), (-1, 0), (-1, -1)])
def test_a_corrupt_tile_is_read_again(more, tile, at):
    g = sealed(**more)
    where = beat(g, 1, tile % g.tiles, at)
    flip = 1 << random.Random(tile).randrange(g.config.axi_data_bits)
    bench = Bench(g, three, stall=0.1, corrupt={where: g.config.retries}, flip=flip)
    assert all(bench.holds(slot, 0, slot) for slot in range(3))
    assert not bench.failures
    assert bench.counts["corrupted"] == bench.counts["retried"] == g.config.retries


@pytest.mark.parametrize("more", SHAPES)
@pytest.mark.parametrize("tile", [0, 1, -1])
def test_a_tile_that_stays_corrupt_is_reported_by_its_number(more, tile):
    g = sealed(**more)
    tile %= g.tiles
    bench = Bench(g, three, corrupt={beat(g, 1, tile, 0): g.config.retries + 1})
    assert bench.failures == [(1, tile, True)]
    assert (1, Status.DONE) not in bench.statuses
    assert bench.marks[1] == g.blob_beats  # whoever waits for it goes on
    before = [beats for _, beats in bench.history[1]][:-1]
    assert max(before) <= tile * (g.tile_beats - 1)  # nothing of it was called good
    assert bench.holds(0, 0, 0) and bench.holds(2, 0, 2)


def test_a_bus_error_is_no_corruption_and_names_its_tile():
    g = sealed()
    failing = legalise(g, base(g), g.blob_beats)[3][0]
    bench = Bench(g, three, faults={failing: g.config.retries + 1})
    assert bench.failures == [(0, 3, False)]
    assert bench.counts["corrupted"] == 0


def test_both_kinds_of_failure_share_the_retries():
    g = sealed()
    address = legalise(g, base(g), g.blob_beats)[2][0]
    bench = Bench(g, three, faults={address: 1}, corrupt={address: 1})
    assert not bench.failures and bench.holds(0, 0, 0)
    bench = Bench(g, three, faults={address: 2}, corrupt={address: 3})
    assert bench.failures == [(0, 2, True)]  # the last of three attempts


@pytest.mark.parametrize("seed", range(6))
def test_a_mark_covers_checked_beats_only(seed):
    """Whatever is corrupt, every beat below a watermark is as it lies in memory."""
    g = sealed(tile_bytes=128, outstanding=8, retries=7)
    rng = random.Random(seed)
    corrupt = {beat(g, expert, rng.randrange(g.tiles), rng.choice([0, 3, 7, -1])): 3
               for expert in range(3) for _ in range(8)}
    room = g.tile_beats - 1

    async def script(bench, ctx):
        for slot in range(3):
            await bench.put(ctx, "demand", 0, slot, slot)
        while ctx.get(bench.dut.active):
            for slot, mark in bench.marks.items():
                first = bench.blob_address(0, slot) // g.axi_bytes
                for at in range(min(mark, g.content_beats)):
                    assert bench.landed[slot][at] == first + at + at // room
            for _ in range(7):
                await ctx.tick()
    bench = Bench(g, script, seed=seed, stall=0.2, corrupt=corrupt, flip=1 << rng.randrange(64))
    assert bench.counts["corrupted"] > 8 and not bench.failures


@pytest.mark.parametrize("after", [1, 5, 20, 40, 90, 100, 110, 300])
def test_a_cancelled_transfer_with_corrupt_tiles_leaves_its_slot_alone(after):
    g = sealed(tile_bytes=64, outstanding=8)
    corrupt = {beat(g, 0, tile, 2): 2 for tile in range(g.tiles)}

    async def script(bench, ctx):
        await bench.put(ctx, "prefetch", 0, 0, 5)
        for _ in range(after):
            await ctx.tick()
        await bench.pulse(ctx, "cancel", 5)
        bench.statuses.clear()
        await bench.put(ctx, "demand", 1, 4, 5)
        await bench.settle(ctx)
    bench = Bench(g, script, corrupt=corrupt)
    assert bench.holds(5, 1, 4) and not bench.failures
    assert bench.statuses == [(5, Status.FIRST), (5, Status.DONE)]


def test_without_the_check_wrong_data_are_called_good(monkeypatch):
    """The check is what keeps them away: without it the tests above fail."""
    elaborate = TileCheck.elaborate

    def blind(self, platform):
        m = elaborate(self, platform)
        m.d.comb += self.verdict.good.eq(1)  # the last assignment counts
        return m
    monkeypatch.setattr(TileCheck, "elaborate", blind)
    g = sealed()
    bench = Bench(g, three, corrupt={beat(g, 1, 1, 0): 1})
    assert not bench.holds(1, 0, 1) and not bench.failures


def test_a_transfer_cancelled_when_it_is_whole_counts_its_content():
    """DONE waits in ``status`` and the channel is given up: CRCs were never written."""
    g = sealed()
    dut = PrefetchDma(g)
    sim = Simulator(dut)
    sim.add_clock(1e-8)

    async def ask(ctx):
        ctx.set(dut.shape.blob_beats, g.blob_beats)
        ctx.set(dut.cancel.valid, 1)
        await ctx.tick()
        assert ctx.get(dut.cancel_ack)
        assert ctx.get(dut.cancel_beats) == g.blob_beats
        assert ctx.get(dut.cancel_landed) == g.content_beats < g.blob_beats
    sim.add_testbench(ask)
    sim.run()
