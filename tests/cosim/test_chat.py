"""Text through the netlist: the same as golden's, held against it, and interruptible."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from stmoe.config import ConfigError, preset
from stmoe_golden.model.engine import GoldenEngine
from stmoe_golden.model.generation import Generation
from stmoe_golden.model.storage import load_model, packaged_model
from stmoe_golden.model.tokenizer import Tokenizer
from stmoe_golden.model.trace import default_trace
from stmoe_golden.model.transformer import Transformer
from stmoe_golden.trace import TraceError, decode_slice
from stmoe_sim.chat import Host, Meter, converse, fit_model
from stmoe_sim.energy import technology
from stmoe_sim.image import write_image
from stmoe_sim.memory import memory
from stmoe_sim.policies import POLICIES
from stmoe_sim.replay import Replay, fit, run
from stmoe_sim.rtl_engine import RtlEngine

PROMPT = "def add(a, b):\n    "
SMALL = ["--set", "slots=16", "--set", "max_d_ff=0"]


@pytest.fixture(scope="module")
def model():
    return load_model()


@pytest.fixture(scope="module")
def host(model, cache):
    config = fit_model(preset("tiny").replace(slots=16, max_d_ff=0), model)
    return Host(config=config, model=model, policy=POLICIES["table"],
                memory=memory("lpddr4-3200"), routing="hardware", profile=default_trace(), seed=1,
                cache=cache)


@pytest.fixture
def talk(model):
    """Continue the prompt on an engine."""
    def run(engine, tokens=8, **options):
        tokenizer = Tokenizer(model.tokenizer, model.shape.vocab)
        generation = Generation(Transformer(model.backbone), engine, tokenizer.prompt(PROMPT),
                                max_tokens=tokens, stop_at_end=False)
        return converse(generation, tokenizer, **{"update": lambda text, figures: None} | options)
    return run


@pytest.fixture
def opened(host):
    engine = host.open()
    yield engine
    engine.machine.close()


def command(cache, *arguments):
    return [sys.executable, "-m", "stmoe_sim.cli", "chat", "--build", str(cache), *arguments]


def test_netlist_and_golden_write_the_same_text(host, opened, model, talk):
    meter = Meter(opened, technology())
    seen = []
    found = talk(opened, cost=lambda: meter.read("lpddr4-3200"),
                 update=lambda text, figures: seen.append((text, figures)))
    verdict = opened.finish()
    assert verdict.mismatches == []
    tokens = len(Tokenizer(model.tokenizer, 2048).prompt(PROMPT)) + 7  # the last is not fed back
    assert verdict.compared["results"] == 8 * tokens
    assert verdict.compared["events"] > 8 * tokens and verdict.compared["predictions"] > 0
    assert found["text"] == talk(GoldenEngine(model))["text"] and found["text"]
    assert found["tokens"] == 8 and found["reason"] == "length"
    assert 0 < found["coverage"] <= 1 and found["traffic"] > 0
    assert found["coverage"] == pytest.approx(
        found["resident"] + found["prefetched_in_time"] + found["prefetched_late"])
    assert found["cycles_per_token"] > 0 and found["energy_pj_per_token"] > 0
    assert [figures.get("cycles") for _, figures in seen] == sorted(
        (figures.get("cycles") for _, figures in seen), key=lambda cycles: cycles or 0)
    assert "cycles" not in seen[0][1] and seen[-1][1]["tokens"] == 8


def test_routing_by_the_host_gives_the_host_engines_text(host, model, talk):
    engine = dataclasses.replace(host, routing="host", policy=POLICIES["lru"]).open()
    try:
        text = talk(engine, 4)["text"]
        assert engine.finish().mismatches == []
    finally:
        engine.machine.close()
    assert text == talk(GoldenEngine(model, "host"), 4)["text"]


def test_a_wrong_weight_in_golden_is_seen(opened, model, talk):
    down = model.down.copy()
    down[3] += 1
    opened.golden = GoldenEngine(dataclasses.replace(model, down=down))
    talk(opened, 2)
    found = opened.finish().mismatches
    assert found and "layer 3" in found[0] and "golden" in found[0]


def test_a_wrong_route_in_golden_is_seen(opened, talk):
    talk(opened, 2)
    opened.routes[2][4] = [(e + 1) % 32 for e in opened.routes[2][4]]
    assert opened.finish().mismatches


def test_a_machine_without_all_routers_refuses_to_route(host, model):
    machine = type("Machine", (), {"geometry": dataclasses.replace(
        host, config=host.config.replace(router_layers=1)).geometry})()
    with pytest.raises(ConfigError, match="router_layers must be 8"):
        RtlEngine(machine, model, policy=host.policy, unit=host.unit(),
                  attention=lambda context: 0)


def test_the_models_own_trace_replays_with_its_own_weights(host, model):
    trace = default_trace()
    config = fit(preset("tiny").replace(slots=16, max_d_ff=0), trace, model)
    replay = Replay(config=config, window=decode_slice(trace, 3, 1), memory=host.memory,
                    attention_cycles=100, model=model, cache=host.cache)
    stimulus = replay.stimulus()
    assert np.array_equal(stimulus["x"], trace.hidden[replay.window.replayed])
    experts = replay.experts()
    outcome = run(replay, POLICIES["table"], replay.simulator(), write_image(experts, host.cache),
                  experts, stimulus)
    assert outcome.verdict.mismatches == [] and outcome.verdict.compared["results"] == 4 * 8
    chip = dataclasses.replace(replay, route_on_chip=True)
    routed = run(chip, POLICIES["table"], replay.simulator(), write_image(experts, host.cache),
                 experts, chip.stimulus())
    assert routed.verdict.mismatches == []
    assert routed.counters["missed"] == outcome.counters["missed"]
    assert routed.counters["cycles_route"] > outcome.counters["cycles_route"] == 0
    other = trace.experts.copy()
    at = replay.window.replayed.start
    other[at, 2, :2] = other[at, 2, 1::-1]
    window = decode_slice(dataclasses.replace(trace, experts=other), 3, 1)
    with pytest.raises(TraceError, match=rf"experts\[{at}, 2, 0\] is .* router chooses"):
        dataclasses.replace(chip, window=window).stimulus()
    with pytest.raises(ConfigError, match=r"model\.d_ff must be 32"):
        dataclasses.replace(replay, config=config.replace(model_d_ff=64)).experts()


def test_the_verb_reports_what_it_did(host, cache, tmp_path):
    host.open().machine.close()  # builds
    out = tmp_path / "chat.json"
    records = []
    for engine in ("rtl", "golden"):
        done = subprocess.run(command(cache, *SMALL, "--prompt", PROMPT, "--tokens", "5",
                                      "--engine", engine, "--json", str(out)),
                              capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        records.append(json.loads(out.read_text()))
        assert PROMPT + records[-1]["text"] in done.stdout
    rtl, golden = records
    assert rtl["text"] == golden["text"] and rtl["mismatches"] == 0
    for field in ("tokens", "cycles_per_token", "coverage", "traffic", "energy_pj_per_token",
                  "seconds_per_token"):
        assert rtl[field] > 0, field
    assert golden["tokens"] == 5 and golden["cycles_per_token"] is None


def test_an_interrupt_leaves_a_report(host, cache, tmp_path):
    host.open().machine.close()
    out = tmp_path / "chat.json"
    process = subprocess.Popen(
        command(cache, *SMALL, "--tokens", "400", "--json", str(out)), text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=os.environ | {"PYTHONUNBUFFERED": "1"})
    assert process.stdout is not None
    seen = ""
    while "):" not in seen:
        seen += process.stdout.read(1)
    time.sleep(4)
    process.send_signal(signal.SIGINT)
    rest, complaint = process.communicate(timeout=120)
    assert process.returncode == 0, complaint
    record = json.loads(out.read_text())
    assert record["reason"] == "interrupted" and 0 < record["tokens"] < 400
    assert "0 mismatches" in rest


def test_results_are_int16_of_every_channel(opened, model):
    opened.begin_token(5, True)
    for layer in range(model.shape.layers):
        out = opened.layer(layer, np.linspace(-3, 3, 128, dtype=np.float32))
        assert out.shape == (128,) and out.dtype == np.float32 and np.isfinite(out).all()
    assert opened.finish().mismatches == []


@pytest.mark.parametrize("options, words", [
    (["--engine", "fpga"], ["--engine", "'fpga'", "rtl, golden, float"]),
    (["--routing", "dice"], ["--routing", "'dice'", "hardware, host"]),
    (["--policy", "lru,table"], ["--policy", "one policy"]),
    (["--model", "none.safetensors"], ["none.safetensors", "no such model file"]),
    (["--prompt", "x = 1\n" * 400], ["prompt", "context", "512"]),
    (["--temperature", "11"], ["temperature", "0 to 10", "11"]),
    (["--tokens", "0"], ["--tokens", "1 to", "0"]),
    (["--technology", "3nm"], ["technology", "'3nm'", "45nm, 7nm"]),
])
def test_wrong_use_is_one_clear_error(cache, options, words):
    done = subprocess.run(command(cache, *options), capture_output=True, text=True)
    assert done.returncode == 2, done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    for word in words:
        assert word in done.stderr


def test_a_damaged_model_is_refused(cache, tmp_path):
    data = bytearray(packaged_model().read_bytes())
    data[-5000] ^= 1
    (tmp_path / "bad.safetensors").write_bytes(data)
    done = subprocess.run(command(cache, "--model", str(tmp_path / "bad.safetensors")),
                          capture_output=True, text=True)
    assert done.returncode == 2 and "hash of the content" in done.stderr
