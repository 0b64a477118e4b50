"""Inference against a naive implementation, and its ways of computing against one another."""

import math

import numpy as np
import pytest

from stmoe_golden.model.batch import GoldenBatch
from stmoe_golden.model.engine import FloatEngine, GoldenEngine
from stmoe_golden.model.error import ModelError
from stmoe_golden.model.generation import Generation
from stmoe_golden.model.perplexity import score, windows
from stmoe_golden.model.sampling import Sampler
from stmoe_golden.model.transformer import Transformer


def naive_logits(m, tokens) -> np.ndarray:
    """Logits [token, vocab] of a float model, a scalar at a time where that is what matters."""
    s, w = m.shape, m.backbone
    half = s.head_dim // 2

    def norm(v, gain):
        return v / math.sqrt((v * v).mean() + s.eps) * gain

    def turn(v, position):
        out = v.copy()
        for i in range(half):
            angle = position / s.theta ** (2 * i / s.head_dim)
            pair = complex(v[i], v[i + half]) * complex(math.cos(angle), math.sin(angle))
            out[i], out[i + half] = pair.real, pair.imag
        return out

    xs = [w.embed[t].astype(float) for t in tokens]
    for layer in range(s.layers):
        normed = [norm(x, w.attn_norm[layer]) for x in xs]
        mixed = [np.zeros(s.d_model) for _ in xs]
        for head in range(s.heads):
            at = slice(head * s.head_dim, (head + 1) * s.head_dim)
            q = [turn((w.wq[layer] @ n)[at], p) for p, n in enumerate(normed)]
            k = [turn((w.wk[layer] @ n)[at], p) for p, n in enumerate(normed)]
            v = [(w.wv[layer] @ n)[at] for n in normed]
            for p in range(len(xs)):
                e = [math.exp(q[p] @ k[j] / math.sqrt(s.head_dim)) for j in range(p + 1)]
                mixed[p][at] = sum(e[j] * v[j] for j in range(p + 1)) / sum(e)
        for p in range(len(xs)):
            xs[p] = xs[p] + w.wo[layer] @ mixed[p]
            n = norm(xs[p], w.moe_norm[layer])
            logit = m.router[layer] @ n
            best = sorted(range(s.experts), key=lambda e: (-logit[e], e))[:s.top_k]
            total = sum(math.exp(logit[e]) for e in best)
            for e in best:
                g = m.gate[layer, e] @ n
                hidden = np.array([v / (1 + math.exp(-v)) for v in g]) * (m.up[layer, e] @ n)
                xs[p] = xs[p] + math.exp(logit[e]) / total * (m.down[layer, e] @ hidden)
    return np.array([w.embed @ norm(x, w.final_norm) for x in xs])


@pytest.fixture(scope="module")
def transformer(float_model):
    return Transformer(float_model.backbone)


def test_forward_equals_naive_inference(float_model, transformer, tokens):
    some = tokens[:11].astype(int)
    found = transformer.forward(some[None], FloatEngine(float_model))[0]
    assert np.allclose(found, naive_logits(float_model, some), rtol=0, atol=2e-5)
    assert np.abs(found).max() > 1


def test_cache_equals_whole_sequence(float_model, transformer, tokens):
    some = tokens[:20].astype(int)
    engine = FloatEngine(float_model)
    whole = transformer.forward(some[None], engine)[0]
    cache = transformer.new_cache()
    first = transformer.prefill_whole(cache, some[:7], engine)
    assert np.allclose(first, whole[6], rtol=0, atol=1e-6)
    for at in range(7, 20):
        logits = transformer.step(cache, some[at], engine)
        assert np.allclose(logits, whole[at], rtol=0, atol=1e-6)
    assert cache.length == 20 and cache.room == float_model.shape.context - 20


@pytest.mark.parametrize("routing", ["hardware", "host"])
def test_integers_do_not_depend_on_batching(model, tokens, routing):
    transformer = Transformer(model.backbone)
    some = tokens[:48].astype(int).reshape(2, 24)
    batch, single = GoldenBatch(model, routing), GoldenEngine(model, routing)
    whole = transformer.forward(some, batch)
    for row in range(2):
        cache = transformer.new_cache()
        for at in range(24):
            logits = transformer.step(cache, some[row, at], single)
            assert np.allclose(logits, whole[row, at], rtol=0, atol=1e-9)
            assert single.token == some[row, at] and single.first == (at == 0)
            for layer, record in enumerate(single.records):
                assert record.experts == batch.ids[layer][24 * row + at].tolist()
                assert np.array_equal(record.x, batch.x[layer][24 * row + at])


def test_quantised_model_stays_close(float_model, model, tokens):
    some = tokens[:240].astype(int).reshape(10, 24)
    want = Transformer(float_model.backbone).forward(some, FloatEngine(float_model))
    near = Transformer(model.backbone)
    dequantised = near.forward(some, FloatEngine(model.dequantised()))
    integers = near.forward(some, GoldenBatch(model))
    spread = want.std()
    # Random routers are full of near ties, which a rounding tips: the middle, not the mean.
    assert np.median(np.abs(dequantised - want)) < 0.02 * spread
    assert np.median(np.abs(integers - want)) < 0.03 * spread


def test_a_corrupted_weight_is_seen(float_model, transformer, tokens):
    some = tokens[:11].astype(int)
    want = naive_logits(float_model, some)
    float_model.down[1, :, 4, 2] += 0.5
    try:
        found = transformer.forward(some[None], FloatEngine(float_model))[0]
    finally:
        float_model.down[1, :, 4, 2] -= 0.5
    assert not np.allclose(found, want, rtol=0, atol=2e-5)


def test_windows_predict_every_token_once():
    tokens = np.arange(100)
    runs = windows(tokens, 24)
    assert np.concatenate([run[1:] for run in runs]).tolist() == list(range(1, 100))
    assert all(len(run) <= 25 for run in runs)


def test_score_equals_the_sum_over_tokens(float_model, transformer, tokens):
    engine = FloatEngine(float_model)
    found = score(transformer, engine, tokens[:70])
    nats = []
    for run in windows(tokens[:70].astype(int), 24):
        logits = transformer.forward(run[None, :-1], engine)[0]
        share = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
        nats += (-np.log(share[np.arange(len(run) - 1), run[1:]])).tolist()
    assert found.tokens == len(nats) == 69
    assert found.nats == pytest.approx(np.mean(nats), abs=1e-9)
    assert found.perplexity == pytest.approx(math.exp(np.mean(nats)))
    with pytest.raises(ModelError, match="at least two"):
        score(transformer, engine, tokens[:1])


def test_greedy_generation_until_the_context_is_full(model):
    engines = [GoldenEngine(model), GoldenEngine(model)]
    runs = [Generation(Transformer(model.backbone), engine, [0, 5, 9], stop_at_end=False)
            for engine in engines]
    tokens = [list(run) for run in runs]
    assert tokens[0] == tokens[1] and runs[0].reason == "context"
    # The last token is chosen from the full context, and is not computed itself.
    assert len(tokens[0]) == model.shape.context - 3 + 1


def test_generation_stops_at_length_and_at_the_end(model):
    transformer, engine = Transformer(model.backbone), GoldenEngine(model)
    run = Generation(transformer, engine, [0], max_tokens=4, stop_at_end=False)
    tokens = list(run)
    assert len(tokens) == 4 and run.reason == "length" and run.tokens == tokens

    class Ends(Sampler):
        def __call__(self, logits):
            return 0 if logits.size and run.tokens[2:] else 7

    run = Generation(transformer, engine, [0], Ends())
    assert list(run) == [7, 7, 7] and run.reason == "end"


@pytest.mark.parametrize("arguments, message", [
    (dict(prompt=[1] * 25), "prompt: has 25 tokens, the context of the model holds 24"),
    (dict(prompt=[]), "prompt: must hold at least one"),
    (dict(prompt=[1], max_tokens=0), "max_tokens: must be at least 1, not 0")])
def test_illegal_generation_is_refused(model, arguments, message):
    with pytest.raises(ModelError, match=message):
        Generation(Transformer(model.backbone), GoldenEngine(model), **arguments)


def test_tokens_beyond_vocabulary_or_context_are_refused(float_model, transformer):
    engine = FloatEngine(float_model)
    with pytest.raises(ModelError, match="an id must be 0 to 287, not 288"):
        transformer.prefill(transformer.new_cache(), [3, 288], engine)
    with pytest.raises(ModelError, match=r"25 tokens were given .* room for 24"):
        transformer.forward(np.zeros((1, 25), int), engine)
    cache = transformer.new_cache()
    transformer.prefill_whole(cache, [1] * 24, engine)
    with pytest.raises(ModelError, match="all 24 tokens are used"):
        transformer.step(cache, 1, engine)


def test_sampling_is_seeded_and_follows_the_probabilities():
    logits = np.log([0.5, 0.3, 0.15, 0.05])
    draws = [Sampler(1.0, seed=1)(logits) for _ in range(3)]
    assert draws[0] == draws[1] == draws[2]
    sampler = Sampler(1.0, seed=2)
    share = np.bincount([sampler(logits) for _ in range(4000)], minlength=4) / 4000
    assert np.abs(share - np.exp(logits)).max() < 0.03
    nucleus = Sampler(1.0, 0.75, seed=3)
    assert {nucleus(logits) for _ in range(300)} == {0, 1}
    assert Sampler()(np.array([1.0, 3.0, 3.0])) == 1
    assert {Sampler(0.05, seed=s)(logits) for s in range(50)} == {0}


@pytest.mark.parametrize("arguments, message", [
    (dict(temperature=-1), "temperature: must be 0 to 10, not -1"),
    (dict(top_p=0), "top_p: must be above 0"), (dict(seed=-1), "seed: must not be negative")])
def test_illegal_sampling_is_refused(arguments, message):
    with pytest.raises(ModelError, match=message):
        Sampler(**arguments)
