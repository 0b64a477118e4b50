"""The attention projections on the netlist: text, results, decisions and counters as golden's."""

import dataclasses
import json
import subprocess
import sys

import pytest

from stmoe.config import Geometry, preset
from stmoe_golden.model.engine import GoldenEngine
from stmoe_golden.model.generation import Generation
from stmoe_golden.model.projections import BatchProjections
from stmoe_golden.model.storage import load_model
from stmoe_golden.model.tokenizer import Tokenizer
from stmoe_golden.model.trace import default_trace
from stmoe_golden.model.transformer import Transformer
from stmoe_sim.chat import Host, converse, fit_model
from stmoe_sim.dense import fit_dense, projections_of
from stmoe_sim.image import ModelExperts, layer_blobs
from stmoe_sim.memory import memory
from stmoe_sim.policies import POLICIES

PROMPT, TOKENS = "x = ", 3
SMALL = ["--set", "slots=16", "--set", "max_d_ff=0"]


@pytest.fixture(scope="module")
def model():
    return load_model()


@pytest.fixture(scope="module")
def host(model, cache):
    config = fit_dense(fit_model(preset("tiny").replace(slots=16, max_d_ff=0), model))
    return Host(config=config, model=model, policy=POLICIES["table"],
                memory=memory("lpddr4-3200"), routing="hardware", profile=default_trace(), seed=1,
                cache=cache, projections=projections_of(model, cache))


@pytest.fixture
def opened(host):
    engine = host.open()
    yield engine
    engine.machine.close()


def talk(model, engine, projections):
    tokenizer = Tokenizer(model.tokenizer, model.shape.vocab)
    generation = Generation(Transformer(model.backbone, projections), engine,
                            tokenizer.prompt(PROMPT), max_tokens=TOKENS, stop_at_end=False)
    return converse(generation, tokenizer, update=lambda text, figures: None)["text"]


def test_netlist_and_golden_write_the_same_text(host, opened, model):
    text = talk(model, opened, opened.projections)
    verdict = opened.finish()
    assert verdict.mismatches == []
    tokens = opened.tokens
    assert verdict.compared["projections"] == 4 * 8 * tokens
    assert verdict.compared["results"] == 8 * tokens and verdict.compared["counters"] > 20
    golden = BatchProjections(host.projections, Geometry(host.config).matrix_columns)
    assert text == talk(model, GoldenEngine(model), golden)


def test_a_wrong_weight_in_golden_is_seen(opened, model, host):
    weights = host.projections.weights.copy()
    weights[2, 1, 7] += 1  # wk
    opened.projections.golden = BatchProjections(
        dataclasses.replace(host.projections, weights=weights), 64)
    talk(model, opened, opened.projections)
    found = opened.finish().mismatches
    assert found and "layer 2, wk" in found[0] and "channel 7" in found[0]


def test_a_command_that_golden_was_not_told_of_is_seen(opened, model):
    talk(model, opened, opened.projections)
    opened.projections.played.pop(3)
    assert any("dense weights" in text or "hardware says" in text
               for text in opened.finish().mismatches)


def test_the_verb_reports_the_projections(host, cache, tmp_path):
    host.open().machine.close()  # builds
    out = tmp_path / "chat.json"
    done = subprocess.run(
        [sys.executable, "-m", "stmoe_sim.cli", "chat", "--build", str(cache), *SMALL, "--dense",
         "hardware", "--prompt", PROMPT, "--tokens", "2", "--policy", "table", "--json", str(out)],
        capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    record = json.loads(out.read_text())
    assert record["mismatches"] == 0 and record["compared"]["projections"] > 0
    assert record["dense"] == "hardware"


def test_projections_have_four_bits_where_experts_have(model, cache):
    g = Geometry(fit_dense(fit_model(
        preset("tiny").replace(slots=16, max_d_ff=0, weight_group=32), model)))
    projections = projections_of(model, cache)
    *_, last = layer_blobs(ModelExperts(g, model, projections.fit(32)), 0)
    assert len(last) == g.matrix_beats * g.axi_bytes
    with pytest.raises(ValueError, match="weight_group"):
        list(layer_blobs(ModelExperts(g, model, projections), 0))


@pytest.mark.parametrize("options, words", [
    (["--dense", "gpu"], ["--dense", "'gpu'", "hardware, host"]),
    (["--dense", "hardware", "--engine", "float"], ["--engine", "'float'", "rtl or golden"])])
def test_wrong_use_is_one_clear_error(cache, options, words):
    done = subprocess.run([sys.executable, "-m", "stmoe_sim.cli", "chat", "--build", str(cache),
                           *options], capture_output=True, text=True)
    assert done.returncode == 2 and len(done.stderr.strip().splitlines()) == 1
    assert all(word in done.stderr for word in words), done.stderr
