"""Weights of each layer in expert memory, a window of layers on chip, under the linear predictor.
"""

import dataclasses
import gc
import random

import numpy as np
import pytest
from amaranth.sim import Simulator

from stmoe.config import AcceleratorConfig, ConfigError, Geometry, ModelShape
from stmoe.config.weight_layout import WeightLayout
from stmoe.predict.linear import LinearPredictor
from stmoe.predict.linear_shape import LinearShape
from stmoe.predict.linear_window import WeightWindow
from stmoe_golden.predict.unit import LearnedUnit
from stmoe_sim.lexical import (
    identity_rows,
    layer_rows,
    pack_blocks,
    pack_memory,
    unpack_blocks,
    unpack_memory,
)
from support.axi_memory import AxiMemory
from support.linear_bench import Bench, Expected, on_chip

SMALL = dict(weight_store="memory", features=((0, 1), (1, 0)), leaders=((0, 2),), stages=3)
FAST, SLOW = dict(latency=(1, 3)), dict(latency=(60, 120), stall=0.2, interleave=True)
BASE = 0x3000


def geometry(options, layers=5, experts=8, top_k=2, **more):
    model = ModelShape(layers=layers, experts=experts, top_k=top_k, d_model=64, d_ff=32)
    return Geometry(AcceleratorConfig(model=model, router_layers=0, linear=options,
                                      **{"outstanding": 4} | more))


def tokens(g, count, seed, *, sequence=5, identities=7):
    """Tokens that return, some unknown, with related experts across layers and tokens."""
    rng, model = random.Random(seed), g.config.model
    operations = []
    for t in range(count):
        identity = rng.choice([-1, *range(identities)])
        operations.append(("token", identity, t % sequence == 0))
        for layer in range(model.layers):
            pool = [(identity + 3 * layer + i) % model.experts for i in range(2 * model.top_k)]
            operations.append(("observe", layer, rng.sample(pool, model.top_k)))
    return operations


def random_rows(g, seed=4):
    """int [layer, row, expert], weights to begin with."""
    limit, layout = g.config.linear.row_limit, g.weight_layout
    return np.random.default_rng(seed).integers(
        -limit, limit + 1, (g.config.model.layers, layout.rows, g.config.model.experts))


def give(golden, layer, rows):
    """Sets golden's weights of a layer, int [row, expert]."""
    features, leaders = len(golden.weight), len(golden.leader)
    experts = rows.shape[1]
    golden.bias[layer] = rows[0]
    golden.weight[:, layer] = rows[1:1 + features * experts].reshape(features, experts, experts)
    golden.leader[:, layer] = rows[1 + features * experts:].reshape(leaders, experts, experts)


class WindowBench(Bench):
    """The predictor before a memory with its rows. ``("set", {"flush": 1})`` is a flush.

    ``moved``: beats read and written until all was quiet, before the last flush; ``found``: what
    memory holds after it, by kind. ``errors``: layers that were reported.
    """

    def __init__(self, g, operations, *, rows=None, axi=None, **more):
        unit = LinearPredictor(g, g.config.linear)
        self.g, self.errors, self.counted, self.flushing = g, [], [0, 0], False
        first = g.config.outstanding
        self.memory = AxiMemory(unit.port.read, unit.port.write, axi_bytes=g.axi_bytes,
                                ids=range(first, 1 << g.id_bits), **(axi or {}))
        self.memory.data = bytearray(BASE) + bytearray(pack_memory(g, None))
        if rows is not None:
            start = BASE + g.weight_layout.offset
            self.memory.data[start:] = pack_blocks(rows, g.weight_layout)
        super().__init__(unit, operations, **more)
        self.found = unpack_memory(bytes(self.memory.data[BASE:]), g)

    def attach(self, sim):
        self.memory.attach(sim)
        sim.add_testbench(self.watch, background=True)

    async def watch(self, ctx):
        port = self.unit.port
        async for _, _, error, read, written in ctx.tick().sample(
                port.error, port.beats_read, port.beats_written):
            self.counted[0] += read
            self.counted[1] += written
            if error.valid:
                self.errors.append(error.layer)

    def apply(self, ctx, settings):
        settings = dict(settings)
        if settings.pop("flush", 0):
            ctx.set(self.unit.port.flush, 1)
            self.flushing = True
        super().apply(ctx, settings)

    async def settle(self, ctx):
        await ctx.tick()
        ctx.set(self.unit.port.flush, 0)
        self.flushing = False
        while ctx.get(self.unit.port.busy):
            assert self.cycle < 400_000, "the window hangs"
            await ctx.tick()

    async def put(self, ctx, port, payload):
        if self.flushing:
            await self.settle(ctx)
        await super().put(ctx, port, payload)

    async def stimulus(self, ctx):
        ctx.set(self.unit.port.base, BASE)
        await super().stimulus(ctx)
        await self.settle(ctx)
        self.moved = [self.memory.read_beats, self.memory.write_beats]
        ctx.set(self.unit.port.flush, 1)
        await self.settle(ctx)
        assert self.counted == [self.memory.read_beats, self.memory.write_beats]


def same(bench, want, *, patient=True):
    """Rounds, memory and counters are golden's."""
    for at, (found, wanted, least) in enumerate(zip(bench.rounds, want.rounds, want.least,
                                                    strict=True)):
        if not patient:
            wanted = wanted[:max(least, len(found))]
        assert found == wanted, f"round {at}: {found} is not {wanted}"
    np.testing.assert_array_equal(bench.found["layer"], layer_rows(want.golden))
    if "token identity" in bench.found:
        np.testing.assert_array_equal(bench.found["token identity"], identity_rows(want.golden))
    if patient:
        assert bench.counts == want.counts
    assert not bench.errors


def expected_beats(g, operations):
    """Beats read and written, by golden's unit."""
    unit = LearnedUnit(g.config, threshold=0, limit=1)
    for kind, *rest in operations:
        if kind == "token":
            unit.token(*rest)
        else:
            unit.observe(rest[0], rest[1], False)
    counts = unit.counts()
    return [counts["row_beats_read"], counts["row_beats_written"]]


@pytest.mark.parametrize(("layers", "window"), [(5, 2), (5, 4), (3, 2), (3, 4), (2, 2), (2, 8),
                                                (1, 2)])
@pytest.mark.parametrize("axi", [FAST, SLOW], ids=["fast", "slow"])
def test_predictions_weights_and_beats_equal_golden(layers, window, axi):
    options = on_chip(**SMALL, window=window)
    g = geometry(options, layers)
    operations = tokens(g, 6, seed=layers, sequence=4)
    bench = WindowBench(g, operations, axi=axi)
    same(bench, Expected(g, options, operations))
    assert bench.moved == expected_beats(g, operations)


BUSES = {
    "one row a burst": (dict(burst_beats=1, integrity=False), {}, {}),
    "one beat a row": (dict(axi_data_bits=256, rows=8), {}, {}),
    "many beats": (dict(axi_data_bits=32), dict(bits=16), dict(experts=20, top_k=3)),
    "a full page": (dict(burst_beats=256), dict(bits=12), dict(experts=17, layers=3)),
    "all rows by identity beside": ({}, dict(
        lexical=8, pair=4, previous=4, lexical_store="memory"), {}),
    "identity on chip": ({}, dict(lexical=8, pair=4), {}),
}


@pytest.mark.parametrize("name", BUSES)
def test_every_bus_and_neighbour(name):
    bus, more, shape = BUSES[name]
    options = on_chip(**SMALL | more)
    g = geometry(options, **{"layers": 3} | shape, **bus)
    operations = tokens(g, 5, seed=len(name))
    want = Expected(g, options, operations)
    bench = WindowBench(g, operations, stall=0.2,
                        axi=dict(latency=(5, 40), stall=0.2, interleave=True))
    same(bench, want)
    assert bench.moved == expected_beats(g, operations)
    if bench.unit.weights.lexical_data is not None:
        np.testing.assert_array_equal(
            bench.lexical, identity_rows(want.golden).reshape(-1, g.config.model.experts))


def test_saturated_weights_come_back_as_they_were():
    options = on_chip(**SMALL | dict(bits=5, fraction=6, rate=-4))
    g = geometry(options, 3)
    operations = tokens(g, 25, seed=8, sequence=12)
    want = Expected(g, options, operations)
    same(WindowBench(g, operations, axi=FAST), want)
    rows = layer_rows(want.golden)
    assert rows.min() == -15 and rows.max() == 15


def test_weights_to_begin_with_are_those_in_memory():
    options = on_chip(**SMALL)
    g = geometry(options, 3)
    operations, rows = tokens(g, 4, seed=2), random_rows(g)

    def start(golden, at):
        for layer in range(3 * (at == 0)):
            give(golden, layer, rows[layer])
    same(WindowBench(g, operations, rows=rows), Expected(g, options, operations, change=start))


@pytest.mark.parametrize("window", [2, 4])
@pytest.mark.parametrize("patient", [True, False])
def test_deep_rounds_end_with_the_window(window, patient):
    options = on_chip(**SMALL, window=window)
    g = geometry(options)
    deep = ("set", {"depth": 4, "token_depth": 5, "guess": 5, "threshold_deep": -140})
    operations = [deep, *tokens(g, 6, seed=1)]
    want = Expected(g, options, operations)
    bench = WindowBench(g, operations, axi=dict(latency=(5, 40)), patient=patient)
    same(bench, want, patient=patient)
    reached = {max(layer for layer, *_ in found) - layer0 for found in want.rounds if found
               for layer0 in [found[0][0]]}
    assert max(reached) == window - 2


def on_chip_too(g, operations, **how):
    """The same operations with all weights on chip: rounds and rows by layer."""
    options = dataclasses.replace(g.config.linear, weight_store="chip")
    bench = Bench(LinearPredictor(g, options), operations, **how)
    model = g.config.model
    return bench.rounds, bench.weights.reshape(model.layers, -1, model.experts)


@pytest.mark.parametrize("axi", [FAST, SLOW], ids=["fast", "slow"])
@pytest.mark.parametrize("seed", range(3))
def test_tokens_cut_short_other_shapes_and_flushes_change_nothing(axi, seed):
    """Against weights on chip, which know neither window nor flush."""
    window = 2 << seed % 2
    g = geometry(on_chip(**SMALL, window=window), 6)
    rng, operations = random.Random(seed), []
    for t in range(9):
        whole = tokens(g, 1, seed=20 * seed + t)
        used = rng.choice([6, 6, 6, 2, 4])
        if rng.random() < 0.3:  # fewer layers, and more again
            operations.append(("set", {"layers": used}))
        elif rng.random() < 0.3:
            operations.append(("set", {"enable": rng.random() < 0.7}))
        if rng.random() < 0.2:
            operations.append(("set", {"flush": 1}))
        operations += whole[:1 + rng.choice([used, used, rng.randrange(used)])]
    bench = WindowBench(g, operations, axi=axi)
    plain = [op for op in operations if op != ("set", {"flush": 1})]
    rounds, rows = on_chip_too(g, plain)
    assert bench.rounds == rounds
    np.testing.assert_array_equal(bench.found["layer"], rows)
    assert len(plain) < len(operations)


@pytest.mark.parametrize("axi", [FAST, SLOW], ids=["fast", "slow"])
def test_layers_left_out_or_changed_within_a_token_end_every_round(axi):
    g = geometry(on_chip(**SMALL, window=4), 6)
    rng, operations = random.Random(1), []
    for t in range(7):
        whole = tokens(g, 1, seed=t)
        at = rng.randrange(1, 5)
        change = rng.choice([("set", {"layers": rng.choice([3, 4, 6])}), ("set", {"flush": 1}),
                             ("set", {"depth": rng.choice([0, 6])})])
        operations += [*whole[:at], change, *whole[at + rng.choice([0, 1]):]]
    bench = WindowBench(g, operations, axi=axi)
    assert len(bench.rounds) == sum(op[0] != "set" for op in operations)
    assert not bench.errors


def test_cycles_from_a_want_to_its_weights():
    """AR valid after four cycles; a beat per cycle, the first in the cycle that the memory offers
    it; weights two cycles after the last."""
    g = geometry(on_chip(**SMALL), 3)
    window = WeightWindow(LinearShape(g, g.config.linear), first_id=4)
    memory = AxiMemory(window.port.read, window.port.write, axi_bytes=g.axi_bytes, latency=(0, 0))
    memory.data = bytearray(pack_blocks(random_rows(g), g.weight_layout))
    at = {}

    async def script(ctx):
        ctx.set(window.layers, 3)
        ctx.set(window.layer, 1)
        assert ctx.get(window.absent) and not ctx.get(window.here)
        ctx.set(window.want_layer, 1)
        ctx.set(window.want, 1)
        for cycle in range(200):
            if ctx.get(window.port.read.ar.valid):
                at.setdefault("asked", cycle)
            if ctx.get(window.port.beats_read) and not ctx.get(window.here):
                at["last"] = cycle
            if ctx.get(window.here):
                at.setdefault("here", cycle)
            await ctx.tick()
            ctx.set(window.want, 0)
    sim = Simulator(window)
    sim.add_clock(1e-8)
    memory.attach(sim)
    sim.add_testbench(script)
    sim.run()
    assert at["asked"] == 4 and at["here"] == at["last"] + 2
    assert at["last"] - at["asked"] <= g.weight_layout.block_beats + 2


def test_a_candidate_comes_as_soon_as_from_chip():
    options = on_chip(**SMALL)
    g = geometry(options)
    operations = []
    for op in tokens(g, 4, seed=6):
        operations += [("wait", 900), op]
    timed = []
    for use in (options, dataclasses.replace(options, weight_store="chip")):
        if use is options:
            bench = WindowBench(g, operations, stall=0, axi=dict(latency=(20, 40)))
        else:
            bench = Bench(LinearPredictor(g, use), operations, stall=0)
        timed.append([[beat - taken for beat in beats] for taken, beats in zip(
            bench.taken, bench.beats, strict=True)])
    assert timed[0][1:] == timed[1][1:]
    assert timed[0][0][0] > timed[1][0][0]  # the first block is waited for


def test_a_block_that_cannot_be_read_is_zero_and_is_not_written():
    options = on_chip(**SMALL)
    g = geometry(options, 3)
    operations, rows = tokens(g, 4, seed=5), random_rows(g)
    failed = WeightLayout(g, options).address(BASE, 1, 0)

    def change(golden, at):
        if at == 0:  # layer 1 is predicted, and learned, without weights in the first token
            for layer in (0, 2):
                give(golden, layer, rows[layer])
        if at == 4:
            give(golden, 1, rows[1])
    want = Expected(g, options, operations, change=change)
    bench = WindowBench(g, operations, rows=rows, axi=dict(read_faults={failed: 1}))
    assert bench.errors == [1]
    bench.errors.clear()
    same(bench, want)
    whole = WindowBench(g, operations, rows=rows)
    assert bench.memory.write_beats < whole.memory.write_beats


def test_a_row_that_cannot_be_written_is_as_before():
    options = on_chip(**SMALL)
    g = geometry(options, 3)
    operations = tokens(g, 3, seed=5)
    bias = WeightLayout(g, options).address(BASE, 2, 0)

    def change(golden, at):
        if at == 4:  # the first token is over
            golden.bias[2] = 0
    want = Expected(g, options, operations, change=change)
    bench = WindowBench(g, operations, axi=SLOW | dict(write_faults={bias: 1}))
    assert bench.errors == [2]
    bench.errors.clear()
    same(bench, want)


@pytest.mark.parametrize("layers", [2, 3])
def test_rows_that_are_read_before_they_are_there_are_noticed(layers):
    """What the design would do that did not wait for its write-back."""
    options = on_chip(**SMALL, window=4)
    g = geometry(options, layers)
    operations = tokens(g, 10, seed=3)
    bench = WindowBench(g, operations, stall=0, axi=dict(posted=600))
    assert bench.rounds != Expected(g, options, operations).rounds


def test_another_place_than_the_layout_has_is_noticed(monkeypatch):
    options = on_chip(**SMALL)
    g = geometry(options, 3)
    operations, rows = tokens(g, 4, seed=2), random_rows(g)
    rounds = WindowBench(g, operations, rows=rows).rounds
    place = WeightLayout.address
    monkeypatch.setattr(WeightLayout, "address", lambda self, base, layer, row: place(
        self, base, layer, row ^ (row < 2)))
    assert WindowBench(g, operations, rows=rows).rounds != rounds


@pytest.mark.parametrize("bits", [4, 10, 16])
@pytest.mark.parametrize("axi_data_bits", [32, 512])
@pytest.mark.parametrize("burst_beats", [1, 48, 256])
def test_no_burst_crosses_a_page_and_no_rows_overlap(bits, axi_data_bits, burst_beats):
    for experts in (4, 100, 512):
        options = on_chip(weight_store="memory", bits=bits, lexical=4, lexical_store="memory",
                          features=((0, 1),))
        g = geometry(options, 3, experts, axi_data_bits=axi_data_bits, rows=8,
                     burst_beats=burst_beats, integrity=burst_beats > 1)
        layout, base = g.weight_layout, g.lexical_base
        taken = layout.row_beats * g.axi_bytes
        burst = layout.burst_rows * layout.row_beats
        assert burst <= max(burst_beats, layout.row_beats) and burst <= 256
        starts = np.array([layout.address(base, layer, row) for layer in range(3)
                           for row in range(layout.rows)])
        assert np.diff(starts).min() >= taken
        first = starts.reshape(3, -1)[:, ::layout.burst_rows]
        assert (first // 4096 == (first + burst * g.axi_bytes - 1) // 4096).all()
        assert starts[0] >= base + g.lexical_layout.memory_bytes
        assert starts[-1] + taken <= g.total_bytes
        assert base % g.lexical_layout.token_stride == base % layout.burst_stride == 0
    rows = random_rows(g)
    np.testing.assert_array_equal(unpack_blocks(pack_blocks(rows, layout), layout), rows)


def test_bytes_of_a_block():
    options = on_chip(weight_store="memory", bits=6, features=())
    g = geometry(options, 2, 4, 1, axi_data_bits=32, burst_beats=8)
    layout = g.weight_layout
    assert (layout.rows, layout.row_beats, layout.burst_rows, layout.bursts) == (1, 1, 8, 1)
    assert (layout.burst_stride, layout.block_stride, layout.offset) == (32, 32, 0)
    memory = pack_blocks(np.array([[[0] * 4], [[1, -1, 31, -31]]]), layout)
    row = bytes([0b11_000001, 0b1111_1111, 0b100001_01, 0])
    assert memory == bytes(32) + row + bytes(28)


@pytest.mark.filterwarnings("ignore::amaranth.hdl.UnusedElaboratable")
def test_wrong_values_are_named():
    options = on_chip(**SMALL)
    g = geometry(options, outstanding=12)
    WeightWindow(LinearShape(g, options), first_id=12)
    with pytest.raises(ConfigError, match="weight ids"):
        WeightWindow(LinearShape(g, options), first_id=13)
    gc.collect()
    with pytest.raises(ConfigError, match="of shape"):
        pack_blocks(np.zeros((1, 2, 3), int), g.weight_layout)
    with pytest.raises(ConfigError, match="from -511 to 511"):
        pack_blocks(random_rows(g) * 0 + 512, g.weight_layout)
    with pytest.raises(ConfigError, match="bytes long"):
        unpack_blocks(b"", g.weight_layout)
    with pytest.raises(ConfigError, match="bytes long"):
        unpack_memory(b"", g)
