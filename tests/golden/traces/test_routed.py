"""Import of what vLLM and SGLang return as routed_experts."""

import base64
import io
import json

import numpy as np
import pytest

from stmoe_golden.trace import DECODE, PREFILL, TraceError
from stmoe_golden.traces.routed import read_ids, read_routed, routed_trace

ROWS, LAYERS, RANKS, EXPERTS = 5, 3, 2, 8


def ids(seed=1, rows=ROWS):
    return np.argsort(np.random.default_rng(seed).random((rows, LAYERS, EXPERTS)))[..., :RANKS]


def npy(array):
    buffer = io.BytesIO()
    np.save(buffer, array)
    return base64.b64encode(buffer.getvalue()).decode()


def int32(array):
    return base64.b64encode(array.astype("<i4").tobytes()).decode()


def read(tmp_path, data, **shape):
    path = tmp_path / "answer.json"
    path.write_text(json.dumps(data))
    return read_routed(path, **shape)


@pytest.mark.parametrize("kind", [np.uint8, np.int16, np.int32, np.int64])
def test_an_array_in_a_file_is_a_sequence(tmp_path, kind):
    np.save(tmp_path / "a.npy", ids().astype(kind))
    part, = read_routed(tmp_path / "a.npy")
    trace = routed_trace(part, EXPERTS, prompt=2, token=[9, 8, 7, 6, 5, 4], model="m")
    assert np.array_equal(trace.experts, ids()) and trace.weights is None
    assert trace.num_experts == EXPERTS and trace.model == "m"
    assert trace.phase.tolist() == [PREFILL] * 2 + [DECODE] * 3
    assert trace.token.tolist() == [9, 8, 7, 6, 5], "the last token was never an input"
    assert "without router weights" in trace.metadata["note"]


def test_every_array_of_an_archive_is_a_sequence(tmp_path):
    np.savez(tmp_path / "a.npz", one=ids(1), two=ids(2, 3))
    parts = read_routed(tmp_path / "a.npz")
    assert [len(part.ids) for part in parts] == [5, 3] and parts[1].where.endswith("a.npz: two")


VLLM = {"prompt_token_ids": [1, 2, 3], "choices": [{"token_ids": [4, 5, 6]}]}


@pytest.mark.parametrize("encode", [npy, np.ndarray.tolist], ids=["npy", "lists"])
def test_a_vllm_response_with_all_rows_in_one(tmp_path, encode):
    data = VLLM | {"choices": [VLLM["choices"][0] | {"routed_experts": encode(ids())}]}
    part, = read(tmp_path, data)
    trace = routed_trace(part, EXPERTS)
    assert np.array_equal(trace.experts, ids())
    assert trace.token.tolist() == [1, 2, 3, 4, 5]
    assert trace.phase.tolist() == [PREFILL] * 3 + [DECODE] * 2


def test_a_vllm_response_with_the_prompt_apart(tmp_path):
    data = {"prompt_routed_experts": ids(1, 4).tolist(), "choices": [
        {"routed_experts": ids(2, 3).tolist()}, {"routed_experts": ids(3, 2).tolist()}]}
    first, second = (routed_trace(part, EXPERTS) for part in read(tmp_path, data))
    assert np.array_equal(first.experts, np.concatenate([ids(1, 4), ids(2, 3)]))
    assert np.array_equal(second.experts[:4], ids(1, 4)) and second.tokens == 6
    assert first.phase.tolist() == [PREFILL] * 4 + [DECODE] * 3


@pytest.mark.parametrize("wrap", [
    lambda text: {"meta_info": {"routed_experts": text, "prompt_tokens": 2}, "output_ids": [1]},
    lambda text: [{"sglext": {"routed_experts": text}, "meta_info": {"prompt_tokens": 2}}],
    lambda text: {"choices": [{"meta_info": {"routed_experts": text}}],
                  "usage": {"prompt_tokens": 2}}],
    ids=["generate", "list of responses", "chat"])
def test_an_sglang_response_is_plain_int32_of_a_given_shape(tmp_path, wrap):
    part, = read(tmp_path, wrap(int32(ids())), layers=LAYERS, top_k=RANKS)
    trace = routed_trace(part, EXPERTS)
    assert np.array_equal(trace.experts, ids()) and trace.phase.tolist() == [0, 0, 1, 1, 1]


def test_dense_layers_filled_with_zeros_are_dropped_and_named(tmp_path):
    padded = np.concatenate([np.zeros((ROWS, 2, RANKS), int), ids()], axis=1)
    part, = read(tmp_path, padded.tolist())
    assert np.array_equal(routed_trace(part, EXPERTS, dense_layers=2).experts, ids())
    with pytest.raises(TraceError, match=r"layer 0: all ids are 0.*--dense-layers 1 or more"):
        routed_trace(part, EXPERTS)
    with pytest.raises(TraceError, match=r"layer 1: all ids are 0.*--dense-layers 2"):
        routed_trace(part, EXPERTS, dense_layers=1)


def changed(at, value, kind=int):
    array = ids().astype(kind)
    array[at] = value
    return array


@pytest.mark.parametrize(("array", "message"), [
    (ids()[0], r"must be \[token, layer, rank\], not of shape \(3, 2\)"),
    (ids().astype(np.float32), "ids must be integers, not float32"),
    (changed((0, 0, 0), np.nan, float), "ids must be integers, not float64"),
    (ids() > 0, "ids must be integers, not bool"),
    (np.zeros((0, LAYERS, RANKS), int), "empty trace"),
    (changed((3, 1, 0), EXPERTS), "token 3, layer 1, rank 0: expert must be 0 to 7, not 8"),
    (changed((3, 1, 0), -1), "token 3, layer 1, rank 0: expert must be 0 to 7, not -1"),
    (changed((2, 2, 0), ids()[2, 2, 1]), r"token 2, layer 2: experts must be distinct, but \d occ"),
    (changed((3, 1, 0), 40000), r"experts\[3, 1, 0\] must be -32768 to 32767, not 40000"),
])
def test_a_malformed_array_is_refused_with_file_and_position(tmp_path, array, message):
    np.save(tmp_path / "bad.npy", array)
    part, = read_routed(tmp_path / "bad.npy")
    with pytest.raises(TraceError, match=message) as caught:
        routed_trace(part, EXPERTS)
    assert "bad.npy" in str(caught.value)


def test_pickles_and_damage_are_refused(tmp_path):
    np.save(tmp_path / "pickle.npy", np.array([{}]), allow_pickle=True)
    np.savez(tmp_path / "pickle.npz", a=np.array([{}]))
    (tmp_path / "short.npy").write_bytes(b"\x93NUMPY\x01")
    (tmp_path / "empty.npy").write_bytes(b"")
    (tmp_path / "text.json").write_text("{")
    np.savez(tmp_path / "none.npz")
    for name in ("pickle.npy", "pickle.npz", "short.npy", "empty.npy", "text.json", "none.npz",
                 "absent.npy"):
        with pytest.raises(TraceError, match=name):
            read_routed(tmp_path / name)


def nested(at, value):
    token, layer, rank = at
    array = ids().tolist()
    array[token][layer][rank] = value
    return array


RAGGED = ids().tolist()
RAGGED[3].pop()
SHORT = ids().tolist()
SHORT[2][1].pop()


@pytest.mark.parametrize(("data", "message"), [
    ({}, "there is no routed_experts"), ("text", "there is no routed_experts"),
    ({"choices": [{}]}, r"choices\[0\].routed_experts: must be nested lists or base64"),
    ({"routed_experts": 5}, "routed_experts: must be nested lists .* not int"),
    (nested((3, 1, 0), 1.5), "token 3, layer 1, rank 0: expert must be an integer, not 1.5"),
    (nested((3, 1, 0), float("nan")), "token 3, layer 1, rank 0: .* not nan"),
    (nested((3, 1, 0), None), "token 3, layer 1, rank 0: .* not None"),
    (nested((3, 1, 0), True), "not True"), (RAGGED, "token 3 must hold a list of as many layers"),
    (SHORT, "token 2, layer 1 must hold a list of as many ids"),
    ([1, 2], "token 0 must hold a list"),
    ({"routed_experts": "not base64!"}, "routed_experts: text must be base64"),
    ({"routed_experts": int32(ids())[:-8]}, "114 bytes must be a multiple of 24"),
    ({"routed_experts": npy(ids())[:40]}, "routed_experts: not a readable NumPy file"),
    ({"routed_experts": ids().tolist(), "prompt_token_ids": ["a"]}, "prompt_token_ids: must be a"),
    ({"prompt_routed_experts": ids()[:, :2].tolist(),
      "choices": [{"routed_experts": ids().tolist()}]}, "prompt_routed_experts: must be .token, 3"),
])
def test_a_malformed_response_is_refused_with_its_place(tmp_path, data, message):
    with pytest.raises(TraceError, match=message) as caught:
        read(tmp_path, data, layers=LAYERS, top_k=RANKS)
    assert "answer.json" in str(caught.value)


def test_sglang_needs_the_shape(tmp_path):
    with pytest.raises(TraceError, match="needs the shape: --layers and --top-k"):
        read(tmp_path, {"routed_experts": int32(ids())})


@pytest.mark.parametrize(("options", "message"), [
    (dict(prompt=6), "prompt tokens must be 0 to 5, not 6"),
    (dict(prompt=-1), "prompt tokens must be 0 to 5"),
    (dict(token=[1] * 7), "token identities must be 5, or 6 .* not 7"),
    (dict(dense_layers=3), "dense layers must be 0 to 2, not 3"),
])
def test_options_that_do_not_fit_are_refused(tmp_path, options, message):
    part, = read(tmp_path, ids().tolist())
    with pytest.raises(TraceError, match=message):
        routed_trace(part, EXPERTS, **options)


def test_token_identities_from_three_kinds_of_file(tmp_path):
    np.save(tmp_path / "a.npy", np.array([3, 1, 2]))
    (tmp_path / "a.json").write_text("[3, 1, 2]")
    (tmp_path / "a.txt").write_text("3 1\n2\n")
    for name in ("a.npy", "a.json", "a.txt"):
        assert read_ids(tmp_path / name) == [3, 1, 2]
    np.save(tmp_path / "b.npy", np.array([0.5]))
    (tmp_path / "b.json").write_text('["a"]')
    (tmp_path / "b.txt").write_text("3 x")
    for name in ("b.npy", "b.json", "b.txt", "absent.txt"):
        with pytest.raises(TraceError, match=name):
            read_ids(tmp_path / name)
