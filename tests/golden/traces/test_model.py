"""Optional arrays of a trace: domains, hidden states, router logits, look-ahead logits."""

import numpy as np
import pytest

from stmoe_golden.trace import Trace, TraceError, join, load, save

TOKENS, LAYERS, RANKS, EXPERTS, WIDTH = 6, 3, 2, 8, 5
OPTIONAL = ("weights", "domain", "hidden", "logits", "lookahead")


def full(seed=1, name="full", **changes):
    rng = np.random.default_rng(seed)
    experts = np.argsort(rng.random((TOKENS, LAYERS, EXPERTS)))[..., :RANKS]
    lookahead = rng.normal(size=(TOKENS, LAYERS, EXPERTS)).astype(np.float16)
    lookahead[:, -1] = 0
    fields = dict(
        name=name, model="m", experts=experts, offsets=np.array([0, 1, 4, TOKENS]),
        num_experts=EXPERTS, token=rng.integers(0, 99, TOKENS), phase=rng.integers(0, 2, TOKENS),
        weights=rng.random(experts.shape), domain=np.array([1, 0, 1]),
        hidden=rng.normal(size=(TOKENS, LAYERS, WIDTH)).astype(np.float16),
        logits=rng.normal(size=(TOKENS, LAYERS, EXPERTS)).astype(np.float16), lookahead=lookahead,
        metadata={"domains": ["english", "python"]})
    return Trace(**(fields | changes))


def same(a, b, names=("experts", "offsets", "token", "phase", *OPTIONAL)):
    for name in names:
        want, found = getattr(a, name), getattr(b, name)
        assert (want is None) == (found is None), name
        if want is not None:
            assert found.dtype == want.dtype and np.array_equal(found, want), name


@pytest.mark.parametrize("hidden", [np.float16, np.int8])
def test_every_array_survives_a_file(tmp_path, hidden):
    trace = full()
    trace = full(hidden=np.clip(trace.hidden * 10, -128, 127).astype(hidden))
    assert trace.hidden.dtype == hidden
    save(trace, tmp_path / "x.npz")
    again = load(tmp_path / "x.npz")
    same(trace, again)
    assert again.metadata == trace.metadata and again.domain_names == ["python", "english",
                                                                       "python"]


def test_wider_numbers_are_taken_and_kept_read_only():
    trace = full(logits=np.ones((TOKENS, LAYERS, EXPERTS)))
    assert trace.logits.dtype == np.float16
    with pytest.raises(ValueError, match="read-only"):
        trace.logits[0, 0, 0] = 2


def test_a_selection_carries_every_array_and_drops_empty_sequences():
    trace = full()
    keep = np.array([False, True, False, True, True, False])
    part = trace.select(keep)
    assert part.offsets.tolist() == [0, 2, 3] and part.domain.tolist() == [0, 1]
    for name in ("experts", "token", "phase", "weights", "hidden", "logits", "lookahead"):
        assert np.array_equal(getattr(part, name), getattr(trace, name)[keep]), name


def test_without_optional_arrays_there_are_none():
    trace = full(**dict.fromkeys(OPTIONAL), metadata={})
    assert all(getattr(trace, name) is None for name in OPTIONAL) and trace.domain_names == []
    same(trace.select(np.ones(TOKENS, bool)), trace)


def spoilt(name, at, value):
    array = getattr(full(), name).astype(float)
    array[at] = value
    return {name: array}


@pytest.mark.parametrize(("changes", "message"), [
    (dict(domain=np.array([0, 1])), r"domain must have shape \(3,\), not \(2,\)"),
    (dict(domain=np.array([0, 2, 1])), r"domain\[1\] must be 0 to 1, not 2"),
    (dict(domain=np.array([0, 300, 1])), r"domain\[1\] must be 0 to 255, not 300"),
    (dict(domain=np.array([0., 1., 1.])), "domain must be uint8, not float64"),
    (dict(metadata={}), "domain needs its names"),
    (dict(metadata={"domains": "english"}), "domains must be a list .* not 'english'"),
    (dict(metadata={"domains": ["a", "a"]}), "distinct names"),
    (dict(hidden=np.zeros((TOKENS, LAYERS), np.float16)), "hidden must be .token, layer, d_model"),
    (dict(hidden=np.zeros((TOKENS, LAYERS, 0), np.float16)), "hidden must be"),
    (dict(hidden=np.zeros((TOKENS, 2, 4), np.float16)), r"hidden must have shape \(6, 3, 4\)"),
    (dict(hidden=np.full((TOKENS, LAYERS, 4), 128)), r"hidden\[0, 0, 0\] must be -128 to 127"),
    (dict(hidden=np.full((TOKENS, LAYERS, 4), "a")), "hidden must be int8"),
    (spoilt("hidden", (4, 2, 1), np.nan), r"hidden\[4, 2, 1\] must be finite.* not nan"),
    (spoilt("hidden", (4, 2, 1), 1e5), r"hidden\[4, 2, 1\] .*65504, not 100000"),
    (spoilt("logits", (0, 1, 7), np.inf), r"logits\[0, 1, 7\] must be finite.* not inf"),
    (spoilt("lookahead", (3, 0, 2), np.nan), r"lookahead\[3, 0, 2\] must be finite"),
    (spoilt("lookahead", (3, 2, 2), 0.5), r"lookahead\[3, 2, 2\] must be 0, .* not 0.5"),
    (dict(logits=np.zeros((TOKENS, LAYERS, 7), np.float16)), r"logits must have shape .*8\)"),
    (dict(logits=np.zeros((TOKENS, LAYERS, EXPERTS), int)), "logits must be float16, not int64"),
])
def test_a_wrong_array_is_refused_with_value_and_limit(changes, message):
    with pytest.raises(TraceError, match=message):
        full(**changes)


def test_joined_traces_follow_one_another_and_keep_their_domains():
    one = full(1, "one")
    two = full(2, "two", domain=np.zeros(3, int), metadata={"domains": ["german"]})
    both = join([one, two], "both")
    assert both.offsets.tolist() == [0, 1, 4, 6, 7, 10, 12]
    assert both.domain_names == ["python", "english", "python", "german", "german", "german"]
    names = ("experts", "token", "phase", "weights", "hidden", "logits", "lookahead")
    same(both.select(np.arange(12) < 6), one, names)
    same(both.select(np.arange(12) >= 6), two, names)


def test_joining_drops_what_one_lacks_and_refuses_other_shapes():
    bare = full(2, "bare", **dict.fromkeys(OPTIONAL), metadata={})
    both = join([full(), bare], "both")
    assert all(getattr(both, name) is None for name in OPTIONAL)
    assert "domains" not in both.metadata
    with pytest.raises(TraceError, match="num_experts must be 8 as in full, not 9 as in nine"):
        join([full(), full(name="nine", num_experts=9, logits=None, lookahead=None)], "x")
    with pytest.raises(TraceError, match="hidden must be of one type and shape"):
        join([full(), full(hidden=np.zeros((TOKENS, LAYERS, 9), np.float16))], "x")
    with pytest.raises(TraceError, match="nothing to join"):
        join([], "x")
