"""The DMA against a memory that answers out of order, with stalls and errors."""

import random

import pytest
from amaranth.sim import Simulator

from stmoe.config import AcceleratorConfig, Geometry, ModelShape
from stmoe.interfaces import Status
from stmoe.prefetch.dma import PREFETCHES, PrefetchDma
from stmoe_golden.prefetch.legalise import legalise

BASE = 0x5_0C40  # bursts meet 4 KiB boundaries away from tile boundaries


def geometry(**more):
    model = ModelShape(layers=3, experts=8, top_k=2, d_model=64, d_ff=32, shared_experts=1,
                       shared_d_ff=32)
    return Geometry(AcceleratorConfig(**{
        "model": model, "slots": 16, "outstanding": 4, "burst_beats": 32, "retries": 2, **more}))


class Bench:
    """A DMA, a memory, and what the buffer would hold; ``script`` plays the manager."""

    def __init__(self, g, script, *, seed=1, stall=0.0, reorder=True, faults=None, latency=20,
                 experts=None):
        self.g, self.dut = g, PrefetchDma(g)
        self.experts = experts or g.config.model.experts  # at run time
        self.rng = random.Random(seed)
        self.stall, self.reorder, self.latency = stall, reorder, latency
        self.faults = dict(faults or {})  # address -> times it fails
        self.bursts, self.statuses, self.landed = [], [], {}
        self.marks, self.history, self.cycle = {}, {}, 0
        self.counts = dict.fromkeys(("beats", "bursts", "retried"), 0)
        self.hold_status = False
        sim = Simulator(self.dut)
        sim.add_clock(1e-8)

        async def run(ctx):
            for name in ("blob_beats", "stride"):
                ctx.set(self.dut.shape[name], getattr(g, name))
            ctx.set(self.dut.shape.experts, self.experts)
            ctx.set(self.dut.shape.base, BASE)
            await script(self, ctx)
        sim.add_testbench(run)
        sim.add_testbench(self.memory, background=True)
        sim.add_testbench(self.watch, background=True)
        sim.run()

    def blob_address(self, layer, expert):
        model = self.g.config.model
        if expert >= model.experts:  # shared, right behind the routed ones
            expert -= model.experts - self.experts
        return BASE + (layer * (self.experts + model.shared_units) + expert) * self.g.stride

    async def memory(self, ctx):
        axi, size = self.dut.axi, self.g.axi_bytes
        waiting = []  # [due, id, address, beats left, resp at the end]
        current = None
        offered = False
        while True:
            ctx.set(axi.ar.ready, self.rng.random() >= self.stall)
            if not offered:
                ripe = [b for b in waiting if b[0] <= self.cycle]
                if current is None and ripe:
                    current = self.rng.choice(ripe) if self.reorder else ripe[0]
                    waiting.remove(current)
                offered = current is not None and self.rng.random() >= self.stall
            ctx.set(axi.r.valid, offered)
            if offered:
                _, name, address, left, resp = current
                ctx.set(axi.r.payload, {"data": address // size, "id": name, "last": left == 1,
                                        "resp": resp if left == 1 else 0})
            taken = ctx.get(axi.ar.valid) and ctx.get(axi.ar.ready)
            request = ctx.get(axi.ar.payload)
            got = offered and ctx.get(axi.r.ready)
            await ctx.tick()
            self.cycle += 1
            if got:
                current[2] += size
                current[3] -= 1
                offered = False
                if current[3] == 0:
                    current = None
            if taken:
                address, length = request.addr, request.len + 1
                assert request.id not in [b[1] for b in waiting]
                assert (1 << request.size) == size and request.burst == 1
                fails = self.faults.get(address, 0)
                if fails:
                    self.faults[address] = fails - 1
                self.bursts.append((address, length))
                waiting.append([self.cycle + self.latency, request.id, address, length,
                                self.rng.choice([2, 3]) if fails else 0])

    async def watch(self, ctx):
        """Files beats, watermarks, reports and increments."""
        dut = self.dut
        while True:
            ready = not self.hold_status and self.rng.random() >= self.stall
            ctx.set(dut.status.ready, ready)
            await ctx.delay(1e-9)
            if ctx.get(dut.progress.valid):
                slot, beats = ctx.get(dut.progress.slot), ctx.get(dut.progress.beats)
                if beats == 0:
                    self.landed[slot] = {}
                    self.history[slot] = []
                self.marks[slot] = beats
                self.history[slot].append((self.cycle, beats))
            if ctx.get(dut.fill.valid):
                payload = ctx.get(dut.fill.payload)
                self.landed[payload.slot][payload.beat] = payload.data
            if ctx.get(dut.status.valid) and ready:
                payload = ctx.get(dut.status.payload)
                self.statuses.append((payload.slot, Status(payload.kind)))
            for name in self.counts:
                self.counts[name] += ctx.get(getattr(dut, name))
            await ctx.tick()

    async def put(self, ctx, kind, layer, expert, slot):
        port = getattr(self.dut, kind)
        ctx.set(port.payload, {"layer": layer, "expert": expert, "slot": slot})
        ctx.set(port.valid, 1)
        taken = False
        while not taken:
            *_, taken = await ctx.tick().sample(port.ready)
        ctx.set(port.valid, 0)

    async def pulse(self, ctx, kind, slot):
        """Promote or cancel; the beats that a cancelled transfer has cost."""
        ctx.set(getattr(self.dut, kind), {"valid": 1, "slot": slot})
        *_, ack, beats = await ctx.tick().sample(self.dut.cancel_ack, self.dut.cancel_beats)
        ctx.set(getattr(self.dut, kind).valid, 0)
        assert kind == "promote" or ack
        return beats

    async def settle(self, ctx, limit=200_000):
        quiet = 0
        while quiet < 4:
            quiet = 0 if ctx.get(self.dut.active) or ctx.get(self.dut.status.valid) else quiet + 1
            await ctx.tick()
            assert self.cycle < limit, "the DMA hangs"

    def holds(self, slot, layer, expert):
        """Whether ``slot`` holds the expert's blob, whole."""
        first = self.blob_address(layer, expert) // self.g.axi_bytes
        return self.landed[slot] == {i: first + i for i in range(self.g.blob_beats)}


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
    assert bench.counts == {"beats": len(orders) * g.blob_beats, "bursts": len(want), "retried": 0}


def test_shared_experts_follow_fewer_routed_ones_at_run_time():
    orders = [(2, 4, 3), (0, 8, 1), (1, 0, 15), (2, 8, 7)]

    async def script(bench, ctx):
        for order in orders:
            await bench.put(ctx, "demand", *order)
        await bench.settle(ctx)
    bench = Bench(geometry(), script, experts=5)
    for layer, expert, slot in orders:
        assert bench.holds(slot, layer, expert)
    assert bench.blob_address(2, 8) == BASE + (3 * 6 - 1) * bench.g.stride


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
        assert not ctx.get(bench.dut.prefetch.ready), f"more than {PREFETCHES} prefetches in hand"
        await bench.put(ctx, "demand", 0, 2, 2)
        await bench.pulse(ctx, "promote", 1)
        await bench.settle(ctx)
        order.update({slot: i for i, (slot, kind) in enumerate(bench.statuses)
                      if kind == Status.DONE})
    bench = Bench(g, script, reorder=False)
    assert order[1] < order[0] and order[2] < order[0]
    assert all(bench.holds(slot, 0, slot) for slot in range(3))
    assert bench.counts["beats"] == 3 * g.blob_beats


@pytest.mark.parametrize("burst_beats, outstanding", [(32, 8), (16, 8), (64, 8), (64, 1)])
def test_a_demand_waits_for_few_bursts_of_prefetches(burst_beats, outstanding):
    g = geometry(burst_beats=burst_beats, outstanding=outstanding)
    assert g.prefetch_bursts == min(outstanding, 1 + 64 // burst_beats)
    assert burst_beats // 2 < most_in_flight(g) <= g.prefetch_bursts * burst_beats


def test_more_bursts_of_prefetches_in_flight_are_noticed(monkeypatch):
    g = geometry(burst_beats=32, outstanding=8)
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
    passing = legalise(g, BASE, g.blob_beats)[3][0]
    lasting = legalise(g, BASE + g.stride, g.blob_beats)[5][0]

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
