"""Rounding of weights and scales."""

import numpy as np
import pytest

from stmoe_golden.model.error import ModelError
from stmoe_golden.model.quantise import quantise
from stmoe_golden.model.rounding import clipped_step, encode_scale, round_weights


def test_scales_are_encoded_to_16_bits():
    scale = np.concatenate([2.0 ** np.arange(-40, 15), [1.99999, 0.1, 3e-9, 1 - 2**-18]])
    mult, shift = encode_scale(scale)
    assert mult.dtype == np.uint16 and shift.dtype == np.uint8 and shift.max() <= 63
    assert np.abs(np.ldexp(mult.astype(float), -shift.astype(int)) / scale - 1).max() < 2.0**-16
    with pytest.raises(ModelError, match="scale: must be above 0"):
        encode_scale(np.array([0.0, 1.0]))
    with pytest.raises(ModelError, match="below 32768"):
        encode_scale(np.array([40000.0]))


def test_steps_clip_outliers_only_when_that_pays():
    rng = np.random.default_rng(0)
    flat = rng.uniform(-1, 1, (1, 4096))
    assert clipped_step(flat)[0] == pytest.approx(np.abs(flat).max() / 127, rel=0.03)
    tailed = rng.laplace(size=(1, 200_000))
    assert clipped_step(tailed)[0] < 0.9 * np.abs(tailed).max() / 127


def test_rounding_makes_up_for_its_errors_on_correlated_inputs():
    rng = np.random.default_rng(1)
    x = rng.normal(size=(2000, 8)) @ rng.normal(size=(8, 32)) + 0.1 * rng.normal(size=(2000, 32))
    weights = rng.normal(size=(6, 32))
    step = clipped_step(weights)
    moment = x.T @ x / len(x)
    plain = np.clip(np.rint(weights / step[:, None]), -127, 127)
    aware = round_weights(weights, step, moment)
    assert aware.dtype == np.int8

    def error(integers):
        return ((x @ (integers * step[:, None] - weights).T) ** 2).mean()

    assert error(aware.astype(float)) < 0.3 * error(plain)


def test_rounding_of_unrelated_inputs_is_to_nearest():
    weights = np.random.default_rng(2).normal(size=(4, 16))
    step = clipped_step(weights)
    found = round_weights(weights, step, np.eye(16))
    assert np.array_equal(found, np.clip(np.rint(weights / step[:, None]), -127, 127))


def test_no_value_of_the_calibration_overflows(model, float_model, tokens):
    from stmoe_golden.model.batch import GoldenBatch
    from stmoe_golden.model.transformer import Transformer
    engine = GoldenBatch(model)
    Transformer(model.backbone).forward(tokens[:480].astype(int).reshape(20, 24), engine)
    for layer in range(model.shape.layers):
        x = engine.x[layer]
        assert np.abs(x.astype(int)).max() >= 100
        for e in range(model.shape.experts):
            mine = x[(engine.ids[layer] == e).any(-1)]
            up = mine.astype(float) @ model.up[layer, e].T * model.scale("up")[layer, e]
            assert np.abs(up).max(initial=0) < 32767
            y = np.array([model.expert(layer, e).forward(row) for row in mine[:5]])
            assert np.abs(y.astype(int)).max(initial=0) < 32768 // 2


def test_calibration_must_fill_a_context(float_model, tokens):
    with pytest.raises(ModelError, match="noise must have at least 24 tokens, not 23"):
        quantise(float_model, {"noise": tokens[:23]})
    with pytest.raises(ModelError, match="at least one domain"):
        quantise(float_model, {})
