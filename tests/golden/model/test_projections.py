"""The attention projections of the model that ships, in integers."""

import numpy as np
import pytest

from stmoe_golden.compute.matrix import dense_layer
from stmoe_golden.model.batch import GoldenBatch
from stmoe_golden.model.perplexity import score
from stmoe_golden.model.projections import BatchProjections, quantise_projections
from stmoe_golden.model.storage import load_model
from stmoe_golden.model.trace import default_trace
from stmoe_golden.model.transformer import PROJECTIONS, Transformer


@pytest.fixture(scope="module")
def model():
    return load_model()


@pytest.fixture(scope="module")
def projections(model):
    return quantise_projections(model, default_trace().token.reshape(16, -1)[:4])


@pytest.mark.parametrize("group", [0, 32])
def test_a_batch_equals_the_accelerators_arithmetic_row_by_row(projections, group):
    q = np.random.default_rng(1).integers(-128, 128, (5, 128), np.int8)
    fitted = projections.fit(group)
    for columns in (64, 128):
        batch = BatchProjections(fitted, columns)
        for layer, name in ((0, "wq"), (7, "wo")):
            parts = fitted.matrix(layer, name).cut(columns)
            assert all((part.codes is not None) == bool(group) for part in parts)
            assert np.array_equal(batch.integers(layer, name, q), [
                dense_layer(row, parts) for row in q])


def test_they_stand_for_the_weights_that_ship(model, projections):
    x = np.random.default_rng(2).standard_normal((8, 128))
    for layer in (0, 5):
        for name in PROJECTIONS:
            p = PROJECTIONS.index(name)
            step = projections.input_step[layer, p].astype(np.float64)
            seen = x * step * 40  # what a channel's int8 holds
            want = seen @ getattr(model.backbone, name)[layer].T.astype(np.float64)
            found = BatchProjections(projections, 64).project(layer, name, seen)
            assert np.linalg.norm(found - want) < 0.02 * np.linalg.norm(want)


def test_four_bits_are_near_those_of_eight(projections):
    fitted = projections.fit(64)
    assert np.array_equal(fitted.codes.int8(), fitted.weights)
    off = (fitted.weights.astype(float) - projections.weights)
    assert 0 < np.linalg.norm(off) < 0.15 * np.linalg.norm(projections.weights.astype(float))


def test_q_k_and_v_take_the_same_integers(projections):
    steps = projections.input_step
    assert np.array_equal(steps[:, 0], steps[:, 1]) and np.array_equal(steps[:, 0], steps[:, 2])


def test_perplexity_is_that_of_float_to_one_percent(model, projections):
    tokens = model.heldout["python"][:1025]
    ways = [Transformer(model.backbone),
            Transformer(model.backbone, BatchProjections(projections, 64))]
    plain, whole = (score(way, GoldenBatch(model), tokens).perplexity for way in ways)
    assert whole == pytest.approx(plain, rel=0.01)
