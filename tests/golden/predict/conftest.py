"""Random routing with structure: layers, previous token and token identity all tell something."""

from itertools import pairwise

import numpy as np
import pytest

from stmoe_golden.predict.predictor import Shape, Stretch

SHAPE = Shape(layers=4, experts=12, top_k=3)


def random_stretch(seed: int = 1, tokens: int = 90, shape: Shape = SHAPE) -> Stretch:
    rng = np.random.default_rng(seed)
    token = rng.integers(-1, 20, tokens)
    base = rng.normal(size=(21, shape.layers, shape.experts))[token]
    drift = np.cumsum(rng.normal(size=(tokens, 1, shape.experts)), axis=0) / 4
    logits = base + drift + rng.normal(size=base.shape) / 2
    experts = np.argsort(-logits, axis=-1)[..., :shape.top_k]
    ahead = np.zeros(logits.shape, np.int32)
    ahead[:, :-1] = np.rint(64 * (logits[:, 1:] + rng.normal(size=logits[:, 1:].shape) / 2))
    first = rng.random(tokens) < 0.05
    first[0] = True
    return Stretch(experts, token, first, ahead)


def pieces(stretch: Stretch, *edges: int) -> list[Stretch]:
    ends = [0, *edges, len(stretch)]
    return [Stretch(stretch.experts[a:b], stretch.token[a:b], stretch.first[a:b],
                    None if stretch.ahead is None else stretch.ahead[a:b])
            for a, b in pairwise(ends)]


@pytest.fixture
def make_stretch():
    """Call with seed, tokens and shape."""
    return random_stretch


@pytest.fixture
def cut():
    """Call with a stretch and token numbers: the pieces between them."""
    return pieces
