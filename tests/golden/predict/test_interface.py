"""What every predictor must keep: fast equals step by step, scores whole, errors clear."""

import numpy as np
import pytest

from stmoe_golden.predict.predictor import NEVER, PredictorError, Shape, by_definition
from stmoe_golden.predict.registry import make, names, predictor_class

SHAPE = Shape(layers=4, experts=12, top_k=3)
FULL = ("linear:stages=3:pair=16:previous=4:lexical=8:fraction=7:features=0.1/0.2/0.3/1.0/2.1:"
        "leaders=0.1/0.2/1.0")
VARIANTS = [*names(), "popularity-ageing:rate=2", "activation-matrix:capacity=2",
            "linear:lexical=0:features=1.0/2.1", "linear:features=none:lexical=4",
            "linear:bits=4:fraction=4:rate=0:lexical_rate=-2", "linear:bits=8:fraction=5:lexical=8",
            "linear:features=0.3", "linear:depth=2", "linear:depth=64", FULL, f"{FULL}:depth=2",
            f"{FULL}:depth=3", f"{FULL}:depth=64", FULL.replace("stages=3", "stages=1"),
            f"combined{FULL[6:]}", f"combined{FULL[6:]}:depth=2",
            "combined:features=none:lexical=0", "combined:gain=4000",
            "combined:gain_shift=8:fraction=10:bits=16"]


@pytest.mark.parametrize("text", VARIANTS)
def test_run_equals_the_steps_whatever_the_pieces(text, make_stretch, cut):
    stretch = make_stretch(5)
    fast, slow, mixed = (make(text, SHAPE) for _ in range(3))
    for predictor in (fast, slow, mixed):
        predictor.profile(cut(stretch, 10)[0])
    parts = cut(stretch, 10, 11, 40, 41)[1:]
    want = np.concatenate([by_definition(slow, part) for part in parts])
    assert (np.concatenate([fast.run(part) for part in parts]) == want).all()
    run = [by_definition(mixed, part) if i % 2 else mixed.run(part) for i, part in enumerate(parts)]
    assert (np.concatenate(run) == want).all(), "steps and run leave different states"
    assert want.shape == (len(stretch) - 10, 4, 12)


@pytest.mark.parametrize("text", ["linear:lexical=8:pair=0:previous=0", "table", "popularity",
                                  "popularity-ageing", "previous-token"])
def test_a_prompt_that_lacks_the_last_layer_teaches_the_others(text, make_stretch, cut):
    """What was not recorded changes nothing, and the layers before it are learned all the same."""
    prompt, rest = cut(make_stretch(5), 12)
    whole, partial = (make(text, SHAPE) for _ in range(2))
    whole.profile(prompt)
    prompt.experts[3:9, -1] = -1
    partial.profile(prompt)
    one, other = (each.run(cut(rest, 1)[0])[0] for each in (whole, partial))
    assert (one[:-1] == other[:-1]).all()
    if text != "previous-token":  # it knows the last token alone
        assert (one[-1] != other[-1]).any()


@pytest.mark.parametrize("text", ["linear", "combined", "table", "activation-matrix"])
def test_the_comparison_with_the_steps_can_fail(text, make_stretch, cut):
    before, after = cut(make_stretch(5), 40)
    fast, slow = make(text, SHAPE), make(text, SHAPE)
    fast.run(before)
    by_definition(slow, before)
    state = {"linear": lambda p: p.weight, "combined": lambda p: p.gain,
             "table": lambda p: p.inner.conf, "activation-matrix": lambda p: p.past}[text](fast)
    state += 1
    assert (fast.run(after) != by_definition(slow, after)).any()


@pytest.mark.parametrize("text", names())
def test_nobody_but_the_oracle_uses_what_comes_later(text, make_stretch):
    stretch, other = make_stretch(1), make_stretch(1)
    other.experts[60:, 2:] = make_stretch(2).experts[60:, 2:]
    other.ahead[60:, 2:] = make_stretch(2).ahead[60:, 2:]
    scores, changed = (make(text, SHAPE).run(part) for part in (stretch, other))
    assert (scores[:60] == changed[:60]).all()
    assert (scores[:61, :3] == changed[:61, :3]).all() == (text != "oracle")


def test_bounds_are_none_and_all(make_stretch):
    stretch = make_stretch()
    assert (make("none", SHAPE).run(stretch) == NEVER).all()
    oracle = make("oracle", SHAPE).run(stretch)
    assert (np.take_along_axis(oracle, stretch.experts, axis=2) == 1).all()
    assert (oracle == NEVER).sum() == oracle.size - stretch.experts.size


@pytest.mark.parametrize("text, words", [
    ("magic", ["unknown predictor 'magic'", "known are none, popularity"]),
    ("linear:deep=3", ["linear", "one of features, leaders, lexical", "'deep=3'"]),
    ("none:rate=3", ["none at all"]),
    ("linear:bits", ["OPTION=VALUE", "'bits'"]),
    ("linear:bits=ten", ["linear:bits must be an integer", "'ten'"]),
    ("linear:bits=20", ["linear:bits must be 4 to 16, not 20"]),
    ("linear:lexical=1000", ["linear:lexical must be 0 or a power of two, not 1000"]),
    ("linear:rate=-7", ["linear:rate must be -3 to 8, not -7"]),
    ("linear:features=0.0", ["layer lag 1 to 63, not 0.0"]),
    ("linear:features=1.64", ["layer lag 0 to 63, not 1.64"]),
    ("linear:features=1.0/1.0", ["distinct pairs"]),
    ("linear:features=3", ["features must be", "3"]),
    ("linear:leaders=0.0", ["linear:leaders", "layer lag 1 to 63, not 0.0"]),
    ("linear:pair=3", ["linear:pair must be 0 or a power of two, not 3"]),
    ("linear:previous=-1", ["linear:previous must be 0 to 65536, not -1"]),
    ("linear:stages=2", ["linear:stages must be 1 or 3, not 2"]),
    ("linear:depth=0", ["linear:depth must be 1 to 64, not 0"]),
    ("combined:gain=4096", ["combined:gain must be 0 to 4095"]),
    ("table:threshold=64", ["threshold must be 0 to 63"]),
    ("lookahead:threshold=600", ["lookahead:threshold must be -512 to 511"]),
    ("popularity-ageing:rate=0", ["rate must be 1 to 12"]),
    ("activation-matrix:capacity=0", ["capacity must be 1 to 1024"]),
    ("./nowhere.py", ["nowhere.py: no such file"])])
def test_wrong_names_and_options_are_refused(text, words):
    with pytest.raises(PredictorError) as refused:
        make(text, SHAPE)
    assert all(word in str(refused.value) for word in words), refused.value


@pytest.mark.parametrize("text", ["lookahead", "combined"])
def test_lookahead_without_logits_is_refused(text, make_stretch, cut):
    stretch = make_stretch()
    object.__setattr__(stretch, "ahead", None)
    assert predictor_class(text).needs_lookahead
    for run in (make(text, SHAPE).run, lambda part: by_definition(make(text, SHAPE), part)):
        with pytest.raises(PredictorError, match=f"{text} needs look-ahead logits"):
            run(stretch)


@pytest.mark.parametrize("text, words", [
    ("x = 1", "must define one predictor with a name, not 0"),
    ("import nothing_of_this_name", "ModuleNotFoundError")])
def test_a_file_without_a_predictor_is_refused(text, words, tmp_path):
    file = tmp_path / "mine.py"
    file.write_text(text)
    with pytest.raises(PredictorError, match=words):
        make(str(file), SHAPE)
