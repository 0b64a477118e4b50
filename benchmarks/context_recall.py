"""A measured proposal, not in hardware: `linear`, and what tokens with a like routing used next.

`stmoe predict TRACE --predictor linear,benchmarks/context_recall.py`. Every token of the past is
kept. How alike one is to the present token: experts in common in the layers just routed, each layer
back counting 0.6 of the one behind it, plus 0.3 of those that their predecessors have in common in
the layer to be predicted. Its vote is exp(that), and an expert's share of the votes, against its
use by all tokens with a vote of 0.2, becomes log-odds, of which 0.6 are added to the score of
`linear`. In floating point. Hardware would compare the present routing with each of the past.
"""

import numpy as np

from stmoe_golden.predict.linear import Linear
from stmoe_golden.predict.predictor import Predictor, Shape, Stretch

BACK, BEFORE, POPULAR, PART = 0.6, 0.3, 0.2, 0.6


class ContextRecall(Predictor):
    """See the module."""

    name = "context-recall"
    description = "linear, and what tokens with a like routing used"

    def __init__(self, shape: Shape):
        super().__init__(shape)
        self.linear = Linear(shape)
        self.threshold = self.linear.threshold
        self.past = np.zeros((0, shape.layers, shape.experts), np.float32)
        self.used: np.ndarray | None = None
        self.alike = np.zeros(0)

    def _keep(self, used: np.ndarray | None) -> None:
        if used is not None:
            self.past = np.concatenate([self.past, used[None]])

    def profile(self, stretch: Stretch) -> None:
        self.linear.profile(stretch)
        if len(self.past):
            return  # the second time over
        self.past = np.zeros((len(stretch), *self.past.shape[1:]), np.float32)
        for used, experts in zip(self.past, stretch.experts, strict=True):
            for row, chosen in zip(used, experts, strict=True):
                row[chosen[chosen >= 0]] = 1

    def _score(self, layer: int, linear: np.ndarray) -> np.ndarray:
        count = len(self.past)
        if not count:
            return linear
        votes = self.alike.copy()
        here = self.past[:, layer]
        votes[1:] += BEFORE * (here[:-1] @ here[-1])
        votes = np.exp(votes - votes.max())
        use = (here.sum(0) + 0.05) / (count + 1)
        share = np.clip((votes @ here + POPULAR * use) / (votes.sum() + POPULAR), 1e-4, 0.99)
        return np.asarray(linear + np.rint(PART * 128 * np.log(share / (1 - share))), np.int64)

    def begin_token(self, token: int, first: bool) -> np.ndarray:
        self._keep(self.used)
        self.used = np.zeros(self.past.shape[1:], np.float32)
        self.alike = np.zeros(len(self.past))
        return self._score(0, self.linear.begin_token(token, first))

    def observe(self, layer: int, experts: np.ndarray,
                ahead: np.ndarray | None = None) -> np.ndarray | None:
        assert self.used is not None
        self.used[layer, experts] = 1
        self.alike = BACK * self.alike + self.past[:, layer] @ self.used[layer]
        linear = self.linear.observe(layer, experts, ahead)
        return None if linear is None else self._score(layer + 1, linear)
