"""``stmoe trace``: info, import, and record of the project's own model, as a user runs them."""

import base64
import json
import re
from pathlib import Path

import matplotlib.image
import numpy as np
import pytest

from stmoe_golden.model.engine import GoldenEngine
from stmoe_golden.model.storage import save_model
from stmoe_golden.model.tokenizer import Tokenizer
from stmoe_golden.model.transformer import Transformer
from stmoe_golden.trace import load, save
from support.cli import refused
from support.synthetic import synthetic
from support.toy_model import toy_model

SHARED = Path(__file__).parents[2] / "../shared/traces"
HEADER = ("# route_trace v1\n# model=/m/toy.gguf arch=qwen3moe n_layer=2 n_expert=8 "
          "n_expert_used=2\n"
          "turn,phase,step,layer,slot,expert,weight,residency,expert_bytes\n")
ROWS = [f"0,{int(step > 1)},{step},{layer},{slot},{(step + layer + 3 * slot) % 8},"
        f"{(0.75, 0.25)[slot]},1,100" for step in range(20) for layer in range(2)
        for slot in range(2)]


def csv(tmp_path, rows, name="toy.route.csv"):
    path = tmp_path / name
    path.write_text(HEADER + "".join(row + "\n" for row in rows))
    return path


def array(seed=1, rows=6):
    return np.argsort(np.random.default_rng(seed).random((rows, 3, 8)))[..., :2]


# info

@pytest.fixture
def domains(tmp_path):
    """A trace of two domains, with all that a trace can hold."""
    rng = np.random.default_rng(1)
    base = synthetic(1, layers=4, experts=16, top_k=2, tokens=300, sequences=3)
    logits = rng.normal(size=(300, 4, 16)).astype(np.float16)
    ahead = np.roll(logits, -1, axis=1)
    ahead[:, -1] = 0
    trace = type(base)(
        name="two", model="toy", experts=np.argsort(-logits, axis=-1)[..., :2], token=base.token,
        offsets=base.offsets, num_experts=16, logits=logits, lookahead=ahead,
        hidden=rng.normal(size=(300, 4, 5)).astype(np.float16), domain=[0, 1, 0],
        metadata={"domains": ["english", "python"], "note": "made for a test"})
    save(trace, tmp_path / "two.npz")
    return tmp_path / "two.npz"


def test_info_prints_what_a_trace_holds(stmoe, domains):
    code, out, _ = stmoe("trace", "info", domains)
    assert code == 0
    for words in ("model toy, 4 MoE layers, 16 experts, top-2",
                  "300 tokens (0 prefill, 300 decode) in 3 sequences of 100 to 100",
                  "english, 200 tokens in 2 sequences; python, 100 tokens in 1 sequence.",
                  "router logits", "look-ahead logits", "hidden states (d_model 5)",
                  "Note: made for a test", "by chance (k/E) 12.5 %", "Gini", "Cramér's V",
                  "english / python"):
        assert words in out, out
    assert re.search(r"look-ahead logits +100\.0 %", out), out
    assert len(re.findall(r"^[0-3]  ", out, re.MULTILINE)) == 4


def test_info_writes_json_and_a_plot(stmoe, domains, tmp_path):
    report, plot = tmp_path / "new" / "info.json", tmp_path / "info.png"
    toy = csv(tmp_path, ROWS)
    code, _, _ = stmoe("trace", "info", domains, toy, "--json", report, "--plot", plot)
    assert code == 0
    first, second = json.loads(report.read_text())["traces"]
    assert first["domains"] == {"english": {"sequences": 2, "tokens": 200},
                                "python": {"sequences": 1, "tokens": 100}}
    assert len(first["reuse"]["overall"]) == 32 and first["chance"] == 0.125
    assert len(first["next_layer"]["by_layer"]["recall"]) == 3
    assert np.array(first["popularity"]["counts"]).sum() == 300 * 4 * 2
    assert second["prefill_tokens"] == 2 and second["phase"] == "decode"
    assert second["counted_tokens"] == 18 and second["holds"] == ["weights"]
    pixels = matplotlib.image.imread(plot)
    assert pixels.shape[1] == 1000 and pixels.shape[0] > 400
    assert (pixels[0, 0, :3] == 1).all(), "light background"
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(
        ["new", "info.png", "toy.route.csv", "two.npz"])


def test_info_counts_the_phase_asked_for(stmoe, tmp_path):
    toy = csv(tmp_path, ROWS)
    assert "Statistics of the 2 prefill tokens" in stmoe("trace", "info", toy, "--phase",
                                                         "prefill")[1]
    assert "Statistics of all tokens" in stmoe("trace", "info", toy, "--phase", "all")[1]
    prompt = csv(tmp_path, ROWS[:8], "prompt.csv")
    assert "Statistics of all tokens" in stmoe("trace", "info", prompt)[1]
    refused(stmoe("trace", "info", prompt, "--phase", "decode"), "no token selected")
    refused(stmoe("trace", "info", toy, "--phase", "warm"), "--phase", "'warm'", "decode, prefill")


def test_info_refuses_what_it_cannot_write(stmoe, domains, tmp_path):
    refused(stmoe("trace", "info", domains, "--plot", tmp_path / "x.svg"), "--plot", "x.svg",
            ".png")
    refused(stmoe("trace", "info", domains, "--json", tmp_path), "--json", "not a folder")


def spoilt(at, column, value):
    rows = list(ROWS)
    fields = rows[at].split(",")
    fields[column] = value
    rows[at] = ",".join(fields)
    return rows


BAD = {
    "truncated": ([*ROWS[:-1], "0,1,19,1,1"], ["line 83", "9 fields, not 5"]),
    "expert_out_of_range": (spoilt(40, 5, "8"), ["line 44", "expert must be 0 to 7, not 8"]),
    "layer_gap": (ROWS[:40] + ROWS[42:], ["layer gap", "layer 0 of 2 is missing"]),
    "nan_weight": (spoilt(40, 6, "nan"), ["line 44", "weight must be finite", "nan"]),
    "empty": ([], ["empty trace"]),
}


@pytest.mark.parametrize("verb", [["trace", "info"], ["trace", "import", "-o", "x.npz"],
                                  ["simulate", "--trace"]], ids=["info", "import", "simulate"])
@pytest.mark.parametrize("case", BAD)
def test_a_wrong_trace_gives_one_message(stmoe, tmp_path, monkeypatch, verb, case):
    monkeypatch.chdir(tmp_path)
    rows, words = BAD[case]
    path = csv(tmp_path, rows, "bad.csv")
    command = [*verb, path] if verb[0] == "simulate" else [*verb[:2], path, *verb[2:]]
    refused(stmoe(*command), "bad.csv", *words)
    assert [p.name for p in tmp_path.iterdir()] == ["bad.csv"]


def test_what_is_missing_gives_one_message(stmoe, tmp_path):
    for verb in (["trace", "info"], ["simulate", "--trace"]):
        refused(stmoe(*verb, tmp_path / "absent.npz"), "absent.npz", "no such file")


@pytest.mark.parametrize("name", ["gpt-oss-20b-math.npz", "gpt-oss-20b-science.npz",
                                  "qwen3-30b-a3b.route.csv", "gemma4-26b-a4b.route.csv"])
def test_info_of_the_shared_recordings(stmoe, tmp_path, name):
    if not (SHARED / name).exists():
        pytest.skip("the shared recordings are not part of the project")
    code, out, _ = stmoe("trace", "info", SHARED / name, "--json", tmp_path / "x.json")
    assert code == 0 and "code generation" in out
    record, = json.loads((tmp_path / "x.json").read_text())["traces"]
    overall = record["next_layer"]["overall"]
    assert record["reuse"]["overall"][0] > record["reuse"]["overall"][31] > record["chance"]
    assert overall["recall"] > overall["popular_recall"] > record["chance"]
    assert overall["mutual_information_bits"] > 2 * overall["shuffled_information_bits"]


# import

def test_import_of_a_csv_keeps_everything(stmoe, tmp_path):
    code, out, _ = stmoe("trace", "import", csv(tmp_path, ROWS), "-o", tmp_path / "toy.npz",
                         "--domain", "german")
    assert code == 0 and "20 tokens in 1 sequence, 2 MoE layers, 8 experts, top-2" in out
    want, found = load(tmp_path / "toy.route.csv"), load(tmp_path / "toy.npz")
    for name in ("experts", "offsets", "token", "weights", "phase"):
        assert np.array_equal(getattr(want, name), getattr(found, name)), name
    assert found.domain_names == ["german"] and found.model == "toy"
    assert found.metadata["expert_bytes"] == want.metadata["expert_bytes"]


def test_import_of_several_arrays(stmoe, tmp_path):
    np.save(tmp_path / "a.npy", array(1))
    np.save(tmp_path / "b.npy", array(2, 4))
    for name, tokens in (("a.txt", "1 2 3 4 5 6 7"), ("b.txt", "9 8 7 6")):
        (tmp_path / name).write_text(tokens)
    code, _, _ = stmoe(
        "trace", "import", tmp_path / "a.npy", tmp_path / "b.npy", "--experts", 8, "-o",
        tmp_path / "out" / "both.npz", "--prompt-tokens", 3, "--prompt-tokens", 0, "--tokens",
        tmp_path / "a.txt", "--tokens", tmp_path / "b.txt", "--domain", "x", "--domain", "y",
        "--model", "toy", "--note", "two answers")
    assert code == 0
    trace = load(tmp_path / "out" / "both.npz")
    assert np.array_equal(trace.experts, np.concatenate([array(1), array(2, 4)]))
    assert trace.phase.tolist() == [0] * 3 + [1] * 7
    assert trace.token.tolist() == [1, 2, 3, 4, 5, 6, 9, 8, 7, 6]
    assert (trace.name, trace.model, trace.num_experts) == ("both", "toy", 8)
    assert trace.domain_names == ["x", "y"] and trace.metadata["note"] == "two answers"


def test_import_of_an_sglang_response(stmoe, tmp_path):
    padded = np.concatenate([np.zeros((6, 1, 2), int), array()], axis=1)
    text = base64.b64encode(padded.astype("<i4").tobytes()).decode()
    path = tmp_path / "answer.json"
    path.write_text(json.dumps({"meta_info": {"routed_experts": text, "prompt_tokens": 4}}))
    code, _, _ = stmoe("trace", "import", path, "-o", tmp_path / "x.npz", "--experts", 8,
                       "--layers", 4, "--top-k", 2, "--dense-layers", 1)
    assert code == 0
    trace = load(tmp_path / "x.npz")
    assert np.array_equal(trace.experts, array()) and trace.phase.tolist() == [0] * 4 + [1] * 2


def test_import_joins_traces_of_the_project(stmoe, tmp_path):
    for name, seed in (("a", 1), ("b", 2)):
        save(synthetic(seed, layers=2, experts=8, top_k=2, tokens=20, sequences=2),
             tmp_path / f"{name}.npz")
    code, _, _ = stmoe("trace", "import", tmp_path / "a.npz", tmp_path / "b.npz", "-o",
                       tmp_path / "ab.npz", "--domain", "x", "--domain", "x", "--domain", "y",
                       "--domain", "y")
    trace = load(tmp_path / "ab.npz")
    assert code == 0 and trace.offsets.tolist() == [0, 10, 20, 30, 40]
    assert trace.domain_names == ["x", "x", "y", "y"]


@pytest.mark.parametrize(("arguments", "words"), [
    (["a.npy"], ["--experts", "a.npy"]),
    (["a.npy", "--experts", "1"], ["--experts", "2 to 512", "1"]),
    (["a.npy", "--experts", "4"], ["a.npy", "token", "must be 0 to 3"]),
    (["a.npy", "--experts", "8", "--prompt-tokens", "7"], ["a.npy", "0 to 6, not 7"]),
    (["a.npy", "a.npy", "a.npy", "--experts", "8", "--prompt-tokens", "1", "--prompt-tokens", "2"],
     ["--prompt-tokens", "once or 3 times", "2 times"]),
    (["a.npy", "--experts", "8", "--tokens", "a.txt", "--tokens", "a.txt"],
     ["--tokens", "1 times", "2 times"]),
    (["a.npy", "--experts", "8", "--domain", "x", "--domain", "y"], ["--domain", "2 times"]),
    (["a.npy", "--experts", "8", "--domain", ""], ["--domain", "a name"]),
    (["toy.csv", "--experts", "8"], ["--experts", "toy.csv", "left out"]),
    (["toy.csv", "a.npy", "--experts", "8"], ["layers must be 2 as in toy", "a.npy"]),
    (["float.npy", "--experts", "8"], ["float.npy", "integers, not float64"]),
    (["pickle.npy", "--experts", "8"], ["pickle.npy", "not a readable NumPy file"]),
    (["absent.npy", "--experts", "8"], ["absent.npy", "a file that is there"]),
])
def test_import_refuses_with_one_message(stmoe, tmp_path, monkeypatch, arguments, words):
    monkeypatch.chdir(tmp_path)
    np.save("a.npy", array())
    np.save("float.npy", array().astype(float))
    np.save("pickle.npy", np.array([{}]), allow_pickle=True)
    Path("a.txt").write_text("1 2 3 4 5 6")
    csv(tmp_path, ROWS, "toy.csv")
    refused(stmoe("trace", "import", *arguments, "-o", "out.npz"), *words)
    assert not Path("out.npz").exists()


def test_import_refuses_another_suffix(stmoe, tmp_path):
    refused(stmoe("trace", "import", csv(tmp_path, ROWS), "-o", tmp_path / "x.csv"), "--output",
            "x.csv", ".npz")


# record

TEXT = "def add(a, b):\n    return a + b\n"


@pytest.fixture(scope="module")
def model():
    return toy_model(TEXT)


@pytest.fixture
def file(model, tmp_path):
    save_model(model, tmp_path / "toy.safetensors")
    return tmp_path / "toy.safetensors"


def golden(model, prompt, decoded):
    """Routing and greedy tokens of the token-by-token engine, the specification."""
    transformer, engine = Transformer(model.backbone), GoldenEngine(model)
    cache, token, records = transformer.new_cache(), list(prompt), []
    for step in range(len(prompt) + decoded):
        logits = transformer.step(cache, token[step], engine)
        records.append(engine.records)
        if step + 1 >= len(token):
            token.append(int(logits.argmax()))
    return token[:-1], records


def test_record_keeps_what_the_golden_engine_does(stmoe, model, file, tmp_path):
    out = tmp_path / "out.npz"
    code, text, _ = stmoe("trace", "record", "--model", file, "--prompt", "return", "--tokens", 9,
                          "--hidden", "--logits", "--lookahead", "--domain", "python", "-o", out)
    assert code == 0 and "3 MoE layers, 8 experts, top-3" in text
    trace = load(out)
    prompt = Tokenizer(model.tokenizer, 288).prompt("return")
    token, records = golden(model, prompt, 9)
    assert trace.token.tolist() == token and trace.phase.tolist() == [0] * len(prompt) + [1] * 9
    assert (trace.name, trace.model, trace.domain_names) == ("out", "toy", ["python"])
    for t, layers in enumerate(records):
        for layer, one in enumerate(layers):
            assert trace.experts[t, layer].tolist() == one.experts
            assert np.array_equal(trace.weights[t, layer] * 2**15, one.gates)
            assert np.array_equal(trace.hidden[t, layer], one.x)
    assert trace.hidden.dtype == np.int8
    best = np.argsort(-trace.logits.astype(float), axis=-1, kind="stable")[..., :3]
    assert (best == trace.experts).mean() > 0.99, "float16 may merge close logits"
    float_router = model.router.astype(float)
    x = trace.hidden[:, 0] * model.activation_scale[0].astype(float)
    assert np.allclose(trace.lookahead[:, 0], x @ float_router[1].T, rtol=1e-2, atol=1e-2)
    assert not trace.lookahead[:, 2].any()


def test_record_of_texts_is_decode_in_sequences_of_the_context(stmoe, model, file, tmp_path):
    (tmp_path / "a.py").write_text(TEXT * 4)
    (tmp_path / "b.txt").write_text("add a")
    code, _, _ = stmoe("trace", "record", "-m", file, "--text", tmp_path / "a.py", "--text",
                       tmp_path / "b.txt", "--domain", "python", "--domain", "english", "-o",
                       tmp_path / "x.npz", "--note", "a switch")
    trace = load(tmp_path / "x.npz")
    ids = [Tokenizer(model.tokenizer, 288).prompt(text) for text in (TEXT * 4, "add a")]
    assert code == 0 and trace.token.tolist() == ids[0] + ids[1]
    lengths = np.diff(trace.offsets).tolist()
    assert len(lengths) > 2 and set(lengths[:-2]) == {24} and lengths[-1] == len(ids[1])
    assert trace.phase.all() and trace.hidden is None and trace.metadata["note"] == "a switch"
    assert trace.domain_names == ["python"] * (len(lengths) - 1) + ["english"]
    assert stmoe("trace", "info", tmp_path / "x.npz")[0] == 0


def test_record_mixes_prompts_and_files_in_order(stmoe, file, tmp_path):
    (tmp_path / "p.txt").write_text("return a")
    stmoe("trace", "record", "-m", file, "--prompt-file", tmp_path / "p.txt", "--prompt", "def",
          "--prompt", "add", "-n", 2, "-o", tmp_path / "x.npz")
    assert load(tmp_path / "x.npz").sequences == 3


@pytest.mark.parametrize(("arguments", "words"), [
    ([], ["--prompt", "--text", "at least once"]),
    (["--prompt", ""], ["--prompt 1", "at least one token"]),
    (["--prompt", TEXT * 9], ["--prompt 1", "at most 20 tokens", "context of 24"]),
    (["--prompt", "a", "-n", "24"], ["--prompt 1", "at most 0 tokens"]),
    (["--prompt", "a", "-n", "0"], ["--tokens", "0"]),
    (["--prompt-file", "absent.txt"], ["--prompt-file", "absent.txt", "No such file"]),
    (["--text", "binary"], ["--text", "binary", "UTF-8"]),
    (["--prompt", "a", "--domain", "x", "--domain", "y"], ["--domain", "2 times"]),
    (["--prompt", "a", "--model", "absent.safetensors"], ["absent.safetensors", "no such model"]),
    (["--prompt", "a", "--model", "binary.safetensors"], ["binary.safetensors", "not a readable"]),
])
def test_record_refuses_with_one_message(stmoe, file, tmp_path, monkeypatch, arguments, words):
    monkeypatch.chdir(tmp_path)
    for name in ("binary", "binary.safetensors"):
        Path(name).write_bytes(b"\xff\xfe\x81")
    if "-n" not in arguments:
        arguments = [*arguments, "-n", "4"]
    if "--model" not in arguments:
        arguments = [*arguments, "--model", file]
    refused(stmoe("trace", "record", *arguments, "-o", "x.npz"), *words)
    assert not Path("x.npz").exists()


def test_record_of_another_model_names_the_missing_extra(stmoe, tmp_path, monkeypatch):
    for name in ("torch", "transformers"):
        monkeypatch.setitem(__import__("sys").modules, name, None)
    refused(stmoe("trace", "record", "--model", "some/model", "--prompt", "a", "-o",
                  tmp_path / "x.npz"), "some/model", "extra 'record'", "stmoe[record]")
