"""The gating network in fixed point against floating point and hand-worked cases."""

from fractions import Fraction

import numpy as np
import pytest

from stmoe_golden.router.router import EXP, SIGMOID, GateMode, logits, requantise, route, top_k_ids


def test_ties_go_to_the_lower_id():
    assert top_k_ids([1, 5, 5, 0, 5, 1], 4).tolist() == [1, 2, 4, 0]


def test_extreme_logits_are_exact():
    ones = np.full((1, 16384), -128, np.int8)
    assert logits(ones, ones[0])[0] == 2 ** 28
    assert logits(ones, np.full(16384, 127, np.int8))[0] == -128 * 127 * 16384


def test_requantise_rounds_half_to_even():
    rng = np.random.default_rng(1)
    for value, mult, shift in [(1, 1, 1), (3, 1, 1), (-1, 1, 1), (-3, 1, 1), (5, 7, 0),
                               (-1, 1, 63), *rng.integers(
                                   [-2**29, 0, 0], [2**29, 2**16, 64], (300, 3)).tolist()]:
        assert requantise(value, mult, shift) == round(Fraction(value * mult, 1 << shift))


def test_tables():
    assert (EXP[0], EXP[64], EXP[1023]) == (65535, 24109, 0)
    assert (SIGMOID[512], SIGMOID[0], SIGMOID[1023]) == (16384, 11, 32757)


@pytest.mark.parametrize("mode", GateMode)
@pytest.mark.parametrize("renormalise", [False, True])
def test_gates_approach_floating_point(mode, renormalise):
    rng = np.random.default_rng(7)
    mult, shift = 41943, 26  # 0.000625 * 64 / 64
    for _ in range(30):
        weights = rng.integers(-128, 128, (32, 64), np.int8)
        x = rng.integers(-128, 128, 64, np.int8)
        found = route(weights, x, 4, mode=mode, renormalise=renormalise, mult=mult, shift=shift)
        real = logits(weights, x) * (mult / 2 ** shift / 64)
        score = np.exp(real - real.max()) if mode == GateMode.SOFTMAX else 1 / (1 + np.exp(-real))
        chosen = np.argsort(-real, kind="stable")[:4]
        if renormalise:
            score = score / score[chosen].sum()
        elif mode == GateMode.SOFTMAX:
            score = score / score.sum()
        assert [e for e, _ in found] == chosen.tolist()
        assert [g / 32768 for _, g in found] == pytest.approx(score[chosen].tolist(), abs=0.012)
        assert all(0 <= g <= 32768 for _, g in found)


def test_a_lone_expert_gets_everything():
    weights = np.array([[127], [-128]], np.int8)
    options = dict(mode=GateMode.SOFTMAX, mult=64, shift=0)
    x = np.array([127], np.int8)
    assert route(weights, x, 2, renormalise=True, **options) == [(0, 32768), (1, 0)]
    assert route(weights, x, 1, renormalise=False, **options) == [(0, 32768)]
