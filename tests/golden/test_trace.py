"""Traces: formats, validation, windows, gates."""

import json
from pathlib import Path

import numpy as np
import pytest

from stmoe_golden.predict.evaluate import evaluate
from stmoe_golden.trace import Trace, TraceError, decode_slice, gates, load, save
from support.synthetic import synthetic

HEADER = ("# route_trace v1\n"
          "# model=/models/some name.gguf arch=qwen3moe n_layer=3 n_expert=8 n_expert_used=2\n"
          "# layer=0 expert_bytes=100 dense_bytes=1\n# layer=1 expert_bytes=200 dense_bytes=1\n"
          "# layer=2 expert_bytes=300 dense_bytes=1\n"
          "turn,phase,step,layer,slot,expert,weight,residency,expert_bytes\n")


def rows(phase, step, layers=(0, 1, 2), turn=0):
    return [f"{turn},{phase},{step},{layer},{slot},{(step + layer + 3 * slot) % 8},"
            f"{(0.75, 0.25)[slot]},1,100" for layer in layers for slot in range(2)]


GOOD = [*rows(0, 0, (0, 1)), *rows(0, 1), *rows(1, 2), *rows(1, 3), *rows(1, 4)]


def write(tmp_path, lines, end="\n", header=HEADER):
    path = tmp_path / "some.route.csv"
    path.write_text(header + "\n".join(lines) + end)
    return path


def make(**changes):
    fields = dict(name="t", experts=np.array([[[0, 1], [2, 3]], [[1, 2], [3, 0]]], np.int16),
                  offsets=np.array([0, 2]))
    return Trace(**(fields | changes))


def test_a_csv_gives_its_routing_and_says_what_it_dropped(tmp_path):
    trace = load(write(tmp_path, GOOD))
    assert trace.name == "some" and trace.model == "some name"
    assert trace.experts.shape == (4, 3, 2) and trace.num_experts == 8
    assert trace.experts[1].tolist() == [[2, 5], [3, 6], [4, 7]]
    assert trace.weights[1, 0].tolist() == [0.75, 0.25]
    assert trace.phase.tolist() == [0, 1, 1, 1] and trace.offsets.tolist() == [0, 4]
    assert trace.metadata["prefill_tokens_dropped"] == 1
    assert trace.metadata["expert_bytes"] == [100, 200, 300]
    assert "forced top-2" in trace.metadata["note"] and "1 prefill" in trace.metadata["note"]


def test_a_prompt_without_its_last_layer_is_kept_on_demand(tmp_path):
    trace = load(write(tmp_path, GOOD), keep_prompt=True)
    assert trace.experts[0].tolist() == [[0, 3], [1, 4], [-1, -1]]
    assert trace.weights[0].tolist() == [[0.75, 0.25], [0.75, 0.25], [0, 0]]
    assert trace.phase.tolist() == [0, 0, 1, 1, 1]
    assert trace.metadata["prefill_tokens_dropped"] == 0
    assert "1 prefill tokens are without the last layer" in trace.metadata["note"]
    save(trace, tmp_path / "kept.npz")
    assert np.array_equal(load(tmp_path / "kept.npz").experts, trace.experts)
    window = decode_slice(trace, 3)
    assert window.profile == (0, 2) and (window.trace.experts[window.replayed] >= 0).all()


@pytest.mark.parametrize(("layer", "phase", "experts", "message"), [
    (1, 1, [-1, -1], "token 1, layer 1: experts must be recorded of a decode token, not -1"),
    (0, 0, [-1, -1], "token 1, layer 0, rank 0: expert must be 0 to 3, not -1"),
    (1, 0, [3, -1], "token 1, layer 1, rank 1: expert must be 0 to 3, not -1"),
])
def test_only_the_last_layer_of_a_prompt_may_be_unknown(layer, phase, experts, message):
    routing = np.array([[[0, 1], [2, 3]], [[1, 2], [3, 0]]])
    routing[1, layer] = experts
    with pytest.raises(TraceError, match=message):
        make(experts=routing, phase=np.array([0, phase]), num_experts=4)


def test_turns_are_sequences_and_a_missing_last_newline_loses_nothing(tmp_path):
    trace = load(write(tmp_path, [*GOOD, *rows(0, 0, turn=1), *rows(1, 1, turn=1)], end=""))
    assert trace.offsets.tolist() == [0, 4, 6]


def changed(index, column, value):
    lines = list(GOOD)
    fields = lines[index].split(",")
    fields[column] = value
    lines[index] = ",".join(fields)
    return lines


FIRST = HEADER.count("\n") + 1  # line of the first row
BAD_CSV = {
    "truncated_in_a_row": ([*GOOD[:-1], "0,1,4,2,1"], f"line {FIRST + 27}: .*9 fields, not 5"),
    "truncated_in_a_number": ([*GOOD[:-1], "0,1,4,2,1,1,0.25,1,"], "expert_bytes.*integer, not ''"),
    "truncated_in_a_layer": (GOOD[:-1], f"line {FIRST + 26}: .*step 4, layer 2: slot 1 is missing"),
    "truncated_between_layers": (GOOD[:-2], "decode step 4: layer gap: layer 2 of 3"),
    "layer_gap_in_decode": (GOOD[:12] + GOOD[14:], "decode step 2: layer gap: layer 1 of 3"),
    "layer_gap_in_prefill": (GOOD[2:], "prefill step 0: layer gap: layer 0 of 3"),
    "step_gap": (GOOD[:16] + GOOD[22:], "step must be 3 after 2, not 4"),
    "nan_weight": (changed(5, 6, "nan"), f"line {FIRST + 5}: weight must be finite.*not nan"),
    "infinite_weight": (changed(5, 6, "inf"), "weight must be finite"),
    "negative_weight": (changed(5, 6, "-0.5"), "weight must be finite and not negative, not -0.5"),
    "word_for_weight": (changed(5, 6, "big"), "weight must be a number, not 'big'"),
    "expert_too_high": (changed(7, 5, "8"), f"line {FIRST + 7}: expert must be 0 to 7, not 8"),
    "expert_negative": (changed(7, 5, "-1"), "expert must be 0 to 7, not -1"),
    "layer_too_high": (changed(7, 3, "3"), "layer must be 0 to 2, not 3"),
    "slot_too_high": (changed(7, 4, "2"), "slot must be 0 to 1, not 2"),
    "phase_unknown": (changed(7, 1, "2"), "phase must be 0 to 1, not 2"),
    "slot_twice": (changed(5, 4, "0"), "slot 0 occurs twice"),
    "expert_twice": (changed(5, 5, GOOD[4].split(",")[5]), "expert 1 occurs twice"),
    "no_rows": ([], "empty trace: there is no row"),
    "only_incomplete_prefill": (GOOD[:4], "empty trace: none of its 1 tokens"),
}


@pytest.mark.parametrize("case", BAD_CSV)
def test_a_wrong_csv_is_refused_with_the_line(tmp_path, case):
    lines, message = BAD_CSV[case]
    with pytest.raises(TraceError, match=message) as caught:
        load(write(tmp_path, lines))
    assert "some.route.csv" in str(caught.value)


@pytest.mark.parametrize(("text", "message"), [
    ("", "empty trace"), ("hello\n", "line 1: must be '# route_trace v1'"),
    (HEADER.split("turn,")[0], "column names is missing"),
    (HEADER.replace("n_expert=8 ", ""), "header gives no n_expert"),
    (HEADER.replace("n_expert=8", "n_expert=x"), "n_expert must be an integer"),
    (HEADER.replace("weight,", ""), "the columns must be"),
])
def test_a_wrong_header_is_refused(tmp_path, text, message):
    path = tmp_path / "x.csv"
    path.write_text(text)
    with pytest.raises(TraceError, match=message):
        load(path)


def test_what_is_no_trace_is_refused(tmp_path):
    with pytest.raises(TraceError, match="no such file"):
        load(tmp_path / "absent.npz")
    for name, data in (("a.npz", b""), ("b.npz", b"text"), ("c.npz", b"PK\x03\x04 nonsense"),
                       ("d.csv", b"\xff\xfe\x00\x81")):
        (tmp_path / name).write_bytes(data)
        with pytest.raises(TraceError, match=name):
            load(tmp_path / name)


@pytest.mark.parametrize(("changes", "message"), [
    (dict(experts=np.zeros((0, 2, 2), np.int16)), "empty trace"),
    (dict(experts=np.zeros((2, 2), np.int16)), r"\[token, layer, rank\]"),
    (dict(experts=np.zeros((2, 2, 2))), "experts must be int16, not float64"),
    (dict(experts=np.full((2, 2, 2), 70000)), "must be -32768 to 32767, not 70000"),
    (dict(num_experts=3), "token 0, layer 1, rank 1: expert must be 0 to 2, not 3"),
    (dict(experts=np.array([[[0, -1]], [[0, 1]]])), "rank 1: expert must be 0 to 1, not -1"),
    (dict(experts=np.array([[[0, 1]], [[4, 4]]])), "token 1, layer 0: .* 4 occurs twice"),
    (dict(num_experts=513), "num_experts must be 2 to 512, not 513"),
    (dict(offsets=np.array([0])), "at least 2 values"),
    (dict(offsets=np.array([1, 2])), r"offsets\[0\] must be 0, not 1"),
    (dict(offsets=np.array([0, 3])), r"offsets\[1\] must be the number of tokens 2, not 3"),
    (dict(offsets=np.array([0, 1, 1, 2])), r"offsets\[2\] must be above offsets\[1\] = 1, not 1"),
    (dict(token=np.array([1])), r"token must have shape \(2,\), not \(1,\)"),
    (dict(token=np.array([1, -2])), r"token\[1\] must be -1 to .*, not -2"),
    (dict(phase=np.array([0, 2])), r"phase\[1\] must be 0 to 1, not 2"),
    (dict(weights=np.array([[[1, 1], [1, np.nan]]] * 2)), "layer 1, rank 1: weight must be finite"),
    (dict(weights=np.array([[[1, 1], [1, -1]]] * 2)), "not negative, not -1"),
    (dict(weights=np.ones((2, 2, 1))), "weights must have shape"),
])
def test_a_wrong_field_is_refused_with_value_and_limit(changes, message):
    with pytest.raises(TraceError, match=message):
        make(**changes)


def test_a_saved_trace_comes_back_the_same(tmp_path):
    trace = synthetic(5, layers=3, experts=8, top_k=2, tokens=20, sequences=3)
    save(trace, tmp_path / "deep" / "x.npz")
    again = load(tmp_path / "deep" / "x.npz")
    for name in ("experts", "offsets", "token", "weights", "phase"):
        want, found = getattr(trace, name), getattr(again, name)
        assert found.dtype == want.dtype and np.array_equal(found, want), name
    assert (again.name, again.model, again.num_experts) == (trace.name, "synthetic", 8)
    assert again.metadata == trace.metadata
    assert [p.name for p in (tmp_path / "deep").iterdir()] == ["x.npz"]
    with pytest.raises(TraceError, match=r"saved as \.npz"):
        save(trace, tmp_path / "x.csv")


def test_a_damaged_archive_is_refused_with_the_file(tmp_path):
    whole = tmp_path / "whole.npz"
    save(synthetic(5, layers=3, experts=8, top_k=2, tokens=20, sequences=3), whole)
    damaged = tmp_path / "damaged.npz"
    damaged.write_bytes(whole.read_bytes()[:-100])
    with pytest.raises(TraceError, match=r"damaged\.npz"):
        load(damaged)
    bits = bytearray(whole.read_bytes())
    for at in range(200, 260):
        bits[at] ^= 0xff
    damaged.write_bytes(bits)
    with pytest.raises(TraceError, match=r"damaged\.npz"):
        load(damaged)


@pytest.mark.parametrize(("fields", "message"), [
    (dict(experts=np.zeros((1, 1, 1), int)), "'offsets' is missing"),
    (dict(experts=np.zeros((1, 1, 1), int), offsets=[0, 1], extra=1), "unknown field 'extra'"),
    (dict(experts=np.array([{}]), offsets=[0, 1]), "pickle"),
    (dict(experts=np.zeros((1, 1, 1), int), offsets=[0, 1], meta="{"), "meta is no JSON"),
    (dict(experts=np.zeros((1, 1, 1), int), offsets=[0, 1], meta="{}"), "meta.format must be"),
    (dict(experts=np.zeros((1, 1, 1), int), offsets=[0, 1],
          meta=json.dumps({"format": "stmoe-trace", "version": 2})), "version must be 1, not 2"),
    (dict(experts=np.zeros((1, 1, 1), int) + 9, offsets=[0, 1], meta=json.dumps(
        {"format": "stmoe-trace", "version": 1, "num_experts": 8})), "must be 0 to 7, not 9"),
])
def test_a_wrong_archive_is_refused(tmp_path, fields, message):
    np.savez(tmp_path / "x.npz", **fields)
    with pytest.raises(TraceError, match=message) as caught:
        load(tmp_path / "x.npz")
    assert "x.npz" in str(caught.value)


def test_only_experts_and_offsets_suffice(tmp_path):
    np.savez(tmp_path / "x.npz", experts=np.array([[[0, 5]]], np.uint8), offsets=[0, 1])
    trace = load(tmp_path / "x.npz")
    assert trace.num_experts == 6 and trace.token.tolist() == [-1] and trace.weights is None


def test_a_window_profiles_the_first_fifth_of_the_sequences():
    trace = synthetic(2, layers=2, experts=8, top_k=2, tokens=100, sequences=10)
    window = decode_slice(trace, 30, warmup=5)
    assert window.profile == (0, 20) and window.start == 20
    assert window.replayed == slice(20, 55)
    assert decode_slice(trace, 1, profile=0).start == 0


def test_a_window_of_a_single_sequence_profiles_its_prompt(tmp_path):
    window = decode_slice(load(write(tmp_path, GOOD)), 2, warmup=1)
    assert window.profile == (0, 1) and window.start == 1
    plain = synthetic(2, layers=2, experts=8, top_k=2, tokens=50, sequences=1)
    assert decode_slice(plain, 10).profile == (0, 10)


def test_a_window_replays_no_prefill(tmp_path):
    lines = [*GOOD, *rows(0, 0, turn=1), *rows(1, 1, turn=1), *rows(1, 2, turn=1)]
    window = decode_slice(load(write(tmp_path, lines)), 2)
    assert window.start == 4 and window.trace.offsets.tolist() == [0, 4, 6]
    assert window.trace.phase[window.replayed].tolist() == [1, 1]


@pytest.mark.parametrize(("arguments", "message"), [
    ((81,), "tokens must be 1 to 80 .*, not 81"), ((0,), "tokens must be 1 to 80"),
    ((80, 1), "tokens must be 1 to 79"), ((1, 80), "warm-up tokens must be 0 to 79, not 80"),
    ((1, -1), "warm-up"), ((1, 0, 100), "profile tokens must be 0 to 99, not 100"),
])
def test_a_window_that_the_trace_does_not_have_is_refused(arguments, message):
    trace = synthetic(2, layers=2, experts=8, top_k=2, tokens=100, sequences=10)
    with pytest.raises(TraceError, match=message):
        decode_slice(trace, *arguments)


def test_gates_sum_to_one_exactly():
    trace = synthetic(2, layers=4, experts=16, top_k=5, tokens=40, sequences=2)
    for t in range(trace.tokens):
        for layer in range(trace.layers):
            found = gates(trace, t, layer)
            assert found.dtype == np.uint16 and int(found.astype(int).sum()) == 0x8000
            share = trace.weights[t, layer].astype(float)
            assert np.abs(found - 0x8000 * share / share.sum()).max() < 1


@pytest.mark.parametrize(("weights", "want"), [
    (None, [10923, 10923, 10922]), ([0, 0, 0], [10923, 10923, 10922]),
    ([1, 1, 1], [10923, 10923, 10922]), ([1, 0, 0], [32768, 0, 0]),
    ([4, 2, 2], [16384, 8192, 8192]), ([1, 1, 5], [4681, 4681, 23406]),
    ([3e38, 3e38, 1e-45], [16384, 16384, 0]),
])
def test_gates_by_hand(weights, want):
    given = None if weights is None else np.array([[weights]], np.float32)
    trace = Trace(name="g", experts=np.array([[[0, 1, 2]]]), offsets=[0, 1], weights=given)
    assert gates(trace, 0, 0).tolist() == want


def test_the_synthetic_trace_is_labelled_seeded_and_correlated():
    trace = synthetic()
    assert "synthetic" in trace.name and trace.metadata["synthetic"]
    assert "not a recording" in trace.metadata["note"]
    assert np.array_equal(trace.experts, synthetic().experts)
    assert not np.array_equal(trace.experts, synthetic(seed=2).experts)
    both, layers, tokens = (
        evaluate(trace.experts, trace.offsets, 1, experts=32, compiled=False, **switches)
        for switches in ({}, {"use_ht": False}, {"use_cct": False}))
    chance = 4 / 32
    assert both.recall > both.set_size * 4 / 32 + 0.3
    assert layers.precision > 2 * chance and tokens.precision > 2 * chance


SHARED = Path(__file__).parents[2] / "../shared/traces"


@pytest.mark.parametrize(("name", "shape", "experts", "sequences", "prefill"), [
    ("gpt-oss-20b-math.npz", (19293, 24, 4), 32, 62, 0),
    ("gpt-oss-20b-science.npz", (38204, 24, 4), 32, 108, 0),
    ("qwen3-30b-a3b.route.csv", (1 + 128, 48, 6), 128, 1, 1),
    ("gemma4-26b-a4b.route.csv", (29 + 128, 30, 6), 128, 1, 29),
])
def test_the_shared_recordings_load(name, shape, experts, sequences, prefill):
    if not (SHARED / name).exists():
        pytest.skip("the shared recordings are not part of the project")
    trace = load(SHARED / name)
    assert trace.experts.shape == shape and trace.num_experts == experts
    assert trace.sequences == sequences and int((trace.phase == 0).sum()) == prefill
    assert (trace.weights is None) == name.endswith(".npz")
    assert "code generation" in trace.metadata["note"]
    decode_slice(trace, 64, 8)
