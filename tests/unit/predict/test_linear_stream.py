"""Lexical rows in expert memory: the store alone, and under the linear predictor."""

import dataclasses
import gc
import random

import numpy as np
import pytest
from amaranth.sim import Simulator

from stmoe.config import AcceleratorConfig, ConfigError, Geometry, ModelShape
from stmoe.config.lexical_layout import LexicalLayout
from stmoe.predict.linear import LinearPredictor
from stmoe.predict.linear_shape import LinearShape
from stmoe.predict.linear_stream import LexicalStream
from stmoe_sim.lexical import identity_rows, pack_rows, unpack_rows
from support.axi_memory import AxiMemory
from support.linear_bench import Bench, Expected, golden_rows, on_chip

LAYERS, EXPERTS = 5, 20
OPTIONS = on_chip(lexical=8, lexical_store="memory")


def geometry(layers=LAYERS, experts=EXPERTS, **more):
    """With AXI ids for the store beside those of the prefetch DMA."""
    model = ModelShape(layers=layers, experts=experts, top_k=2, d_model=64, d_ff=32)
    return Geometry(AcceleratorConfig(**{
        "model": model, "router_layers": 0, "outstanding": 12, **more}))


def random_rows(options, layers, experts, seed=3):
    limit = options.row_limit
    return np.random.default_rng(seed).integers(-limit, limit + 1,
                                                (options.lexical, layers, experts))


class Store:
    """A store before a memory with random rows; ``script`` plays the predictor."""

    def __init__(self, script, *, g=None, options=OPTIONS, reads=4, behind=0x2345, **memory):
        g = self.g = g or geometry()
        self.dut = LexicalStream(LinearShape(g, options), first_id=3, reads=reads)
        self.layout = LexicalLayout(g, options)
        model = g.config.model
        self.rows = random_rows(options, model.layers, model.experts)
        self.base = self.layout.base_behind(behind)
        self.memory = AxiMemory(
            self.dut.port.read, self.dut.port.write, axi_bytes=g.axi_bytes,
            ids=range(3, 3 + reads), **memory)
        self.memory.data = bytearray(self.base) + bytearray(pack_rows(self.rows, self.layout))
        self.errors, self.counts, self.cycle = [], [0, 0], 0
        sim = Simulator(self.dut)
        sim.add_clock(1e-8)

        async def run(ctx):
            ctx.set(self.dut.port.base, self.base)
            await script(self, ctx)
        sim.add_testbench(run)
        sim.add_testbench(self.watch, background=True)
        self.memory.attach(sim)
        sim.run()

    async def watch(self, ctx):
        port = self.dut.port
        async for _, _, error, read, written in ctx.tick().sample(
                port.error, port.beats_read, port.beats_written):
            self.cycle += 1
            assert self.cycle < 200_000, "the store hangs"
            self.counts[0] += read
            self.counts[1] += written
            if error.valid:
                self.errors.append(error.layer)

    async def begin(self, ctx, identity):
        dut = self.dut
        ctx.set(dut.identity, identity % (1 << dut.shape.lexical_bits))
        ctx.set(dut.begin, 1)
        await ctx.tick()
        ctx.set(dut.begin, 0)

    async def wait(self, ctx, layer):
        ctx.set(self.dut.ready_layer, layer)
        while not ctx.get(self.dut.ready):
            await ctx.tick()

    async def read(self, ctx, layer):
        """int [expert], the row of a layer once it is there."""
        dut = self.dut
        await self.wait(ctx, layer)
        ctx.set(dut.read_layer, layer)
        ctx.set(dut.read, 1)
        await ctx.tick()
        ctx.set(dut.read, 0)
        row = ctx.get(dut.row)
        return np.array([row[e] for e in range(dut.shape.experts)])

    async def write(self, ctx, layer, row):
        dut = self.dut
        ctx.set(dut.write_layer, layer)
        ctx.set(dut.write_row, row.tolist())
        ctx.set(dut.write, 1)
        await ctx.tick()
        ctx.set(dut.write, 0)

    async def settle(self, ctx, flush=False):
        if flush:
            ctx.set(self.dut.port.flush, 1)
            await ctx.tick()
            ctx.set(self.dut.port.flush, 0)
        while ctx.get(self.dut.port.busy):
            await ctx.tick()

    def contents(self):
        return unpack_rows(bytes(self.memory.data[self.base:]), self.layout)

    def row_address(self, identity, layer):
        return self.layout.address(self.base, identity, layer)


MACHINES = {
    "three rows a page": (geometry(), OPTIONS),
    "one beat": (geometry(axi_data_bits=256, rows=8), OPTIONS),
    "many beats": (geometry(3, 60, axi_data_bits=32), dataclasses.replace(OPTIONS, bits=16)),
    "one layer, one row": (geometry(1, 4), dataclasses.replace(OPTIONS, lexical=1, bits=5)),
}


@pytest.mark.parametrize("name", MACHINES)
@pytest.mark.parametrize("stall", [0.0, 0.4])
@pytest.mark.parametrize("latency", [(3, 8), (3, 120)])
def test_rows_are_kept_whatever_the_memory_does(name, stall, latency):
    g, options = MACHINES[name]
    model = g.config.model
    rng = random.Random(f"{name} {stall} {latency}")

    async def script(bench, ctx):
        want = bench.rows.copy()
        identity = 0
        for _ in range(35):
            identity = rng.choice([identity, rng.randrange(24), rng.randrange(3)])
            row = identity % options.lexical
            await bench.begin(ctx, identity)
            if rng.random() < 0.1:  # of no use: the next one comes at once
                continue
            used = rng.randint(1, model.layers)  # not every token is seen to its end
            for layer in range(used):
                np.testing.assert_array_equal(await bench.read(ctx, layer), want[row, layer])
                if rng.random() < 0.7:
                    change = np.array([rng.randint(-options.row_limit, options.row_limit)
                                       for _ in range(model.experts)])
                    await bench.write(ctx, layer, change)
                    want[row, layer] = change
            if rng.random() < 0.1:
                await bench.settle(ctx, flush=rng.random() < 0.5)
                if rng.random() < 0.5:
                    continue
        await bench.settle(ctx, flush=True)
        bench.want = want
    bench = Store(script, g=g, options=options, stall=stall, latency=latency,
                  interleave=True, seed=len(name), reads=rng.choice([1, 3, 4]))
    np.testing.assert_array_equal(bench.contents(), bench.want)
    assert not bench.errors
    assert bench.counts == [bench.memory.read_beats, bench.memory.write_beats]


def test_a_token_of_the_same_row_moves_nothing():
    async def script(bench, ctx):
        for identity in (2, 2, 10, 2):  # 10 mod 8
            await bench.begin(ctx, identity)
            await bench.read(ctx, 4)
            await bench.write(ctx, 1, np.ones(EXPERTS, int))
        await bench.settle(ctx)
    bench = Store(script)
    assert bench.memory.reads == [bench.row_address(2, layer) for layer in range(LAYERS)]
    assert not bench.memory.writes


def test_only_changed_rows_are_written_and_behind_the_next_token():
    async def script(bench, ctx):
        await bench.begin(ctx, 1)
        await bench.wait(ctx, 4)
        for layer in (0, 3):
            await bench.write(ctx, layer, np.full(EXPERTS, layer))
        await bench.begin(ctx, 5)
        while len(bench.memory.reads) < 2 * LAYERS:
            assert not bench.memory.writes
            await ctx.tick()
        await bench.settle(ctx)
    bench = Store(script)
    assert bench.memory.writes == [bench.row_address(1, layer) for layer in (0, 3)]
    assert bench.counts == [2 * LAYERS * bench.layout.row_beats, 2 * bench.layout.row_beats]


def test_a_row_is_ready_before_the_later_ones():
    async def script(bench, ctx):
        await bench.begin(ctx, 6)
        for layer in range(LAYERS):
            await bench.wait(ctx, layer)
            bench.at.append(bench.cycle)
    Store.at = []
    bench = Store(script, latency=(50, 50), reads=1)
    assert bench.at[0] < 70 and np.diff(bench.at).min() >= 50
    assert bench.memory.asked[0] == 5  # begin, what is wanted, change of banks, AR, taken


def test_a_token_returning_at_once_reads_what_it_learnt():
    """Its write-back is acknowledged late; a read before would see the old row."""
    async def script(bench, ctx):
        await bench.begin(ctx, 1)
        await bench.wait(ctx, 4)
        await bench.write(ctx, 2, np.full(EXPERTS, 77))
        await bench.begin(ctx, 3)
        await ctx.tick()
        await bench.begin(ctx, 1)
        np.testing.assert_array_equal(await bench.read(ctx, 2), np.full(EXPERTS, 77))
        await bench.begin(ctx, 3)
        await bench.wait(ctx, 4)
        await bench.begin(ctx, 1)
        np.testing.assert_array_equal(await bench.read(ctx, 2), np.full(EXPERTS, 77))
    Store(script, latency=(200, 300))


def test_a_row_that_cannot_be_read_is_zero_and_is_not_written():
    async def script(bench, ctx):
        await bench.begin(ctx, 4)
        assert not (await bench.read(ctx, 2)).any()
        np.testing.assert_array_equal(await bench.read(ctx, 3), bench.rows[4, 3])
        for layer in (2, 3):
            await bench.write(ctx, layer, np.full(EXPERTS, 5))
        assert not (await bench.read(ctx, 2)).any()
        await bench.begin(ctx, 0)
        await bench.wait(ctx, 0)
        await bench.begin(ctx, 4)
        np.testing.assert_array_equal(await bench.read(ctx, 2), bench.rows[4, 2])
        np.testing.assert_array_equal(await bench.read(ctx, 3), np.full(EXPERTS, 5))
    g = geometry()
    layout = LexicalLayout(g, OPTIONS)
    address = layout.address(layout.base_behind(0x2345), 4, 2)
    bench = Store(script, read_faults={address: 1}, interleave=True)
    assert bench.errors == [2]
    assert bench.memory.writes == [bench.row_address(4, 3)]


def test_a_row_that_cannot_be_written_is_as_before():
    async def script(bench, ctx):
        await bench.begin(ctx, 4)
        await bench.wait(ctx, 4)
        for layer in range(LAYERS):
            await bench.write(ctx, layer, np.full(EXPERTS, layer))
        await bench.settle(ctx, flush=True)
    layout = LexicalLayout(geometry(), OPTIONS)
    address = layout.address(layout.base_behind(0x2345), 4, 3)
    bench = Store(script, write_faults={address: 1}, latency=(30, 60), stall=0.3)
    assert bench.errors == [3]
    want = bench.rows.copy()
    want[4] = np.arange(LAYERS)[:, None]
    want[4, 3] = bench.rows[4, 3]
    np.testing.assert_array_equal(bench.contents(), want)


def test_without_a_token_rows_are_zero_and_nothing_moves():
    async def script(bench, ctx):
        assert not (await bench.read(ctx, 1)).any()
        await bench.write(ctx, 1, np.ones(EXPERTS, int))
        await bench.begin(ctx, 2)
        await bench.read(ctx, 1)
        await bench.settle(ctx, flush=True)
        assert not (await bench.read(ctx, 1)).any()
        await bench.write(ctx, 1, np.ones(EXPERTS, int))
        await bench.settle(ctx, flush=True)
    bench = Store(script)
    assert len(bench.memory.reads) == LAYERS and not bench.memory.writes


class StreamBench(Bench):
    """The predictor with its rows in memory, flushed in the end."""

    def __init__(self, unit, operations, *, rows, base=0, axi=None, **more):
        self.base, layout = base, LexicalLayout(unit.geometry, unit.options)
        port = unit.port
        self.memory = AxiMemory(port.read, port.write, axi_bytes=unit.geometry.axi_bytes,
                                **(axi or {}))
        self.memory.data = bytearray(base) + bytearray(pack_rows(rows, layout))
        super().__init__(unit, operations, **more)
        self.streamed = unpack_rows(bytes(self.memory.data[base:]), layout)

    def attach(self, sim):
        self.memory.attach(sim)

    async def stimulus(self, ctx):
        port = self.unit.port
        ctx.set(port.base, self.base)
        await super().stimulus(ctx)
        ctx.set(port.flush, 1)
        await ctx.tick()
        ctx.set(port.flush, 0)
        while ctx.get(port.busy):
            await ctx.tick()


def tokens(g, count, seed, *, repeat=0.25):
    rng, model = random.Random(seed), g.config.model
    operations, identity = [], 0
    for t in range(count):
        if rng.random() >= repeat:
            identity = rng.randrange(-1, 24)
        operations.append(("token", identity, t % 17 == 0))
        if rng.random() < 0.05:
            operations.append(("set", {"enable": rng.random() < 0.8}))
        for layer in range(model.layers):
            pool = [(identity + 3 * layer + i) % model.experts for i in range(6)]
            operations.append(("observe", layer, rng.sample(pool, model.top_k)))
    return operations


@pytest.mark.parametrize(("stall", "latency"), [(0.0, (1, 3)), (0.0, (20, 150)), (0.4, (5, 40))])
def test_predictions_and_rows_in_memory_equal_golden(stall, latency):
    g = geometry(3, 8)
    options = on_chip(lexical=8, lexical_store="memory", features=((0, 1), (1, 0)))
    operations = tokens(g, 80, seed=9)
    want = Expected(g, options, operations)
    rows = np.zeros((8, 3, 8), int)
    bench = StreamBench(LinearPredictor(g, options), operations, rows=rows, stall=stall / 2,
                        axi=dict(stall=stall, latency=latency, interleave=True), base=0x1000)
    for at, (found, wanted) in enumerate(zip(bench.rounds, want.rounds, strict=True)):
        assert found == wanted, f"round {at}: {found} is not {wanted}"
    np.testing.assert_array_equal(bench.weights, golden_rows(want.golden))
    np.testing.assert_array_equal(bench.streamed, want.golden.lexical)
    assert bench.counts == want.counts
    assert want.golden.lexical.any(axis=2).all()
    assert {op[1]["enable"] for op in operations if op[0] == "set"} == {False, True}


@pytest.mark.parametrize(("stall", "latency"), [(0.0, (1, 3)), (0.3, (20, 150))])
@pytest.mark.parametrize("names", [("lexical", "pair", "previous"), ("pair",),
                                   ("lexical", "previous")])
def test_all_tables_in_memory_equal_golden(names, stall, latency):
    g = geometry(3, 8)
    sizes = {"lexical": 8, "pair": 16, "previous": 4}
    options = on_chip(features=((0, 1), (1, 0)), leaders=((0, 2),), stages=3,
                      lexical_store="memory",
                      **{name: sizes[name] * (name in names) for name in sizes})
    operations = tokens(g, 60, seed=5)
    want = Expected(g, options, operations)
    golden = want.golden
    bench = StreamBench(
        LinearPredictor(g, options), operations, stall=stall / 2, base=0x1000,
        rows=np.zeros_like(identity_rows(golden)),
        axi=dict(stall=stall, latency=latency, interleave=True))
    for at, (found, wanted) in enumerate(zip(bench.rounds, want.rounds, strict=True)):
        assert found == wanted, f"round {at}: {found} is not {wanted}"
    np.testing.assert_array_equal(bench.weights, golden_rows(golden))
    np.testing.assert_array_equal(bench.streamed, identity_rows(golden))
    assert bench.counts == want.counts
    assert all(getattr(golden, name).any() for name in names)


def test_unknown_identities_and_a_predictor_that_is_off_move_nothing():
    g = geometry(3, 8)
    operations = [op if op[0] != "token" else ("token", -1, op[2])
                  for op in tokens(g, 5, seed=2) if op[0] != "set"]
    known = [op for op in tokens(g, 5, seed=2) if op[0] != "set"]
    unit = LinearPredictor(g, OPTIONS)
    bench = StreamBench(unit, [*operations, ("set", {"enable": 0}), *known],
                        rows=random_rows(OPTIONS, 3, 8))
    assert not bench.memory.reads and not bench.memory.writes


def test_bytes_of_a_row():
    g = geometry(2, 4, axi_data_bits=32)
    options = on_chip(lexical=2, lexical_store="memory", bits=6)
    layout = LexicalLayout(g, options)
    rows = np.zeros((2, 2, 4), int)
    rows[1, 1] = [1, -1, 31, -31]
    memory = pack_rows(rows, layout)
    assert (layout.row_beats, layout.row_stride, layout.token_stride) == (1, 4, 8)
    assert memory == bytes(12) + bytes([0b11_000001, 0b1111_1111, 0b100001_01, 0])
    np.testing.assert_array_equal(unpack_rows(memory, layout), rows)


@pytest.mark.parametrize("bits", [4, 9, 10, 16])
@pytest.mark.parametrize("axi_data_bits", [32, 512])
def test_no_row_crosses_a_page_and_none_overlaps(bits, axi_data_bits):
    for experts in (4, 100, 512):
        g = geometry(3, experts, axi_data_bits=axi_data_bits, rows=8)
        layout = LexicalLayout(g, on_chip(lexical=4, lexical_store="memory", bits=bits))
        taken = layout.row_beats * g.axi_bytes
        assert layout.row_bytes <= taken <= layout.row_stride and layout.row_beats <= 256
        base = layout.base_behind(12345)
        starts = [layout.address(base, t, layer) for t in range(4) for layer in range(3)]
        assert min(np.diff(starts)) >= taken
        assert all(a // 4096 == (a + taken - 1) // 4096 for a in starts)
        assert starts[-1] + taken <= base + layout.memory_bytes
        rows = random_rows(layout.options, 3, experts)
        np.testing.assert_array_equal(unpack_rows(pack_rows(rows, layout), layout), rows)


@pytest.mark.filterwarnings("ignore::amaranth.hdl.UnusedElaboratable")
def test_wrong_values_are_named():
    g = geometry(outstanding=8)
    LexicalStream(LinearShape(g, OPTIONS), first_id=12)
    with pytest.raises(ConfigError, match="lexical ids"):
        LexicalStream(LinearShape(g, OPTIONS), first_id=13)
    gc.collect()
    layout = LexicalLayout(g, OPTIONS)
    with pytest.raises(ConfigError, match="multiple of 256"):
        layout.check_base(128)
    with pytest.raises(ConfigError, match="at most"):
        layout.check_base(1 << 40)
    with pytest.raises(ConfigError, match="of shape"):
        pack_rows(np.zeros((1, 2, 3)), layout)
    with pytest.raises(ConfigError, match="from -511 to 511"):
        pack_rows(np.full((8, LAYERS, EXPERTS), 512), layout)
    with pytest.raises(ConfigError, match="bytes long"):
        unpack_rows(b"", layout)
