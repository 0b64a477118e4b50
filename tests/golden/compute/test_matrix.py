"""Matrices of dense weights: against exact arithmetic, floating point, and their own blobs."""

from fractions import Fraction

import numpy as np
import pytest

from stmoe.config import PRESETS, Geometry
from stmoe_golden.compute.arithmetic import Requantisers
from stmoe_golden.compute.blob import pack_matrix, unpack
from stmoe_golden.compute.matrix import Matrix, dense_layer, parts_of

CONFIG = PRESETS["tiny"].replace(model_d_model=64, model_d_ff=32, max_d_ff=0, dense_blobs=4)


def exact(x, matrix, columns):
    """The definition in docs/number-formats.md, in fractions."""
    result = []
    for row, mult, shift in zip(matrix.weights.tolist(), matrix.scale.mult.tolist(),
                                matrix.scale.shift.tolist(), strict=True):
        total = 0
        for at in range(0, len(row), columns):
            acc = sum(w * int(v) for w, v in zip(row[at:at + columns], x[at:at + columns],
                                                 strict=True))
            total += min(max(round(Fraction(acc * mult, 1 << shift)), -32768), 32767)
        result.append(min(max(total, -32768), 32767))
    return result


@pytest.mark.parametrize("columns", [16, 32, 64])
def test_a_matrix_is_what_its_definition_says(columns):
    rng = np.random.default_rng(columns)
    matrix = Matrix.random(rng, 64, 64)
    for _ in range(5):
        x = rng.integers(-128, 128, 64, np.int8)
        assert dense_layer(x, matrix.cut(columns)).tolist() == exact(x, matrix, columns)


def test_halves_round_to_even_and_sums_saturate():
    scale = Requantisers(np.full(2, 1, np.uint16), np.full(2, 1, np.uint8))  # a half
    matrix = Matrix(np.array([[1, 0], [3, 0]], np.int8), scale)
    assert matrix.forward(np.array([1, 0])).tolist() == [0, 2]
    large = Matrix(np.full((1, 4), 127, np.int8),
                   Requantisers(np.full(1, 65535, np.uint16), np.zeros(1, np.uint8)))
    assert dense_layer(np.full(4, 127, np.int8), large.cut(2)).tolist() == [32767]
    assert dense_layer(np.full(4, -128, np.int8), large.cut(2)).tolist() == [-32768]


def test_in_floating_point_it_is_a_scaled_product():
    rng = np.random.default_rng(3)
    matrix = Matrix.random(rng, 64, 64)
    scale = np.ldexp(matrix.scale.mult.astype(float), -matrix.scale.shift.astype(int))
    x = rng.integers(-60, 60, 64, np.int8)
    real = (matrix.weights.astype(float) @ x) * scale
    parts = matrix.cut(16)
    fits = np.all([np.abs(part.weights.astype(float) @ x[16 * i:16 * i + 16] * scale) < 32767
                   for i, part in enumerate(parts)], 0) & (np.abs(real) < 32000)
    assert fits.sum() > 40
    assert np.abs(dense_layer(x, parts) - real)[fits].max() <= len(parts) / 2


def test_a_wrong_weight_moves_the_result():
    rng = np.random.default_rng(4)
    matrix, x = Matrix.random(rng, 64, 64), rng.integers(1, 128, 64, np.int8)
    before = dense_layer(x, matrix.cut(32))
    matrix.weights[5, 40] ^= 64
    assert np.flatnonzero(dense_layer(x, matrix.cut(32)) != before).tolist() == [5]


@pytest.mark.parametrize("integrity", [True, False])
def test_a_blob_is_an_experts_with_down_alone(integrity):
    g = Geometry(CONFIG.replace(integrity=integrity))
    part = parts_of(Matrix.random(np.random.default_rng(5), 64, 64), g)[1]
    blob = pack_matrix(part, g)
    assert len(blob) == g.matrix_beats * g.axi_bytes < g.blob_bytes
    plain = Geometry(CONFIG.replace(integrity=False))
    content = pack_matrix(part, plain)
    side = plain.side_words * plain.side_bytes
    words = np.frombuffer(content, np.int8, offset=side).reshape(
        g.matrix_tiles, g.out_groups, g.config.rows, g.config.lanes)
    for tile, group, row, lane in ((0, 0, 0, 0), (g.matrix_tiles - 1, 3, 2, 5)):
        assert words[tile, group, row, lane] == part.weights[
            group * g.config.rows + row, tile * g.config.lanes + lane]
    as_expert = content[:side].ljust(plain.blob_bytes, b"\0")
    assert np.array_equal(unpack(as_expert, plain).out_scale.mult, part.scale.mult)


def test_what_does_not_fit_is_refused():
    g, rng = Geometry(CONFIG), np.random.default_rng(6)
    with pytest.raises(ValueError, match="parts of 48"):
        Matrix.random(rng, 64, 64).cut(48)
    with pytest.raises(ValueError, match="was given where"):
        pack_matrix(Matrix.random(rng, 64, 64), g)
    with pytest.raises(ValueError, match="weight_group"):
        pack_matrix(Matrix.random(rng, 64, g.matrix_columns, 32), g)
