"""The whole path on Verilator: a trace through the netlist, everything held against golden."""

import dataclasses

import numpy as np
import pytest

from stmoe_golden.compute import blob as expert_blob
from stmoe_golden.predict.combined import Combined
from stmoe_golden.predict.table import TablePredictor
from stmoe_sim.policies import POLICIES
from stmoe_sim.replay import SimulationError


@pytest.mark.parametrize("policy", [name for name in POLICIES if not POLICIES[name].lookahead])
@pytest.mark.parametrize("stall", [0, 100])
def test_every_policy_equals_golden(machine, policy, stall):
    machine.check(machine.run(policy, stall=stall))


@pytest.mark.parametrize("policy", ["table", "table:ewma", "table:none", "linear", "st-moe"])
@pytest.mark.parametrize("stall, memory_settings", [
    (0, None), (0, {"bandwidth_gbps": 0.2}), (100, {"bandwidth_gbps": 0.5})])
def test_candidates_that_are_not_worth_it_equal_golden(machine, policy, stall, memory_settings):
    outcome = machine.run(f"{policy}:worth", stall=stall, memory_settings=memory_settings,
                          attention_cycles=100)
    machine.check(outcome)
    assert memory_settings is None or outcome.counters["skipped"]


def test_rows_by_identity_are_left_where_demands_keep_the_link(machine):
    outcome = machine.run("st-moe", memory_settings={"bandwidth_gbps": 0.2}, attention_cycles=0)
    machine.check(outcome)
    usual = machine.run("st-moe:static", memory_settings={"bandwidth_gbps": 0.2},
                        attention_cycles=0)
    assert 0 < outcome.counters["rows_withheld"] <= outcome.counters["tokens"]
    assert outcome.counters["row_beats_read"] < usual.counters["row_beats_read"]
    assert not usual.counters["rows_withheld"]


@pytest.mark.parametrize("broken", ["withholds", "pays", "decided", "least"])
def test_another_judge_of_candidates_is_noticed(machine, monkeypatch, broken):
    from stmoe_golden.buffer.worth import Worth
    monkeypatch.setattr(Worth, broken, {
        "pays": lambda self, expert, score: True, "least": lambda self: 0,
        "withholds": lambda self: False,
        "decided": lambda self, expert, score: self.rate.__setitem__(self.bucket(score), 0),
    }[broken])
    outcome = machine.run("st-moe:worth", memory_settings={"bandwidth_gbps": 0.2},
                          attention_cycles=0)
    assert any("golden" in text for text in outcome.verdict.mismatches)


@pytest.mark.parametrize("settings", [
    {"reorder": True}, {"stall": 120}, {"outstanding": 1}, {"reorder": True, "stall": 60}])
def test_the_memory_changes_cycles_only(machine, settings):
    usual = machine.run("st-moe")
    outcome = machine.run("st-moe", memory_settings=settings)
    machine.check(outcome)
    assert outcome.counters["cycles_total"] != usual.counters["cycles_total"]


def test_prediction_changes_cycles_only(machine):
    runs = {name: machine.run(name) for name in ("on-demand", "table")}
    assert runs["table"].counters["hit_prefetched"] + runs["table"].counters["hit_late"] > 0
    assert runs["table"].counters["cycles_total"] != runs["on-demand"].counters["cycles_total"]


def turned(content, g):
    """Bytes of each bus word in the other order, as the simulated memory loads them."""
    return np.frombuffer(content, np.uint8).reshape(-1, g.axi_bytes)[:, ::-1].tobytes()


def test_a_wrong_weight_in_memory_is_noticed(machine, tmp_path):
    parts = machine.parts(machine.replay)
    g = machine.replay.geometry
    image = bytearray(parts["image"].read_bytes())
    for used in np.unique(parts["stimulus"]["experts"][:, 1]):
        start = g.stride * (8 + int(used))
        place = slice(start, start + g.blob_bytes)
        expert = expert_blob.unpack(turned(image[place], g), g)
        down = expert.down.copy()
        down[5, 3] ^= 0x40
        image[place] = turned(expert_blob.pack(dataclasses.replace(expert, down=down), g), g)
    broken = tmp_path / "broken.bin"
    broken.write_bytes(image)
    outcome = machine.run("lru", parts | {"image": broken})
    assert any("result" in text for text in outcome.verdict.mismatches)


def rows_of(geometry):
    """How many rows of weights the learned predictor has."""
    model, linear = geometry.config.model, geometry.config.linear
    return model.layers * (linear.stride(model) + sum(linear.tables.values()))


@pytest.mark.parametrize("policy", ["linear", "combined"])
def test_every_weight_and_gain_is_compared(looking, policy):
    outcome = looking.run(policy, route_on_chip=True)
    looking.check(outcome)
    assert outcome.verdict.compared["rows"] == (
        rows_of(looking.replay.geometry) + (policy == "combined"))


@pytest.mark.parametrize("kind", ["layer", "token identity"])
def test_a_row_on_chip_that_nothing_used_is_noticed(looking, monkeypatch, kind):
    from stmoe_sim import job
    commands, g = job.load_commands, looking.replay.geometry
    model, options = g.config.model, g.config.linear
    used = set(looking.parts(looking.replay)["stimulus"]["token"].tolist())
    unused = next(row for row in range(options.lexical) if row not in {u % 64 for u in used})
    number = model.layers * options.stride(model) + unused * model.layers
    if kind == "layer":  # nobody comes before the first layer but a token before, far enough back
        number = options.stride(model) - 1

    def changed(geometry, unit):
        rows = commands(geometry, unit)
        row = np.zeros((1, rows.shape[1]), np.uint64)
        row[0, :2] = 6 | number << 32, 5
        return np.concatenate([rows, row])
    monkeypatch.setattr(job, "load_commands", changed)
    found = looking.run("linear").verdict.mismatches
    assert any(f"weights by {kind}" in text for text in found)


def test_a_table_that_learned_less_is_noticed(machine, monkeypatch):
    learn, window = TablePredictor.learn, machine.replay.window
    layers = machine.replay.config.model.layers
    last = (window.warmup + window.tokens) * (layers - 1)  # call, too late for a prediction
    calls = []

    def changed(self, layer, used, routed):
        ids, conf = self.rows()
        learn(self, layer, used, routed)
        calls.append(layer)
        if len(calls) == last:
            self.load_rows(ids, conf)
    monkeypatch.setattr(TablePredictor, "learn", changed)
    found = machine.run("table").verdict.mismatches
    assert found and all("of the table, layer pair, expert, entry 1, " in text for text in found)
    assert len(calls) == last


def test_a_gain_that_learned_less_is_noticed(looking, monkeypatch):
    learn, window = Combined.learn, looking.replay.window
    layers = looking.replay.config.model.layers
    calls = []

    def changed(self, layer, errors):
        before = self.gain.copy()
        learn(self, layer, errors)
        calls.append(layer)
        if len(calls) > (window.warmup + window.tokens - 1) * layers:
            self.gain[:] = before  # in the last token, too late for a prediction
    monkeypatch.setattr(Combined, "learn", changed)
    found = looking.run("combined", route_on_chip=True).verdict.mismatches
    assert found and all("gains, layer" in text for text in found)
    assert len(calls) == (window.warmup + window.tokens) * layers


@pytest.mark.parametrize("policy", ["table", "linear"])
def test_other_rows_than_golden_has_are_noticed(machine, monkeypatch, policy):
    from stmoe_sim import job
    commands = job.load_commands

    def changed(geometry, unit):
        rows = commands(geometry, unit)
        if policy == "linear":  # nothing was profiled: a bias of expert 0 in layer 0
            return np.array([[6, 5, 0]], np.uint64)
        rows[:, 1] ^= 1  # the first entry's id
        return rows
    monkeypatch.setattr(job, "load_commands", changed)
    assert any("candidate" in text for text in machine.run(policy).verdict.mismatches)


def test_a_wrong_row_by_token_identity_is_noticed(machine, monkeypatch):
    from stmoe_sim import job
    pack = job.pack_memory

    def changed(geometry, predictor):
        memory, layout = bytearray(pack(geometry, predictor)), geometry.lexical_layout
        memory[layout.token_stride * 3 + layout.row_stride] ^= 1
        return bytes(memory)
    monkeypatch.setattr(job, "pack_memory", changed)
    assert any("by token identity" in text for text in machine.run("linear").verdict.mismatches)


@pytest.mark.parametrize("stall", [0, 100])
@pytest.mark.parametrize("policy", ["linear", "st-moe", "table"])
def test_weights_in_memory_equal_golden(streaming, policy, stall):
    outcome = streaming.run(policy, stall=stall)
    streaming.check(outcome)
    if policy != "table":
        g = streaming.replay.geometry
        assert outcome.counters["row_beats_read"] > g.weight_layout.block_beats * 3 * 12
        rows = g.config.model.layers * (g.weight_layout.rows + g.lexical_layout.rows)
        assert outcome.verdict.compared["rows"] == rows


def test_deep_rounds_of_a_window_equal_golden(streaming, monkeypatch):
    deep = dataclasses.replace(POLICIES["linear"], name="deep", depth=3, token_depth=3)
    monkeypatch.setitem(POLICIES, "deep", deep)
    streaming.check(streaming.run("deep", stall=30, attention_cycles=6000))


def test_a_wrong_row_of_a_layer_is_noticed(streaming, monkeypatch):
    from stmoe_sim import job
    pack = job.pack_memory

    def changed(geometry, predictor):
        memory, layout = bytearray(pack(geometry, predictor)), geometry.weight_layout
        memory[layout.address(0, 2, 0)] ^= 1  # the bias of the last layer
        return bytes(memory)
    monkeypatch.setattr(job, "pack_memory", changed)
    assert any("by layer" in text for text in streaming.run("linear").verdict.mismatches)


@pytest.mark.parametrize("stall", [0, 100])
@pytest.mark.parametrize("attention", [300, 6000])
def test_layers_beyond_the_next_equal_golden(machine, monkeypatch, stall, attention):
    deep = dataclasses.replace(POLICIES["linear"], name="deep", depth=2, token_depth=3,
                               guess=2)
    monkeypatch.setitem(POLICIES, "deep", deep)
    usual = machine.run("linear", attention_cycles=attention)
    outcome = machine.run("deep", stall=stall, attention_cycles=attention)
    machine.check(outcome)
    assert outcome.counters["rows_added"] > usual.counters["rows_added"]


@pytest.mark.parametrize("stall", [0, 100])
@pytest.mark.parametrize("policy", ["combined", "st-moe-ahead", "linear", "table"])
def test_looking_ahead_equals_golden(looking, policy, stall):
    looking.check(looking.run(policy, stall=stall, route_on_chip=True))


def test_routing_by_the_host_is_predicted_without_looking_ahead(looking):
    looking.check(looking.run("combined", stall=60))


def test_another_gain_than_golden_has_is_noticed(looking, monkeypatch):
    from stmoe_sim import job
    make = job.prediction_unit

    def changed(geometry, policy):
        unit = make(geometry, policy)
        unit.predictor.gain[1] += 1
        return unit
    monkeypatch.setattr("stmoe_sim.replay.prediction_unit", changed)
    found = looking.run("combined", route_on_chip=True).verdict.mismatches
    assert any("candidate" in text for text in found)


def test_another_buffer_than_golden_has_is_noticed(machine, monkeypatch):
    from stmoe_sim import job
    setup = job.setup_registers

    def fewer(registers, policy, geometry):
        return [*setup(registers, policy, geometry), (registers["shape_slots"]["address"], 9)]
    monkeypatch.setattr(job, "setup_registers", fewer)
    assert any("golden" in text for text in machine.run("lru").verdict.mismatches)


def test_another_hash_is_refused(machine):
    other = machine.replay.config.replace(retries=5)
    with pytest.raises(SimulationError, match="configuration hash"):
        machine.run("lru", machine.parts(machine.replay), config=other)
