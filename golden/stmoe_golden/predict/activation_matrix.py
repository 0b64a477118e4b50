"""Matching of requests by their expert activation matrices, after MoE-Infinity."""

import math

import numpy as np
from numba import njit

from .predictor import PROBABLE, Predictor, Shape, Stretch, check_option

__all__ = ["ActivationMatrix"]

ONE = 1 << 10


@njit(cache=True)
def _nearest(matrix, past, norm, stored):  # pragma: no cover - compiled
    best, where = 0.0, -1
    for i in range(stored):
        dot = 0
        for j in range(len(matrix)):
            dot += matrix[j] * past[i, j]
        if dot / norm[i] > best:
            best, where = dot / norm[i], i
    return where


class ActivationMatrix(Predictor):
    """A sequence is known by how often it used which expert, [layer, expert]. At every token, the
    past sequence whose matrix is most similar to that of the present one (cosine, earlier stored
    first among equals) tells the experts of all layers: its use per token, rounded down to 1/1024.
    As long as none has anything in common with it, the present matrix itself is used.

    A matrix is stored when its sequence is over: the next one's first token says so. When the
    collection is full, it replaces the most similar one.

    Parameters
    ----------
    capacity: matrices stored, 1 to 1024.
    """

    name = "activation-matrix"
    description = "nearest past sequence (MoE-Infinity)"
    threshold = round(PROBABLE * ONE)

    def __init__(self, shape: Shape, *, capacity: int = 64):
        super().__init__(shape)
        self.capacity = check_option(self.name, "capacity", capacity, 1, 1024)
        cells = shape.layers * shape.experts
        self.past = np.zeros((capacity, cells), np.int64)
        self.norm = np.ones(capacity, np.float64)
        self.length = np.ones(capacity, np.int64)
        self.stored = 0
        self.matrix = np.zeros(cells, np.int64)
        self.tokens = 0
        self.scores = np.zeros((shape.layers, shape.experts), np.int32)

    def nearest(self) -> int:
        """Index of the stored matrix most similar to the present one, -1 if none is at all."""
        similar = (self.past[:self.stored] @ self.matrix) / self.norm[:self.stored]
        return int(similar.argmax()) if self.stored and similar.max() > 0 else -1

    def _store(self, nearest: int) -> None:
        at = nearest if self.stored == self.capacity else self.stored
        if self.stored < self.capacity:
            self.stored += 1
        self.past[at], self.length[at] = self.matrix, self.tokens
        self.norm[at] = math.sqrt(int((self.matrix * self.matrix).sum()))

    def _begin(self, first: bool, nearest: int) -> None:
        """``nearest`` as :meth:`nearest` would tell."""
        if first and self.tokens:
            self._store(nearest)
            self.matrix[:], self.tokens, nearest = 0, 0, -1
        found, tokens = ((self.matrix, self.tokens) if nearest < 0
                         else (self.past[nearest], self.length[nearest]))
        self.scores = (found * ONE // max(1, tokens)).reshape(self.scores.shape).astype(np.int32)
        self.tokens += 1

    def begin_token(self, token: int, first: bool) -> np.ndarray:
        self._begin(first, self.nearest())
        return self.scores[0]

    def observe(self, layer: int, experts: np.ndarray,
                ahead: np.ndarray | None = None) -> np.ndarray | None:
        self.matrix[layer * self.shape.experts + experts] += 1
        return self.scores[layer + 1] if layer + 1 < self.shape.layers else None

    def run(self, stretch: Stretch) -> np.ndarray:
        scores = np.empty((len(stretch), *self.scores.shape), np.int32)
        cells = np.arange(self.shape.layers)[:, None] * self.shape.experts + stretch.experts
        for t, first in enumerate(stretch.first):
            self._begin(bool(first), _nearest(self.matrix, self.past, self.norm, self.stored))
            scores[t] = self.scores
            self.matrix[cells[t].ravel()] += 1
        return scores
