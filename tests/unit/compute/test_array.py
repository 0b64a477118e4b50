"""PE array against the golden expert: chasing arrivals, under back-pressure, in several shapes."""

import random

import numpy as np
import pytest
from amaranth.hdl import Const
from amaranth.sim import Simulator

from stmoe.compute.array import PeArray
from stmoe.config import AcceleratorConfig, Geometry, ModelShape
from stmoe.interfaces import BufferReadSignature
from stmoe_golden.compute.blob import pack
from stmoe_golden.compute.expert import Expert, moe_layer

FOUR_BITS = {"weight_group": 32, "d_model": 64, "d_ff": 64}


def geometry(rows=4, lanes=8, pes=2, d_model=32, d_ff=16, **more):
    return Geometry(AcceleratorConfig(
        model=ModelShape(layers=2, experts=8, top_k=2, d_model=d_model, d_ff=d_ff),
        pes=pes, rows=rows, lanes=lanes, slots=8, axi_data_bits=32,
        integrity=False).replace(**more))  # the array never sees a CRC


class Bench:
    """Slots in Python behind the array's ports; layers pushed through one after the other."""

    def __init__(self, g, seed, stall, rate):
        self.g, self.stall = g, stall
        self.random = random.Random(seed)
        self.rng = np.random.default_rng(seed)
        self.rate = rate  # beats landing per cycle and slot; 0 = all there from the start
        self.slots = [b""] * g.banks
        self.landed = [0] * g.banks
        self.released, self.mac_words, self.side_reads = [], 0, 0
        self.busy = []  # words issued per cycle, from the first one on
        self.dut = PeArray(g)

    def words(self, slot, index, size, start):
        return int.from_bytes(self.slots[slot][start + index * size:start + (index + 1) * size],
                              "little")

    async def memory(self, ctx):
        """Answers every read three cycles later, every watch in its cycle."""
        g, reads = self.g, self.dut.read
        side = g.side_words * g.side_bytes
        pending = [[(None, None, None)] * (BufferReadSignature.LATENCY - 1) for _ in reads]
        members = []
        for read in reads:
            members += [read.en, read.slot, read.word, read.param_en, read.param_slot, read.row,
                        read.group if g.config.weight_group else Const(0)]
        async for _clk, _rst, *values in ctx.tick().sample(
                *members, self.dut.mac_words, self.dut.side_reads):
            self.mac_words += values[-2]
            self.side_reads += values[-1]
            if self.mac_words:
                self.busy.append(values[-2])
            words = [tuple(values[7 * index + 1:7 * index + 3]) for index in range(len(reads))
                     if values[7 * index]]
            assert len(dict(words)) == len(set(words)), "two words of a slot in a cycle"
            for index, read in enumerate(reads):
                en, slot, word, param_en, param_slot, row, group = values[7 * index:7 * index + 7]
                data, scales, params = pending[index].pop(0)
                ctx.set(read.data, data if data is not None else self.random.getrandbits(64))
                ctx.set(read.params, params if params is not None else self.random.getrandbits(64))
                if g.config.weight_group:
                    ctx.set(read.scales, self.random.getrandbits(32) if scales is None else scales)
                if en:
                    need = (side + (word + 1) * g.word_bytes) // g.axi_bytes
                    assert self.landed[slot] >= need, "read before it landed"
                pending[index].append((
                    self.words(slot, word, g.word_bytes, side) if en else None,
                    self.words(slot, group, g.config.rows, g.param_words * g.side_bytes)
                    if en else None,
                    self.words(param_slot, row, 4 * g.config.rows, 0) if param_en else None))
            for slot, blob in enumerate(self.slots):
                if blob and self.rate:
                    self.landed[slot] = min(g.blob_beats, self.landed[slot]
                                            + (self.random.random() < self.rate))
            self.show_watermarks(ctx)

    def show_watermarks(self, ctx):
        for read in self.dut.read:
            ctx.set(read.watermark, self.landed[ctx.get(read.watch)])
            ctx.set(read.watermark_next, self.landed[ctx.get(read.watch_next)])

    async def releases(self, ctx):
        release, held = self.dut.release, None
        patience = 0
        while True:
            if not patience and self.random.random() < self.stall / 10:
                patience = self.random.randrange(400)  # until another PE has something to release
            patience = max(0, patience - 1)
            ready = not patience
            ctx.set(release.ready, ready)
            _, _, valid, slot = await ctx.tick().sample(release.valid, release.payload.slot)
            assert held is None or (valid and slot == held), f"slot {held} was withdrawn"
            held = slot if valid and not ready else None
            if valid and ready:
                self.released.append(slot)

    async def send(self, ctx, port, payloads):
        for payload in payloads:
            while self.random.random() < self.stall:
                await ctx.tick()
            ctx.set(port.payload, payload)
            ctx.set(port.valid, 1)
            ready = 0
            while not ready:
                _, _, ready = await ctx.tick().sample(port.ready)
            ctx.set(port.valid, 0)

    async def activations(self, ctx):
        size = self.g.config.lanes
        for x in self.inputs:
            while self.x_wanted == 0:
                await ctx.tick()
            self.x_wanted -= 1
            data = x.tobytes()
            await self.send(ctx, self.dut.x, [
                int.from_bytes(data[at:at + size], "little") for at in range(0, len(data), size)])

    async def layers(self, ctx):
        g, dut = self.g, self.dut
        shape = {name: getattr(g, name) for name in (
            "in_words", "gu_groups", "dn_tiles", "out_groups", "side_words", "blob_beats")}
        for name, value in shape.items():
            ctx.set(dut.shape[name], value)
        for x, experts, gates in self.plan:
            count = len(experts)
            slots = self.random.sample(range(g.banks), count)
            self.x_wanted += 1
            for _ in range(self.random.randrange(8)):
                await ctx.tick()
            ctx.set(dut.start, 1)
            ctx.set(dut.count, count)
            await ctx.tick()
            ctx.set(dut.start, 0)
            for slot, expert in zip(slots, experts, strict=True):
                self.landed[slot] = 0 if self.rate else g.blob_beats
                self.slots[slot] = pack(expert, g)
            self.show_watermarks(ctx)
            await self.send(ctx, dut.work, [{"slot": slot, "gate": int(gate)}
                                            for slot, gate in zip(slots, gates, strict=True)])
            await self.settle(ctx, slots, moe_layer(x, experts, gates))

    async def settle(self, ctx, slots, want):
        """The packet is ``want`` (int16, any shape), and ``slots`` have been released."""
        dut, data, last = self.dut, b"", 0
        while not last:
            ready = self.random.random() >= self.stall
            ctx.set(dut.result.ready, ready)
            _, _, valid, payload = await ctx.tick().sample(dut.result.valid, dut.result.payload)
            if valid and ready:
                data += int(payload.data).to_bytes(self.g.config.rows * 2, "little")
                last = payload.last
        ctx.set(dut.result.ready, 0)
        want = np.asarray(want)
        assert np.array_equal(np.frombuffer(data, np.int16).reshape(want.shape), want)
        assert sorted(self.released) == sorted(slots)
        self.released.clear()
        for slot in slots:
            self.slots[slot] = b""

    def run(self, layers, count):
        model = self.g.config.model
        self.plan = [(self.rng.integers(-128, 128, model.d_model, np.int8),
                      [Expert.random(self.rng, model.d_model, self.g.ff, self.g.config.weight_group)
                       for _ in range(count)],
                      self.rng.integers(0, 65536, count).astype(np.uint16))
                     for _ in range(layers)]
        self.inputs = [x for x, _, _ in self.plan]
        self.x_wanted = 0
        simulator = Simulator(self.dut)
        simulator.add_clock(1e-6)
        simulator.add_testbench(self.memory, background=True)
        simulator.add_testbench(self.releases, background=True)
        simulator.add_testbench(self.activations, background=True)
        simulator.add_testbench(self.layers)
        simulator.run()


@pytest.mark.parametrize("shape", [
    {}, {"pes": 1}, {"pes": 1, "d_ff": 8}, {"pes": 3, "rows": 2, "lanes": 4},
    {"rows": 8, "lanes": 4},
    {"rows": 16, "lanes": 4, "d_model": 64, "d_ff": 32}, {"rows": 4, "lanes": 32, "d_model": 64,
                                                         "d_ff": 32},
    {**FOUR_BITS, "pes": 1, "lanes": 32, "d_ff": 32}, {**FOUR_BITS, "weight_group": 64}])
@pytest.mark.parametrize("stall, rate", [(0, 0), (0.4, 0.5)])
def test_layers_equal_golden(shape, stall, rate):
    bench = Bench(geometry(**shape), 7, stall, rate)
    bench.run(layers=3, count=4)
    g = bench.g
    assert bench.mac_words == 3 * 4 * g.weight_words
    assert bench.side_reads == 3 * 4 * g.param_rows


@pytest.mark.parametrize("lanes, group", [
    (8, 0), (16, 0), (8, 32)])  # 16: preset tiny, whose tiles leave nothing to spare
def test_no_bubbles_between_resident_experts(lanes, group):
    g = geometry(pes=1, rows=4, lanes=lanes, d_model=64, d_ff=32, weight_group=group)
    bench = Bench(g, 1, 0, 0)
    bench.run(layers=1, count=6)
    words = 6 * g.weight_words
    assert bench.mac_words == words and all(bench.busy[:words])


@pytest.mark.parametrize("shape, size", [({}, 32), (FOUR_BITS, 16), (FOUR_BITS, 4)])
def test_a_wrong_byte_is_noticed(shape, size):  # of a word of weights, or of their scales
    g = geometry(**shape)

    class Broken(Bench):
        def words(self, slot, index, bytes_, start):
            word = super().words(slot, index, bytes_, start)
            return word ^ (1 << 3) if start and index == 5 and bytes_ == size else word

    with pytest.raises(AssertionError):
        Broken(g, 7, 0, 0).run(layers=3, count=4)
