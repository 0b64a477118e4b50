"""``stmoe predict``, as a user runs it."""

import json
import re

import matplotlib.image
import numpy as np
import pytest

from stmoe_golden.trace import Trace, save
from stmoe_sim.lookahead import lookahead_of
from support.cli import refused

TOKENS, LAYERS, EXPERTS, TOP_K = 360, 4, 16, 2


def made(lookahead=True, domains=True):
    """Token identity decides the logits, which grow from layer to layer; domains 0, 1, 0."""
    rng = np.random.default_rng(1)
    token = np.concatenate([rng.integers(0, 8, 120), rng.integers(8, 16, 120),
                            rng.integers(0, 8, 120)])
    logits = rng.normal(size=(16, LAYERS, EXPERTS))[token] + rng.normal(
        size=(TOKENS, LAYERS, EXPERTS)) / 3
    ahead = np.roll(logits, -1, axis=1) + rng.normal(size=logits.shape) / 3
    ahead[:, -1] = 0
    return Trace(name="two", model="toy", experts=np.argsort(-logits, axis=-1)[..., :TOP_K],
                 token=token, offsets=np.arange(0, TOKENS + 1, 60), num_experts=EXPERTS,
                 lookahead=ahead.astype(np.float16) if lookahead else None,
                 domain=[0, 0, 1, 1, 0, 0] if domains else None,
                 metadata={"domains": ["english", "python"], "note": "made for a test"})


@pytest.fixture
def trace(tmp_path):
    save(made(), tmp_path / "two.npz")
    return tmp_path / "two.npz"


@pytest.fixture
def plain(tmp_path):
    save(made(lookahead=False, domains=False), tmp_path / "plain.npz")
    return tmp_path / "plain.npz"


def test_all_predictors_in_tables_json_and_plot(stmoe, trace, tmp_path):
    report, plot = tmp_path / "new" / "out.json", tmp_path / "out.png"
    code, out, _ = stmoe("predict", trace, "--json", report, "--plot", plot)
    assert code == 0
    for words in ("two: model toy, 4 MoE layers, 16 experts, top-2",
                  "Profiled on 60 tokens, then 300 decode tokens of which 295 count",
                  "Note: made for a test", "Look-ahead logits: recorded.", "Recall in english",
                  "Recall in python", "around a switch of domain, mean of 2"):
        assert words in " ".join(out.split()), out
    data = json.loads(report.read_text())
    assert data["budgets"] == [1.0, 1.25, 1.5, 2.0]
    assert [domain["tokens"] for domain in data["traces"][0]["domains"]] == [60, 120, 120]
    found = {entry["name"]: entry for entry in data["predictors"]}
    assert list(found) == ["none", "popularity", "popularity-ageing", "previous-token", "cct",
                           "table", "activation-matrix", "lookahead", "linear", "combined",
                           "oracle"]
    assert found["oracle"]["recall_at"] == dict.fromkeys(["1", "1.25", "1.5", "2"], 1.0)
    assert found["none"]["recall_at"]["2"] == 0 and found["none"]["precision_at"]["2"] is None
    assert found["oracle"]["set_size_at"]["2"] == 1.0
    assert found["linear"]["layer_0"]["recall_at"]["1"] > 0.5 > found["table"]["layer_0"][
        "recall_at"]["1"] == 0
    assert (found["combined"]["recall_at"]["1"] > found["linear"]["recall_at"]["1"]
            > found["popularity"]["recall_at"]["1"])
    for entry in found.values():
        assert entry["trace"] == "two"
        assert set(entry["at_threshold"]) == {"recall", "precision", "set_size"}
        assert [layer["layer"] for layer in entry["per_layer"]] == [0, 1, 2, 3]
        inner = np.mean([layer["recall_at"]["1.5"] for layer in entry["per_layer"][1:]])
        assert inner == pytest.approx(entry["recall_at"]["1.5"])
        assert set(entry["per_domain"]) == {"english", "python"}
        assert [switch["token"] for switch in entry["switches"]] == [120, 240]
        assert [switch["to"] for switch in entry["switches"]] == ["python", "english"]
        assert entry["curve"]["token"][0] == 60 and entry["curve"]["window"] == 8
    pixels = matplotlib.image.imread(plot)
    assert pixels.shape[1] == 1100 and (pixels[0, 0, :3] == 1).all()


def test_figures_are_those_of_the_trace(stmoe, trace, tmp_path):
    report = tmp_path / "out.json"
    stmoe("predict", trace, "-p", "previous-token", "-b", "1,8", "--profile-tokens", 100,
          "--json", report)
    entry, = json.loads(report.read_text())["predictors"]
    experts = made().experts
    hits = sum(len(set(experts[t, layer]) & set(experts[t - 1, layer]))
               for t in range(100, TOKENS) if t % 60 for layer in range(1, LAYERS))
    count = sum(t % 60 > 0 for t in range(100, TOKENS)) * (LAYERS - 1) * TOP_K
    assert entry["recall_at"] == {"1": pytest.approx(hits / count), "8": 1.0}
    assert entry["precision_at"]["8"] == pytest.approx(1 / 8)
    assert entry["at_threshold"] == {"recall": pytest.approx(hits / count), "set_size": 1.0,
                                     "precision": pytest.approx(hits / count)}


def test_without_lookahead_what_needs_it_is_left_out_or_refused(stmoe, plain):
    code, out, _ = stmoe("predict", plain)
    assert code == 0 and not re.search(r"^combined", out, re.MULTILINE)
    assert "Without lookahead and combined: it holds neither" in out
    refused(stmoe("predict", plain, "-p", "linear,combined"), "two",
            "combined needs look-ahead logits", "neither look-ahead logits nor the inputs")


def test_options_files_and_several_traces(stmoe, trace, plain, tmp_path):
    mine = tmp_path / "mine.py"
    mine.write_text("from stmoe_golden.predict.previous_token import PreviousToken\n\n\n"
                    "class Mine(PreviousToken):\n    name = 'mine'\n")
    report, plot = tmp_path / "out.json", tmp_path / "out.png"
    chosen = f"{mine},linear:features=0.1/1.0:lexical=0,previous-token"
    code, out, _ = stmoe("predict", trace, plain, "-p", chosen, "--json", report, "--plot", plot)
    assert code == 0 and "linear:features=0.1/1.0" in out
    found = json.loads(report.read_text())["predictors"]
    assert [entry["name"] for entry in found] == 2 * chosen.split(",")
    assert found[0]["recall_at"] == found[2]["recall_at"]
    assert found[3]["per_domain"] == {} and found[3]["switches"] == []
    assert matplotlib.image.imread(plot).shape[1] == 1100


@pytest.mark.parametrize("layers, tokens, options", [
    (1, 30, []), (4, 3, []), (4, 2, ["--profile-tokens", "0"]), (2, 30, ["--profile-tokens", "0"])])
def test_little_to_measure_is_no_error(stmoe, tmp_path, layers, tokens, options):
    base = made()
    save(Trace(name="small", experts=base.experts[:tokens, :layers], offsets=[0, tokens],
               num_experts=EXPERTS), tmp_path / "small.npz")
    code, _, err = stmoe("predict", tmp_path / "small.npz", "--json", tmp_path / "out.json",
                           "--plot", tmp_path / "out.png", *options)
    assert code == 0, err
    oracle = json.loads((tmp_path / "out.json").read_text())["predictors"][-1]
    assert oracle["recall_at"]["1"] == (None if layers == 1 else 1.0)


def test_help_lists_the_predictors(stmoe):
    code, out, _ = stmoe("predict", "-p", "help")
    assert code == 0 and re.search(r"^linear +online logistic", out, re.MULTILINE)


@pytest.mark.parametrize("arguments, words", [
    (["-p", "magic"], ["unknown predictor 'magic'", "known are none"]),
    (["-p", "linear,linear"], ["--predictor", "distinct names"]),
    (["-p", "linear:bits=99"], ["linear:bits must be 4 to 16, not 99"]),
    (["-b", "1,many"], ["--budget", "numbers separated by commas", "1,many"]),
    (["-b", "0"], ["--budget", "above 0"]),
    (["-b", "0.1"], ["--budget", "1 to 16 experts", "top-k = 2", "0.1"]),
    (["-b", "1,9"], ["--budget", "1 to 16 experts", "9"]),
    (["--profile-tokens", "360"], ["--profile-tokens", "0 to 359", "360"]),
    (["--profile-tokens", "-1"], ["--profile-tokens", "-1"]),
    (["--plot", "x.svg"], ["--plot", "x.svg", ".png"]),
    (["--json", "."], ["--json", "not a folder"])])
def test_wrong_input_is_one_clear_error(stmoe, trace, arguments, words):
    refused(stmoe("predict", trace, *arguments), *words)


def test_missing_and_broken_traces_are_refused(stmoe, tmp_path):
    refused(stmoe("predict", tmp_path / "none.npz"), "none.npz", "no such file")
    (tmp_path / "bad.npz").write_bytes(b"PK nonsense")
    refused(stmoe("predict", tmp_path / "bad.npz"), "bad.npz")


def test_inputs_of_another_model_give_no_lookahead():
    base = made(lookahead=False)
    arrays = {name: getattr(base, name) for name in ("name", "experts", "offsets", "num_experts")}
    hidden = np.zeros((TOKENS, LAYERS, 8))
    for kind, words in ((np.float16, "int8"), (np.int8, "")):
        ahead, why = lookahead_of(Trace(**arrays, hidden=hidden.astype(kind)))
        assert ahead is None and words in why


def test_the_packaged_trace_is_the_default(stmoe, tmp_path):
    report = tmp_path / "out.json"
    code, out, _ = stmoe("predict", "-p", "linear,combined", "-b", "1.5", "--json", report)
    assert code == 0, out
    linear, combined = json.loads(report.read_text())["predictors"]
    assert combined["recall_at"]["1.5"] > linear["recall_at"]["1.5"] > 0.5
    assert "computed from the inputs by the packaged model" in out
