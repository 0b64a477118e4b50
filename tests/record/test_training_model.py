"""The training model against plain computations; needs torch, as all tests of this folder."""

import json
import sys
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts"))

from tiny_moe.card import card
from tiny_moe.checkpoint import load_checkpoint, save_checkpoint
from tiny_moe.data import train_tokenizer
from tiny_moe.evaluate import evaluate, generate
from tiny_moe.experts import apply_experts
from tiny_moe.loss import next_token_loss
from tiny_moe.model import Shape, TinyMoe, route
from tiny_moe.optim import orthogonalised
from tiny_moe.training import Settings, sample_batch, train

SMALL = Shape(vocab=64, d_model=16, layers=2, heads=2, experts=8, top_k=2, d_ff=8, context=32)


def leaves(*shapes):
    return [torch.randn(*shape, requires_grad=True) for shape in shapes]


@pytest.mark.parametrize("tokens", [1, 37, 300])
def test_experts_and_their_gradients_equal_a_loop_over_tokens(tokens):
    torch.manual_seed(tokens)
    x, gate, up, down = leaves((tokens, 16), (8, 4, 16), (8, 4, 16), (8, 16, 4))
    logits = torch.randn(tokens, 8)
    logits[:, 5] = -9
    weights, chosen, _, _ = route(logits, 3)
    weights.requires_grad_()
    want = torch.stack([sum(
        weights[n, j] * (down[e] @ (torch.nn.functional.silu(gate[e] @ x[n]) * (up[e] @ x[n])))
        for j, e in enumerate(chosen[n].tolist())) for n in range(tokens)])
    got = apply_experts(x, weights, chosen, gate, up, down)
    torch.testing.assert_close(got, want, atol=1e-5, rtol=1e-4)
    direction = torch.randn_like(want)
    inputs = (x, weights, gate, up, down)
    for a, b in zip(torch.autograd.grad((got * direction).sum(), inputs),
                    torch.autograd.grad((want * direction).sum(), inputs), strict=True):
        torch.testing.assert_close(a, b, atol=1e-4, rtol=1e-3)


def test_loss_in_chunks_equals_cross_entropy():
    torch.manual_seed(1)
    states, embed = leaves((700, 16), (50, 16))
    targets = torch.randint(0, 50, (700,))
    got = next_token_loss(states, embed, targets)
    want = torch.nn.functional.cross_entropy(states @ embed.t(), targets, reduction="none")
    torch.testing.assert_close(got, want)
    for a, b in zip(torch.autograd.grad(got.mean(), (states, embed)),
                    torch.autograd.grad(want.mean(), (states, embed)), strict=True):
        torch.testing.assert_close(a, b)


def test_balance_loss_is_one_when_even_and_grows_with_imbalance():
    even = torch.zeros(8, 8) + 20 * torch.eye(8)
    assert route(even, 1)[2].item() == pytest.approx(1, abs=1e-3)
    skewed = torch.zeros(8, 8)
    skewed[:, 0] = 20
    assert route(skewed, 1)[2].item() == pytest.approx(8, abs=1e-3)


def test_model_is_causal():
    torch.manual_seed(2)
    model = TinyMoe(SMALL, torch.float32)
    tokens = torch.randint(0, 64, (1, 20))
    changed = tokens.clone()
    changed[0, 12] = (changed[0, 12] + 1) % 64
    one, two = model(tokens)[0], model(changed)[0]
    torch.testing.assert_close(one[:, :12], two[:, :12])
    assert not torch.allclose(one[:, 12:], two[:, 12:])


def test_orthogonalised_update_has_singular_values_near_one():
    torch.manual_seed(3)
    values = torch.linalg.svdvals(orthogonalised(torch.randn(2, 3, 32, 16)))
    assert values.shape == (2, 3, 16) and 0.5 < values.min() and values.max() < 1.4


@pytest.mark.parametrize("shared", [0, 1])
def test_checkpoint_gives_the_same_model_back(tmp_path, shared):
    shape = Shape(**{**asdict(SMALL), "shared": shared})
    model = TinyMoe(shape, torch.float32)
    save_checkpoint(tmp_path / "c.npz", model, "{}", {"steps": 3, "tokens": 99})
    again, tokenizer, meta = load_checkpoint(tmp_path / "c.npz")
    tokens = torch.randint(0, 64, (2, 9))
    assert torch.equal(model(tokens)[0], again(tokens)[0])
    assert tokenizer == "{}" and meta["tokens"] == 99 and meta["experts"] == 8


def test_checkpoint_with_a_missing_array_is_refused(tmp_path):
    save_checkpoint(tmp_path / "c.npz", TinyMoe(SMALL), "{}", {})
    with np.load(tmp_path / "c.npz") as arrays:
        np.savez(tmp_path / "d.npz", **{k: v for k, v in arrays.items() if k != "router"})
    with pytest.raises(ValueError, match="array router is missing"):
        load_checkpoint(tmp_path / "d.npz")


@pytest.mark.parametrize("values, message", [
    ({"top_k": 9}, "top_k: 9 of 8"), ({"heads": 3}, "heads: 3 do not split d_model 16"),
    ({"layers": 0}, "layers: must be at least 1, not 0"), ({"shared": 2}, "shared: at most 1")])
def test_impossible_shape_is_refused(values, message):
    with pytest.raises(ValueError, match=message):
        Shape(**{**asdict(SMALL), **values})


def test_batches_depend_on_seed_and_step_and_hold_both_domains():
    streams = {"english": np.arange(900, dtype=np.uint16),
               "python": np.arange(5000, 5900, dtype=np.uint16)}
    def batch(**changes):
        return sample_batch(streams, **{"length": 16, "batch_tokens": 64, "seed": 1, "step": 5,
                                        **changes})
    assert batch().shape == (4, 17)
    assert (batch()[:2] < 900).all() and (batch()[2:] >= 5000).all()
    assert (batch() == batch()).all()
    assert (batch() != batch(step=6)).any() and (batch() != batch(seed=2)).any()


@pytest.fixture
def trained(tmp_path):
    """A folder as data preparation and a few steps of training leave it."""
    text = {"english": ["A lock is held by one thread. " * 90], "python": ["def f(x): pass\n" * 90]}
    tokenizer = train_tokenizer(text, seed=1)
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    shape = Shape(**{**asdict(SMALL), "vocab": tokenizer.get_vocab_size()})
    streams = {d: np.array(tokenizer.encode(t[0]).ids, np.uint16) for d, t in text.items()}
    for name in ("train", "heldout"):
        np.savez(tmp_path / f"{name}.npz", **streams)
    train(tmp_path, shape, Settings(batch_tokens=256, short=16), tokens=2_000_000, stop_after=50)
    return tmp_path


def test_evaluation_equals_the_loss_of_the_logits_and_counts_every_assignment(trained):
    report = evaluate(trained / "checkpoint.npz", trained / "heldout.npz")
    model, _, _ = load_checkpoint(trained / "checkpoint.npz")
    with np.load(trained / "heldout.npz") as arrays:
        for domain, row in report["domains"].items():
            tokens = torch.from_numpy(arrays[domain].astype(np.int64))
            losses = [torch.nn.functional.cross_entropy(
                model(tokens[None, a:a + 32])[0][0], tokens[a + 1:a + 33])
                for a in range(0, len(tokens) - 32, 32)]
            assert row["loss"] == pytest.approx(torch.stack(losses).mean().item(), rel=1e-5)
            assert np.allclose(np.sum(row["expert_share"], axis=1), 1)


def test_text_is_reproducible_and_a_long_prompt_is_refused(trained):
    def text(prompt, **values):
        return generate(trained / "checkpoint.npz", prompt, **{
            "tokens": 8, "temperature": 1.0, "seed": 1, **values})
    assert text("def f") == text("def f") and text("def f").startswith("def f")
    assert text("def f", temperature=0) == text("def f", temperature=0, seed=2)
    with pytest.raises(ValueError, match=r"prompt: .* the context has 32"):
        text("xyz" * 40)


def test_card_has_sizes_and_quality(trained):
    (trained / "eval.json").write_text(json.dumps(
        evaluate(trained / "checkpoint.npz", trained / "heldout.npz")))
    row = {"train_tokens": 90, "heldout_names": []}
    (trained / "data.json").write_text(json.dumps({
        "seed": 1, "vocab": 300, "split": {"english": row, "python": row},
        "sources": [{"source": "docs", "domain": "english", "packages": ["d"], "version": "1",
                     "licence": "PSF-2.0", "documents": 1, "bytes": 9}]}))
    text = card(trained)
    assert "| docs | english | d | 1 | PSF-2.0 | 1 | 9 |" in text
    assert "train --tokens 2000000" in text and "| 7 | " not in text and "| 1 | " in text


def test_resumed_training_equals_uninterrupted_training(tmp_path):
    rng = np.random.default_rng(4)
    streams = {d: rng.integers(0, 64, 2000).astype(np.uint16) for d in ("english", "python")}
    settings = Settings(batch_tokens=256, short=16)
    results = []
    for name, stops in (("whole", [None]), ("halves", [3, None])):
        folder = tmp_path / name
        folder.mkdir()
        np.savez(folder / "train.npz", **streams)
        (folder / "tokenizer.json").write_text("{}")
        for i, stop in enumerate(stops):
            train(folder, SMALL, settings, tokens=2_000_000, resume=i > 0, stop_after=stop or 6)
        results.append(load_checkpoint(folder / "checkpoint.npz"))
    (one, _, meta), (two, _, other) = results
    assert meta == other and meta["steps"] == 6
    for a, b in zip(one.parameters(), two.parameters(), strict=True):
        assert torch.equal(a, b)
