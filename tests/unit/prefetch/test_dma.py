"""The DMA against a memory that answers out of order, with stalls and errors."""

import random

import pytest

from stmoe.config import Geometry, ModelShape
from stmoe.interfaces import Status
from stmoe.prefetch import dma
from stmoe_golden.prefetch.legalise import legalise
from support.dma_bench import Bench, base, geometry


@pytest.mark.parametrize("stall", [0.0, 0.4])
@pytest.mark.parametrize("more", [{}, {"outstanding": 1}, {"axi_data_bits": 256, "rows": 8},
                                  {"tile_bytes": 64, "outstanding": 8}])
def test_experts_land_whole_in_legal_bursts(stall, more):
    g = geometry(**more)
    orders = [(2, 7, 3), (0, 8, 1), (1, 0, 15), (0, 3, 0), (2, 2, 7), (1, 8, 3)]

    async def script(bench, ctx):
        for index, order in enumerate(orders):
            if order[2] == 3 and index:
                await bench.settle(ctx)  # a slot has one transfer at a time
            await bench.put(ctx, "demand", *order)
        await bench.settle(ctx)
    bench = Bench(g, script, stall=stall)
    want = []
    for layer, expert, slot in orders[1:]:
        assert bench.holds(slot, layer, expert)
    for layer, expert, _ in orders:
        want += legalise(g, bench.blob_address(layer, expert), g.blob_beats)
    assert sorted(bench.bursts) == sorted(want)
    assert bench.statuses.count((3, Status.DONE)) == 2
    for _, _, slot in orders:
        kinds = [kind for s, kind in bench.statuses if s == slot]
        assert kinds in ([Status.FIRST, Status.DONE], [Status.FIRST, Status.DONE] * 2)
        marks = [beats for _, beats in bench.history[slot]]
        assert marks == sorted(set(marks)) and marks[0] == 0 and marks[-1] == g.blob_beats
    assert bench.counts == {"beats": len(orders) * g.blob_beats, "bursts": len(want),
                            "retried": 0, "corrupted": 0}


def test_shared_experts_follow_fewer_routed_ones_at_run_time():
    orders = [(2, 4, 3), (0, 8, 1), (1, 0, 15), (2, 8, 7)]

    async def script(bench, ctx):
        for order in orders:
            await bench.put(ctx, "demand", *order)
        await bench.settle(ctx)
    bench = Bench(geometry(), script, experts=5)
    for layer, expert, slot in orders:
        assert bench.holds(slot, layer, expert)
    assert bench.blob_address(2, 8) == base(bench.g) + (3 * 6 - 1) * bench.g.stride


def test_a_beat_has_landed_when_its_watermark_says_so():
    g = geometry()

    async def script(bench, ctx):
        await bench.put(ctx, "demand", 0, 1, 2)
        while bench.marks.get(2, 0) < g.blob_beats:
            await ctx.tick()
            assert set(range(bench.marks.get(2, 0))) <= set(bench.landed.get(2, {}))
        await bench.settle(ctx)
    Bench(g, script, stall=0.3)


def test_demand_overtakes_prefetch_and_promotion_is_no_second_read():
    g = geometry()
    order = {}

    async def script(bench, ctx):
        await bench.put(ctx, "prefetch", 0, 0, 0)
        await bench.put(ctx, "prefetch", 0, 1, 1)
        for _ in range(60):
            await ctx.tick()
        assert not ctx.get(bench.dut.prefetch.ready), "more than half are prefetches"
        await bench.put(ctx, "demand", 0, 2, 2)
        await bench.pulse(ctx, "promote", 1)
        await bench.settle(ctx)
        order.update({slot: i for i, (slot, kind) in enumerate(bench.statuses)
                      if kind == Status.DONE})
    bench = Bench(g, script, reorder=False)
    assert order[1] < order[0] and order[2] < order[0]
    assert all(bench.holds(slot, 0, slot) for slot in range(3))
    assert bench.counts["beats"] == 3 * g.blob_beats


def cycles_of_small_experts():
    """Experts of a short burst each, on a wide bus to a slow memory, one right after the other."""
    model = ModelShape(layers=3, experts=8, top_k=2, d_model=32, d_ff=16)
    g = geometry(model=model, axi_data_bits=512, rows=8, outstanding=8, burst_beats=64,
                 tile_bytes=4096)
    assert g.blob_beats <= 40

    async def script(bench, ctx):
        for slot in range(16):
            await bench.put(ctx, "demand", slot // 8, slot % 8, slot)
        await bench.settle(ctx)
    return Bench(g, script, reorder=False, latency=200).cycle, 16 * g.blob_beats


def test_small_experts_are_as_many_in_hand_as_bursts_may_be(monkeypatch):
    cycles, beats = cycles_of_small_experts()
    assert cycles < 2 * 200 + 1.2 * beats
    monkeypatch.setattr(Geometry, "transfers", 4)
    assert cycles_of_small_experts()[0] > cycles + 200


@pytest.mark.parametrize("outstanding, bits, transfers", [
    (2, 64, 4), (8, 64, 4), (4, 512, 4), (8, 512, 8), (16, 512, 12)])
def test_transfers_in_hand_follow_the_bus(outstanding, bits, transfers):
    g = geometry(axi_data_bits=bits, rows=8, outstanding=outstanding, burst_beats=64)
    assert g.transfers == transfers


@pytest.mark.parametrize("burst_beats, outstanding", [(32, 8), (16, 8), (64, 8), (64, 1)])
def test_a_demand_waits_for_a_burst_of_prefetches_at_most(burst_beats, outstanding):
    g = geometry(burst_beats=burst_beats, outstanding=outstanding)
    assert g.prefetch_bursts == min(outstanding, 1 + 64 // burst_beats)
    latency = Bench.LATENCY + 3  # of the bench, and on the way
    most = most_in_flight(g)
    assert burst_beats // 2 < most <= burst_beats + latency + dma.ISSUE
    assert most <= g.prefetch_bursts * burst_beats


def test_more_bursts_of_prefetches_in_flight_are_noticed(monkeypatch):
    g = geometry(burst_beats=32, outstanding=8)
    usual = most_in_flight(g)
    monkeypatch.setattr(dma, "ISSUE", 1000)
    assert usual < most_in_flight(g) <= g.prefetch_bursts * 32
    allowed = g.prefetch_bursts * 32
    monkeypatch.setattr(Geometry, "prefetch_bursts", 8)
    assert most_in_flight(g) > allowed


def most_in_flight(g):
    """Most beats asked for and not yet received while there are only prefetches; a demand follows.
    """
    most = []

    async def script(bench, ctx):
        await bench.put(ctx, "prefetch", 0, 0, 0)
        await bench.put(ctx, "prefetch", 0, 1, 1)
        for _ in range(200):
            await ctx.tick()
            asked = sum(length for _, length in bench.bursts)
            most.append(asked - bench.counts["beats"])
        first = len(bench.bursts)
        await bench.put(ctx, "demand", 0, 2, 2)
        while bench.blob_address(0, 2) not in [address for address, _ in bench.bursts[first:]]:
            await ctx.tick()
        await bench.settle(ctx)
    bench = Bench(g, script, reorder=False)
    assert all(bench.holds(slot, 0, slot) for slot in range(3))
    return max(most)


def demands_among_prefetches(g, stall=0.0):
    """Cycles from a demand to its first beat, as the DMA tells them and as the ports do."""
    seen = []

    async def script(bench, ctx):
        for index in range(8):
            for slot in range(2):
                await bench.put(ctx, "prefetch", 0, slot, 2 * (index % 2) + slot)
            for _ in range(bench.rng.randrange(60, 100)):
                await ctx.tick()
            slot, begun = 8 + index, bench.cycle
            await bench.put(ctx, "demand", 1, index, slot)
            await bench.put(ctx, "demand", 2, index, 6)  # one is in hand: not counted
            while not bench.landed[slot]:
                await ctx.tick()
            seen.append(bench.cycle - begun)
            await bench.settle(ctx)
    bench = Bench(g, script, reorder=False, stall=stall)
    return bench.waits, seen


@pytest.mark.parametrize("stall", [0.0, 0.4])
def test_the_wait_for_a_first_beat_is_counted(stall):
    waits, seen = demands_among_prefetches(geometry(outstanding=8), stall)
    assert waits == [cycles - 2 for cycles in seen] and len(set(waits)) > 1


def test_the_counted_wait_is_a_burst_and_the_latency(monkeypatch):
    g = geometry(outstanding=8)
    most = g.config.burst_beats + Bench.LATENCY + 8
    assert max(demands_among_prefetches(g)[0]) <= most
    monkeypatch.setattr(dma, "ISSUE", 1000)
    monkeypatch.setattr(Geometry, "prefetch_bursts", 8)
    assert max(demands_among_prefetches(g)[0]) > most


@pytest.mark.parametrize("after", [0, 1, 2, 3, 4, 5, 6, 10, 40, 100, 300, 850, 2000])
def test_a_cancelled_transfer_leaves_its_slot_alone(after):
    g = geometry()
    cost = []

    async def script(bench, ctx):
        bench.hold_status = after == 2000  # its report waits: it must be withdrawn
        await bench.put(ctx, "prefetch", 0, 0, 5)
        for _ in range(after):
            await ctx.tick()
        done = (5, Status.DONE) in bench.statuses
        if not done:
            cost.append(await bench.pulse(ctx, "cancel", 5))
        bench.statuses.clear()
        bench.hold_status = False
        await bench.put(ctx, "demand", 1, 4, 5)  # the slot at once for another
        await bench.settle(ctx)
    bench = Bench(g, script)
    assert bench.holds(5, 1, 4)
    assert bench.statuses == [(5, Status.FIRST), (5, Status.DONE)]
    if cost:
        assert bench.counts["beats"] == g.blob_beats + cost[0]
        assert cost[0] <= g.blob_beats and (cost[0] == g.blob_beats or after < 2000)


@pytest.mark.parametrize("seed", range(4))
def test_random_orders_promotions_and_cancellations(seed):
    g = geometry(tile_bytes=256)
    rng = random.Random(seed)
    alive, lost, ordered = {}, [], []

    async def script(bench, ctx):
        for _ in range(60):
            slot = rng.randrange(16)
            finished = {s for s, kind in bench.statuses if kind == Status.DONE}
            if slot in alive and slot not in finished:
                if rng.random() < 0.5:
                    lost.append(await bench.pulse(ctx, "cancel", slot))
                    del alive[slot]
                    bench.statuses = [entry for entry in bench.statuses if entry[0] != slot]
                else:
                    await bench.pulse(ctx, "promote", slot)
                continue
            layer, expert = rng.randrange(3), rng.randrange(9)
            bench.statuses = [entry for entry in bench.statuses if entry[0] != slot]
            alive[slot] = (layer, expert)
            await bench.put(ctx, rng.choice(["demand", "prefetch"]), layer, expert, slot)
            ordered.append(slot)
            for _ in range(rng.choice([0, 0, 30, 400])):
                await ctx.tick()
        await bench.settle(ctx)
    bench = Bench(g, script, seed=seed, stall=0.2)
    for slot, (layer, expert) in alive.items():
        assert bench.holds(slot, layer, expert)
        assert [kind for s, kind in bench.statuses if s == slot] == [Status.FIRST, Status.DONE]
    whole = len(ordered) - len(lost)
    assert bench.counts["beats"] == whole * g.blob_beats + sum(lost)


def test_a_bus_error_is_retried_and_then_reported():
    g = geometry()
    passing = legalise(g, base(g), g.blob_beats)[3][0]
    lasting = legalise(g, base(g) + g.stride, g.blob_beats)[5][0]

    async def script(bench, ctx):
        await bench.put(ctx, "demand", 0, 0, 0)
        await bench.put(ctx, "demand", 0, 1, 1)
        await bench.put(ctx, "demand", 0, 2, 2)
        await bench.settle(ctx)
    bench = Bench(g, script, stall=0.1, faults={passing: 2, lasting: 3})
    assert bench.holds(0, 0, 0) and bench.holds(2, 0, 2)
    assert [kind for s, kind in bench.statuses if s == 0] == [Status.FIRST, Status.DONE]
    assert (1, Status.FAILED) in bench.statuses and (1, Status.DONE) not in bench.statuses
    assert bench.marks[1] == g.blob_beats  # whoever waits for it goes on
    assert bench.counts["retried"] == 4


def test_back_to_back_experts_fill_the_link():
    g = geometry(outstanding=8, burst_beats=64)

    async def script(bench, ctx):
        for slot in range(12):
            await bench.put(ctx, "demand", 0, slot % 9, slot)
        await bench.settle(ctx)
    bench = Bench(g, script, reorder=False)
    first = next(c for c, beats in bench.history[0] if beats)
    last = bench.history[11][-1][0]
    carried = 12 * g.blob_beats - bench.history[0][1][1]
    assert carried / (last - first) > 0.98
