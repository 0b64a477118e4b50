"""Weights of four bits: every value by definition, the nearest by exhaustion, and a wrong scale."""

import numpy as np
import pytest

from stmoe_golden.compute.four_bit import FourBits, four_bits


def naive(q, scale):
    value = (q * scale + 4) // 8
    return max(-128, min(127, value))


def test_every_value_is_as_defined():
    q, scales = np.arange(-8, 8, dtype=np.int8), np.arange(1, 256, dtype=np.uint8)
    whole = FourBits(np.tile(q, (255, 1)), scales[:, None]).int8()
    assert whole.dtype == np.int8
    assert whole.tolist() == [[naive(int(v), int(s)) for v in q] for s in scales]


@pytest.mark.parametrize("group", [32, 64])
def test_no_other_weights_are_nearer(group):
    rng = np.random.default_rng(4)
    spread = rng.uniform(0.5, 60, (6, 1))
    weights = np.clip(np.rint(rng.normal(size=(6, 64)) * spread), -128, 127).astype(np.int8)
    weights[0], weights[1, :group] = 0, 127
    found = four_bits(weights, group).int8()
    table = np.array([[naive(q, s) for q in range(-8, 8)] for s in range(1, 256)])
    for part, best in zip(weights.reshape(-1, group), found.reshape(-1, group), strict=True):
        errors = np.abs(table[:, :, None] - part.astype(int)).min(1)
        least = (errors**2).sum(-1).min()
        ours = int(((best.astype(int) - part)**2).sum())
        assert ours <= 1.02 * least, "rounding of q before the shift may cost a little"


def test_a_scale_that_is_off_by_one_is_noticed():
    weights = np.arange(-64, 64, 2, dtype=np.int8)[None]
    packed = four_bits(weights, 32)
    assert not np.array_equal(packed._replace(scales=packed.scales + 1).int8(), packed.int8())


@pytest.mark.parametrize("group, inputs", [(32, 48), (16, 64), (64, 32)])
def test_groups_that_do_not_fit_are_refused(group, inputs):
    with pytest.raises(ValueError, match=f"divide {inputs} inputs, not {group}"):
        four_bits(np.zeros((2, inputs), np.int8), group)
