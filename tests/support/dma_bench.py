"""The DMA with a memory and a buffer around it."""

import random
import zlib

from amaranth.sim import Simulator

from stmoe.config import AcceleratorConfig, Geometry, ModelShape
from stmoe.interfaces import Status
from stmoe.prefetch.dma import PrefetchDma

__all__ = ["Bench", "base", "geometry"]

def base(g):
    """Where experts begin: 4 KiB boundaries are away from those of tiles without a CRC."""
    return 0x5_0C40 // g.alignment * g.alignment



def geometry(**more):
    model = ModelShape(layers=3, experts=8, top_k=2, d_model=64, d_ff=32, shared_experts=1,
                       shared_d_ff=32)
    return Geometry(AcceleratorConfig(**{
        "model": model, "slots": 16, "outstanding": 4, "burst_beats": 32, "retries": 2,
        "integrity": False, **more}))


class Bench:
    """A DMA, a memory, and what the buffer would hold; ``script`` plays the manager.

    A beat of an expert is its own number in memory, or, with ``integrity``, closes a tile with the
    CRC of such beats. ``faults``: address of a burst -> times it fails; ``corrupt``: address of a
    beat -> times that it comes with the bits ``flip`` wrong.
    """

    LATENCY = 20

    def __init__(self, g, script, *, seed=1, stall=0.0, reorder=True, faults=None, corrupt=None,
                 flip=1, latency=LATENCY, experts=None):
        self.g, self.dut = g, PrefetchDma(g)
        self.corrupt, self.flip = dict(corrupt or {}), flip
        self.experts = experts or g.config.model.experts  # at run time
        self.rng = random.Random(seed)
        self.stall, self.reorder, self.latency = stall, reorder, latency
        self.faults = dict(faults or {})  # address -> times it fails
        self.bursts, self.statuses, self.landed = [], [], {}
        self.marks, self.history, self.cycle = {}, {}, 0
        self.counts = dict.fromkeys(("beats", "bursts", "retried", "corrupted"), 0)
        self.hold_status, self.failures, self.waits = False, [], []
        sim = Simulator(self.dut)
        sim.add_clock(1e-8)

        async def run(ctx):
            for name in ("blob_beats", "stride"):
                ctx.set(self.dut.shape[name], getattr(g, name))
            ctx.set(self.dut.shape.experts, self.experts)
            ctx.set(self.dut.shape.base, base(g))
            await script(self, ctx)
        sim.add_testbench(run)
        sim.add_testbench(self.memory, background=True)
        sim.add_testbench(self.watch, background=True)
        sim.run()

    def blob_address(self, layer, expert):
        model = self.g.config.model
        if expert >= model.experts:  # shared, right behind the routed ones
            expert -= model.experts - self.experts
        return base(self.g) + (layer * (self.experts + model.shared_units) + expert) * self.g.stride

    def word(self, address):
        """What a beat of memory holds."""
        g, number = self.g, address // self.g.axi_bytes
        beat = (address - base(g)) % g.stride // g.axi_bytes
        in_tile = beat % g.tile_beats
        if not g.config.integrity or (in_tile != g.tile_beats - 1 and beat != g.blob_beats - 1):
            return number
        words = range(number - in_tile, number)
        return zlib.crc32(b"".join(word.to_bytes(g.axi_bytes, "little") for word in words))

    def arrives(self, address):
        """The same as it comes over the bus."""
        word = self.word(address)
        if self.corrupt.get(address, 0):
            self.corrupt[address] -= 1
            word ^= self.flip
        return word

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
                if offered:
                    data = self.arrives(current[2])
            ctx.set(axi.r.valid, offered)
            if offered:
                _, name, address, left, resp = current
                ctx.set(axi.r.payload, {"data": data, "id": name, "last": left == 1,
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
                if payload.kind == Status.FAILED:
                    self.failures.append((payload.slot, payload.tile, bool(payload.corrupt)))
            if ctx.get(dut.first_beat.valid):
                self.waits.append(ctx.get(dut.first_beat.cycles))
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
        await ctx.tick()
        ctx.set(getattr(self.dut, kind).valid, 0)
        assert ctx.get(self.dut.cancel_ack) == (kind == "cancel")
        return ctx.get(self.dut.cancel_beats)

    async def settle(self, ctx, limit=200_000):
        quiet = 0
        while quiet < 4:
            quiet = 0 if ctx.get(self.dut.active) or ctx.get(self.dut.status.valid) else quiet + 1
            await ctx.tick()
            assert self.cycle < limit, "the DMA hangs"

    def holds(self, slot, layer, expert):
        """Whether ``slot`` holds the expert's blob, whole."""
        g = self.g
        first = self.blob_address(layer, expert) // g.axi_bytes
        room = g.tile_beats - g.config.integrity
        return self.landed[slot] == {i: first + i + (i // room if g.config.integrity else 0)
                                     for i in range(g.content_beats)}
