"""Linear and combined: arithmetic worked by hand, saturation, and the figures that are claimed."""

from pathlib import Path

import numpy as np
import pytest

from stmoe.config import AcceleratorConfig, LinearOptions, ModelShape
from stmoe_golden.predict.combined import Combined
from stmoe_golden.predict.linear import SIGMOID, Linear, shifted
from stmoe_golden.predict.predictor import PredictorError, Shape, Stretch
from stmoe_golden.predict.quality import measure, measured_window
from stmoe_golden.predict.registry import make
from stmoe_golden.predict.unit import LearnedUnit
from stmoe_golden.trace import load

TRACE = Path(__file__).parents[3] / "../shared/traces/gpt-oss-20b-math.npz"
PLAIN = dict(features=((0, 1), (0, 2), (0, 3), (1, 0)), leaders=(), lexical=0, pair=0, previous=0,
             stages=1, fraction=6)
OLD = ":leaders=none:pair=0:previous=0:stages=1:fraction=6"
SMALL = Shape(layers=2, experts=4, top_k=1)
SHAPE = Shape(layers=4, experts=12, top_k=3)


def plain(shape, **options):
    """Without tables by identity, of one stage, unless asked for."""
    return Linear(shape, **PLAIN | options)


def test_sigmoid_table():
    assert SIGMOID.shape == (256,) and SIGMOID[[0, 110, 127, 128, 255]].tolist() == [
        1, 257, 504, 520, 1023]
    assert (np.diff(SIGMOID) >= 0).all() and (SIGMOID + SIGMOID[::-1] == 1024).all()


@pytest.mark.parametrize("value, shift, want", [
    (767, 8, 3), (-257, 8, -1), (128, 8, 1), (-128, 8, 0), (-129, 8, -1), (127, 8, 0), (5, 0, 5)])
def test_shift_rounds_to_nearest_ties_upwards(value, shift, want):
    assert shifted(value, shift) == want


def test_rows_add_and_move_as_worked_by_hand():
    golden = plain(SMALL, features=((0, 1),))
    assert golden.prior == -70  # 64 * ln(1 / 3)
    assert golden.begin_token(5, True).tolist() == [-70] * 4
    # probability 257/1024; routed: (767 + 128) >> 8 = 3; others: (-257 + 128) >> 8 = -1
    assert golden.observe(0, np.array([2])).tolist() == [-70] * 4
    assert golden.bias[0].tolist() == [-1, -1, 3, -1]
    assert golden.observe(1, np.array([0])) is None
    assert golden.bias[1].tolist() == golden.weight[0, 1, 2].tolist() == [3, -1, -1, -1]
    assert golden.begin_token(5, False).tolist() == [-71, -71, -67, -71]
    assert golden.observe(0, np.array([2])).tolist() == [-64, -72, -72, -72]
    assert not golden.weight[0, 1, [0, 1, 3]].any() and not golden.weight[0, 0].any()


def test_lexical_rows_are_hashed_and_move_faster():
    golden = plain(SMALL, features=(), lexical=4)
    golden.begin_token(6, True)
    golden.observe(0, np.array([2]))
    assert golden.lexical[2, 0].tolist() == [-8, -8, 24, -8]  # (767 + 16) >> 5, (-257 + 16) >> 5
    golden.observe(1, np.array([2]))
    bias = golden.bias[0]
    assert golden.begin_token(10, True).tolist() == (bias + golden.lexical[2, 0] - 70).tolist()
    golden.observe(0, np.array([2]))
    golden.observe(1, np.array([2]))
    assert golden.begin_token(-1, True).tolist() == (bias - 70).tolist(), "unknown: no row"


def test_previous_token_counts_within_a_sequence_only():
    golden = plain(SMALL, features=((1, 0),))
    for first in (True, False):
        golden.begin_token(-1, first)
        golden.observe(0, np.array([1]))
        golden.observe(1, np.array([3]))
    assert golden.weight[0, 0, 1].any() and golden.weight[0, 1, 3].any()
    assert (golden.begin_token(-1, True) == golden.bias[0] - 70).all()
    assert (golden.rows(0)[0][0] == golden.bias[0]).all() and len(golden.rows(0)) == 1


def test_rows_of_each_stage_move_by_the_error_of_their_own_sum():
    golden = plain(Shape(3, 4, 1), features=((0, 1), (0, 2), (1, 0)), lexical=4, stages=3)
    golden.begin_token(3, True)
    golden.observe(0, np.array([1]))
    golden.observe(1, np.array([2]))
    golden.lexical[3, 2] = [100, -6, 0, 0]
    golden.weight[1, 2, 1] = [0, 0, 40, 0]
    golden.weight[0, 2, 2] = [0, 0, 0, 200]
    sums = golden.sums(2, 1)
    # 100 - 25 = 75; -6 - (-6 >> 2) = -6 + 2
    assert (sums + 70).tolist() == [[100, -6, 0, 0], [75, -4, 40, 0], [75, -4, 40, 200]]
    assert (golden.sums(0, -1)[2] - golden.prior == golden.bias[0] + golden.lexical[3, 0]).all()
    golden._summed = 2, sums
    golden.observe(2, np.array([3]))
    low, middle, full = golden.errors(sums, np.array([3]))
    assert (golden.bias[2] == shifted(low, 8)).all()
    assert (golden.lexical[3, 2] == np.array([100, -6, 0, 0]) + shifted(low, 5)).all()
    assert (golden.weight[1, 2, 1] == np.array([0, 0, 40, 0]) + shifted(middle, 8)).all()
    assert (golden.weight[0, 2, 2] == np.array([0, 0, 0, 200]) + shifted(full, 8)).all()
    assert len({tuple(error) for error in (low, middle, full)}) == 3


def test_rows_by_two_identities_need_both_and_leaders_only_rank_0():
    golden = plain(Shape(2, 4, 2), features=(), leaders=((0, 1),), pair=8, previous=4)
    for token, first in ((9, True), (6, False), (-1, False), (5, False)):
        golden.begin_token(token, first)
        golden.observe(0, np.array([2, 1]))
        golden.observe(1, np.array([0, 3]))
    assert np.flatnonzero(golden.pair.any((1, 2))).tolist() == [(6 + 33 * 9) % 8]
    assert np.flatnonzero(golden.previous.any((1, 2))).tolist() == [9 % 4, 6 % 4]
    assert np.argwhere(golden.leader.any(3)).tolist() == [[0, 1, 2]]


@pytest.mark.parametrize("stages", [1, 3])
def test_deep_scores_are_those_of_the_depth_and_are_not_learned_from(stages, make_stretch):
    stretch, shape = make_stretch(3), Shape(4, 12, 3)
    options = dict(features=((0, 1), (0, 2), (0, 3), (1, 0)), leaders=((0, 2),), pair=16,
                   stages=stages)
    runs = {depth: Linear(shape, depth=depth, **options).run(stretch) for depth in (1, 2, 3, 64)}
    steps = Linear(shape, **options)
    for t, routed in enumerate(stretch.experts):
        assert (steps.begin_token(int(stretch.token[t]), bool(stretch.first[t]))
                == runs[1][t, 0]).all()
        for layer in range(4):
            assert (steps.ahead_scores(layer) == runs[1][t, layer]).all()
            for later in range(layer, 4):
                depth = 64 if layer == 0 else later - layer + 1
                assert (steps.ahead_scores(later) == runs[depth][t, later]).all(), (t, layer, later)
            steps.observe(layer, routed[layer])
    assert all((runs[depth] != runs[1]).any() for depth in (2, 3, 64))
    with pytest.raises(PredictorError, match="layer must be 4 to 3 of a token that was begun"):
        steps.ahead_scores(3)


@pytest.mark.parametrize("bits", [4, 8, 10])
def test_weights_saturate_at_their_bits(bits):
    shape = Shape(layers=2, experts=4, top_k=2)
    routed = np.tile(np.array([[[0, 1], [2, 3]]]), (400, 1, 1))
    stretch = Stretch(routed, np.zeros(400, np.int64), np.arange(400) == 0)
    limit = (1 << (bits - 1)) - 1
    golden = Linear(shape, bits=bits, fraction=8, rate=-2, lexical_rate=-2)
    golden.run(stretch)
    for array in (golden.bias, golden.lexical, golden.weight):
        assert array.max() <= limit and array.min() >= -limit
    golden = plain(shape, bits=bits, fraction=8, rate=-2, features=())
    golden.run(stretch)
    assert (np.abs(golden.bias) == limit).all()


def test_gain_of_the_margin_as_worked_by_hand():
    golden = Combined(SMALL, **PLAIN | dict(features=(), gain_shift=8))
    golden.begin_token(-1, True)
    scores = golden.observe(0, np.array([3]), np.array([0, 64, 0, -64], np.int32))
    assert golden.margin.tolist() == [-64, 0, -64, -128]
    assert scores.tolist() == [-198, -70, -198, -326]  # -70 + (128 * margin + 32) >> 6
    golden.observe(1, np.array([1]), np.zeros(4, np.int32))
    # errors -44, 767, -44, -6; (44 * 64 * 2 + 6 * 128 + 128) >> 8 = 25
    assert golden.gain.tolist() == [128, 153]


def test_a_layer_without_logits_has_no_margin(make_stretch):
    stretch = make_stretch()
    steps, rows, plain = Combined(SHAPE), Combined(SHAPE), Linear(SHAPE)
    steps.gain += np.arange(SHAPE.layers)
    found = np.zeros((len(stretch), SHAPE.layers, SHAPE.experts), np.int32)
    for t, routed in enumerate(stretch.experts):
        found[t, 0] = steps.begin_token(int(stretch.token[t]), bool(stretch.first[t]))
        for layer in range(SHAPE.layers):
            after = steps.observe(layer, routed[layer])
            if after is not None:
                found[t, layer + 1] = after
    assert (found == rows.run_rows(stretch)).all() and (found == plain.run(stretch)).all()
    assert (steps.gain == 128 + np.arange(SHAPE.layers)).all() and (rows.gain == 128).all()
    assert (steps.memory == rows.memory).all()


def test_a_profile_leaves_the_gains_where_the_hardware_begins(make_stretch):
    model = ModelShape(layers=4, experts=12, top_k=3, d_model=64, d_ff=32)
    config = AcceleratorConfig(model=model, router_layers=4, predictor="linear",
                               linear=LinearOptions(lookahead=True))
    unit, other = (LearnedUnit(config, threshold=0, limit=12, lookahead=True) for _ in range(2))
    unit.profile(make_stretch())
    other.predictor.run(make_stretch())
    assert (unit.predictor.memory == other.predictor.memory).all()
    assert (unit.predictor.gain == 128).all() and (other.predictor.gain != 128).any()


def test_gain_saturates():
    shape = Shape(layers=2, experts=4, top_k=1)
    ahead = np.zeros((300, 2, 4), np.int32)
    ahead[:, 0] = [64, 0, 0, 0]
    for chosen, end in ((0, 4095), (3, 0)):
        routed = np.full((300, 2, 1), chosen)
        golden = Combined(shape, **PLAIN | dict(features=(), bits=4, gain_shift=8))
        golden.run(Stretch(routed, np.full(300, -1), np.arange(300) == 0, ahead))
        assert golden.gain[0] == 128 and golden.gain[1] == pytest.approx(end, abs=4000 * (end > 0))


def test_layers_out_of_order_are_refused():
    golden = Linear(SMALL)
    golden.begin_token(1, True)
    with pytest.raises(PredictorError, match="layer must be 0, the one that was scored, not 1"):
        golden.observe(1, np.array([0]))


@pytest.mark.skipif(not TRACE.exists(), reason="no shared traces here")
@pytest.mark.parametrize("text, want", [
    (f"linear:features=0.1/0.2/0.3/1.0:lexical=1024{OLD}", (0.794, 0.898, 0.938, 0.87)),
    (f"linear:features=0.1/0.2/0.3/1.0:lexical=0{OLD}", (0.767, 0.877, 0.921, 0.52)),
    ("linear", (0.804, 0.906, 0.944, 0.903)), ("linear:depth=2", (0.793, 0.897, 0.938, 0.903)),
    ("linear:depth=64", (0.729, 0.841, 0.895, 0.903))])
def test_recall_on_gpt_oss_is_that_of_the_study(text, want):
    trace = load(TRACE)
    window = measured_window(trace, int(trace.offsets[12]))
    outcome = measure(make(text, Shape(24, 32, 4)), window)
    counted = np.ones(window.tokens, bool)
    counted[trace.offsets[12:-1] - window.start] = False
    ranks = outcome.rank[counted]
    found = [*((ranks[:, 1:] < size).mean() for size in (4, 6, 8)), (ranks[:, 0] < 6).mean()]
    assert found == pytest.approx(want, abs=0.005)
    assert outcome.predicted[counted, 1:].mean() / 4 < 1.3
