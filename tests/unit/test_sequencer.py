"""Layer command sequencer: order of what leaves it, and refusal of what cannot run."""

import random

import pytest
from amaranth.sim import Simulator

from stmoe.config import AcceleratorConfig, Geometry, ModelShape
from stmoe.interfaces import GATE_ONE, ErrorCode, Opcode
from stmoe.sequencer import Sequencer

CONFIG = AcceleratorConfig(
    model=ModelShape(layers=3, experts=8, top_k=2, d_model=16, d_ff=8, shared_experts=1,
                     shared_d_ff=8),
    pes=1, rows=2, lanes=4, slots=4, axi_data_bits=64, tile_bytes=64, router_layers=2,
    predictor="table+linear")


async def taken(ctx, ready):
    """Wait for the clock edge at which ``ready`` is set."""
    while True:
        _, _, now = await ctx.tick().sample(ready)
        if now:
            return


class Bench:
    """Random back-pressure on every port; what comes out is recorded in order."""

    def __init__(self, seed: int, config: AcceleratorConfig = CONFIG):
        self.seed, self.rng = seed, random.Random(seed)
        self.g = Geometry(config)
        self.dut = Sequencer(self.g)
        self.simulator = Simulator(self.dut)
        self.simulator.add_clock(1e-6)
        self.out = {name: [] for name in (
            "x", "router_x", "router_load", "token", "round", "routed", "observe", "table_load",
            "weights", "route", "result")}
        self.errors, self.details, self.starts = [], [], 0
        for name in self.out:
            self.simulator.add_testbench(self._sink(name), background=True)
        self.simulator.add_process(self._watch)
        self.simulator.add_testbench(self._array, background=True)
        self.acts: list[int] = []
        self.simulator.add_testbench(self._feed_acts, background=True)
        self.simulator.add_testbench(self._route, background=True)
        self.due: list[tuple[int, int]] = []  # layer, ahead_due at every observation
        self.looking = 40  # cycles of looking ahead
        if self.g.looks_ahead:
            self.simulator.add_testbench(self._look, background=True)

    def _sink(self, name):
        async def sample(ctx):
            port = getattr(self.dut, name)
            ready = 0
            ctx.set(port.ready, ready)
            async for _, _, valid, payload in ctx.tick().sample(port.valid, port.payload):
                if valid and ready:
                    self.out[name].append(payload)
                ready = int(self.rng.random() < 0.6)
                ctx.set(port.ready, ready)
        return sample

    async def _watch(self, ctx):
        dut = self.dut
        async for _, _, valid, code, expert, detail, start in ctx.tick().sample(
                dut.error_valid, dut.error_code, dut.error_expert, dut.error_detail, dut.start):
            if valid:
                self.errors.append((code, expert))
                self.details.append(detail)
            self.starts += start

    async def _array(self, ctx):
        port = self.dut.result_in
        while True:
            while not ctx.get(self.dut.start):
                await ctx.tick()
            for beat in range(self.g.out_groups):
                ctx.set(port.payload.data, 7 + beat)
                ctx.set(port.payload.last, beat == self.g.out_groups - 1)
                ctx.set(port.valid, 1)
                await taken(ctx, port.ready)
                ctx.set(port.valid, 0)

    async def _feed_acts(self, ctx):
        port = self.dut.act
        while True:
            if not self.acts or self.rng.random() < 0.3:
                await ctx.tick()
                continue
            ctx.set(port.payload, self.acts.pop(0))
            ctx.set(port.valid, 1)
            await taken(ctx, port.ready)
            ctx.set(port.valid, 0)

    async def _route(self, ctx):
        port = self.dut.gates
        while True:
            await taken(ctx, self.dut.route.valid & self.dut.route.ready)
            for rank in range(CONFIG.model.top_k):
                ctx.set(port.payload, {"expert": rank, "gate": 9, "last": rank == 1})
                ctx.set(port.valid, 1)
                await taken(ctx, port.ready)
                ctx.set(port.valid, 0)

    async def _look(self, ctx):
        dut, left = self.dut, 0
        ctx.set(dut.lookahead, 1)
        async for _, _, order, ahead, heard, layer, due, loads in ctx.tick().sample(
                dut.route.valid & dut.route.ready, dut.route.payload.ahead,
                dut.observe.valid & dut.observe.ready, dut.observe.payload.layer, dut.ahead_due,
                dut.router_load_start):
            assert not (left and loads), "weights replaced while they are read"
            assert ctx.get(dut.looking) == bool(left or (order and ahead))
            if heard:
                self.due.append((layer, due))
            ctx.set(dut.ahead_done, left == 1)
            left = self.looking if order and ahead else max(0, left - 1)

    def play(self, words, acts, *, shape=None, until=lambda bench: False):
        """Send command words; run until ``until`` holds (checked each cycle)."""
        self.acts += acts
        self.finished = False

        async def host(ctx):
            dut = self.dut
            values = {"in_words": self.g.in_words, "gu_groups": self.g.gu_groups,
                      "dn_tiles": self.g.dn_tiles, "out_groups": self.g.out_groups,
                      "side_words": self.g.side_words, "blob_beats": self.g.blob_beats,
                      "slots": 4, "layers": 3, "experts": 8}
            if self.g.config.dense_blobs:
                values |= {name: getattr(self.g, name)
                           for name in ("matrix_tiles", "matrix_parts", "matrix_beats")}
            for name, value in (values | (shape or {})).items():
                ctx.set(dut.shape[name], value)
            await ctx.tick().repeat(2)
            for word in words:
                ctx.set(dut.cmd.payload, word)
                ctx.set(dut.cmd.valid, 1)
                await taken(ctx, dut.cmd.ready)
                ctx.set(dut.cmd.valid, 0)
            for _ in range(2000):
                if until(self):
                    self.finished = True
                    await ctx.tick().repeat(8)
                    return
                await ctx.tick()

        self.simulator.add_testbench(host)
        self.simulator.run()
        assert self.finished, f"seed {self.seed}: not finished; {self.out}, {self.errors}"


def layer_words(layer, experts, tokens=1, flag=0):
    head = Opcode.LAYER | flag << 8 | layer << 16 | tokens << 32
    return [head, *(e | (100 + e) << 16 for e in experts)]


def got_packet(bench):
    return len(bench.out["result"]) == bench.g.out_groups


@pytest.mark.parametrize("seed", range(6))
def test_layer_dispatches_routing_shared_experts_and_activations(seed):
    bench = Bench(seed)
    bench.play([Opcode.TOKEN | 1 << 8, *layer_words(1, [5, 3])], [1, 2, 3, 4], until=got_packet)
    assert [(r.layer, r.expert, r.gate, r.shared, r.last) for r in bench.out["routed"]] == [
        (1, 5, 105, 0, 0), (1, 3, 103, 0, 0), (1, 8, GATE_ONE, 1, 1)]
    assert [(o.expert, o.first_token, o.last) for o in bench.out["observe"]] == [
        (5, 1, 0), (3, 1, 1)]
    assert bench.out["x"] == [1, 2, 3, 4] and bench.starts == 1
    assert [r.data for r in bench.out["result"]] == [7 + i for i in range(bench.g.out_groups)]
    assert not any(r.error for r in bench.out["result"]) and not bench.errors


@pytest.mark.parametrize("words,shape,code", [
    (layer_words(3, [5, 3]), {}, ErrorCode.BAD_LAYER),
    (layer_words(1, [5, 8]), {}, ErrorCode.BAD_EXPERT),
    (layer_words(1, [5, 5]), {}, ErrorCode.BAD_EXPERT),
    (layer_words(1, [5, 3], tokens=2), {}, ErrorCode.BAD_TOKENS),
    (layer_words(1, [], flag=1), {}, ErrorCode.NO_ROUTER_WEIGHTS),
    *((layer_words(1, [5, 3]), shape, ErrorCode.BAD_SHAPE) for shape in (
        {"gu_groups": 0}, {"gu_groups": 9}, {"side_words": 0}, {"blob_beats": 1 << 20},
        {"in_words": 1}, {"out_groups": 3}, {"layers": 4}, {"experts": 1}, {"slots": 1},
        {"slots": 5}, {"group": 1}, {"base": 0x104})),
])
@pytest.mark.parametrize("seed", range(2))
def test_refused_layer_answers_with_zeros_marked_as_error(words, shape, code, seed):
    bench = Bench(seed)
    bench.play(words, [1, 2, 3, 4], shape=shape,
               until=lambda b: got_packet(b) and b.errors)
    assert [error for error, _ in bench.errors] == [code]
    assert all(r.error and r.data == 0 for r in bench.out["result"])
    assert bench.out["result"][-1].last and not bench.out["routed"] and not bench.out["x"]
    assert not bench.acts and bench.starts == 0


def test_a_refused_layer_of_a_smaller_model_answers_with_its_size():
    bench = Bench(3)
    small = {"in_words": 2, "out_groups": 4}
    bench.play(layer_words(7, [5, 3]), [1, 2], shape=small, until=lambda b: b.errors)
    assert [r.last for r in bench.out["result"]] == [0, 0, 0, 1] and not bench.acts


def test_command_after_a_refused_one_runs():
    bench = Bench(0)
    bench.play([0x1234_00EE, *layer_words(7, [5, 3]), *layer_words(0, [1, 2])], list(range(8)),
               until=lambda b: len(b.out["result"]) == 2 * b.g.out_groups)
    assert [code for code, _ in bench.errors] == [ErrorCode.BAD_OPCODE, ErrorCode.BAD_LAYER]
    assert [detail >> 16 for detail in bench.details] == [0x1234, 7]  # not of what follows
    assert bench.out["x"] == [4, 5, 6, 7]


@pytest.mark.parametrize("seed", range(4))
def test_a_token_is_announced_to_predictor_and_manager_before_its_layers(seed):
    bench = Bench(seed)
    bench.play([Opcode.TOKEN | 1 << 8 | 0xfffffffe << 32, Opcode.TOKEN | 0xffffffff << 32,
                *layer_words(1, [5, 3])], [1, 2, 3, 4], until=got_packet)
    assert [(t.identity, t.known, t.first) for t in bench.out["token"]] == [
        (0xfffffffe, 1, 1), (0xffffffff, 0, 0)]
    assert len(bench.out["round"]) == 2


def test_weight_rows_are_passed_on_word_by_word_and_a_bad_row_is_refused():
    bench = Bench(2)
    options, model = CONFIG.linear, CONFIG.model
    words, rows = options.row_words(model), options.chip_rows(model)
    assert words == 2 and rows == 3 * (1 + 10 * 8)
    bench.play([Opcode.LOAD_WEIGHTS | (rows - 1) << 32, 11, 12,
                Opcode.LOAD_WEIGHTS | rows << 32, 13, 14,
                Opcode.LOAD_WEIGHTS | 5 << 32, 15, 16], [],
               until=lambda b: len(b.out["weights"]) == 4)
    assert [(w.row, w.data, w.last) for w in bench.out["weights"]] == [
        (rows - 1, 11, 0), (rows - 1, 12, 1), (5, 15, 0), (5, 16, 1)]
    assert bench.errors == [(ErrorCode.BAD_ROW, 0)]


def test_table_rows_are_assembled():
    bench = Bench(1)
    row = 0x4003_8002
    bench.play([Opcode.LOAD_TABLE | 1 << 16 | 6 << 32, row], [],
               until=lambda b: b.out["table_load"])
    (load,) = bench.out["table_load"]
    assert (load.layer, load.expert, load.entries[0], load.entries[1]) == (1, 6, 0x8002, 0x4003)


def test_a_flush_is_requested_until_the_prediction_unit_has_been_cleared():
    dut = Sequencer(Geometry(CONFIG))
    seen = []

    async def bench(ctx):
        ctx.set(dut.cmd.payload, Opcode.FLUSH)
        ctx.set(dut.cmd.valid, 1)
        await taken(ctx, dut.cmd.ready)
        ctx.set(dut.cmd.valid, 0)
        for cycle in range(8):
            ctx.set(dut.flush_done, cycle == 3)
            seen.append((ctx.get(dut.flush_request), ctx.get(dut.clear)))
            await ctx.tick()

    simulator = Simulator(dut)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()
    assert seen == [(1, 0)] * 4 + [(1, 1)] + [(0, 0)] * 3


def test_router_weights_stream_through():
    bench = Bench(2)
    words = CONFIG.model.experts * bench.g.in_words
    bench.play([Opcode.LOAD_ROUTER | 2 << 16], list(range(words)),
               until=lambda b: len(b.out["router_load"]) == words)
    assert bench.out["router_load"] == list(range(words))


@pytest.mark.parametrize("seed", range(4))
def test_the_router_looks_ahead_where_the_next_layers_weights_are_loaded(seed):
    bench = Bench(seed, CONFIG.replace(linear_lookahead=True))
    load = [Opcode.LOAD_ROUTER | layer << 16 for layer in range(3)]
    weights, acts = [0] * CONFIG.model.experts * bench.g.in_words, [1, 2, 3, 4]
    chip = [layer_words(layer, [], flag=1) for layer in range(3)]
    bench.play([*load[:2], *chip[0], *chip[1], *load[2:], *chip[1], *layer_words(0, [5, 3]),
                *chip[2]],
               [*weights, *weights, *acts, *acts, *weights, *acts, *acts, *acts],
               until=lambda b: len(b.out["result"]) == 5 * b.g.out_groups)
    assert not bench.errors
    assert [(r.layer, r.route, r.ahead) for r in bench.out["route"]] == [
        (0, 1, 1), (1, 1, 0), (1, 1, 1), (2, 1, 0)]
    assert bench.due == [(layer, due) for layer, due in (
        (0, 1), (1, 0), (1, 1), (0, 0), (2, 0)) for _ in range(2)]


def test_a_netlist_without_look_ahead_never_does():
    bench = Bench(1)
    assert not hasattr(bench.dut, "lookahead")
    weights = [0] * CONFIG.model.experts * bench.g.in_words
    bench.play([Opcode.LOAD_ROUTER, Opcode.LOAD_ROUTER | 1 << 16, *layer_words(0, [], flag=1)],
               [*weights, *weights, 1, 2, 3, 4], until=got_packet)
    assert [r.ahead for r in bench.out["route"]] == [0]
