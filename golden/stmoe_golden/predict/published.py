"""The published predictor, :class:`~.table.TablePredictor`, behind the common interface."""

import numpy as np
from numba import njit

from .predictor import NEVER, Predictor, Shape, Stretch, check_option
from .table import SHARED_SCORE, TablePredictor

__all__ = ["Cct", "Table"]


@njit(cache=True)
def _replay(experts, first, ids, conf, history, known, use_cct, use_ht,
            scores):  # pragma: no cover
    ways = ids.shape[2]
    used = np.zeros(scores.shape[2], np.bool_)
    for t in range(len(experts)):
        for layer in range(experts.shape[1] - 1):
            score = scores[t, layer + 1]
            score[:] = 0
            for e in experts[t, layer] if use_cct else experts[t, layer, :0]:
                for w in range(ways):
                    score[ids[layer, e, w]] += conf[layer, e, w]
            if use_ht and known and not first[t]:
                for e in (experts[t - 1, layer + 1] if t > 0 else history[layer + 1]):
                    score[e] += 2
            if not use_cct:
                continue
            used[:] = False
            for e in experts[t, layer + 1]:
                used[e] = True
            for e in experts[t, layer]:
                row, sure = ids[layer, e], conf[layer, e]
                for w in range(ways):
                    if used[row[w]]:
                        sure[w] = min(3, sure[w] + 1)
                    elif sure[w] > 0:
                        sure[w] -= 1
                    else:
                        for new in experts[t, layer + 1]:
                            if not (row == new).any():
                                row[w] = new
                                sure[w] = 2
                                break
        known = True


class Table(Predictor):
    """CCT + HT. Profiled by counting; nothing is known of layer 0.

    Parameters
    ----------
    threshold: least score that is predicted, 0 to 63.
    """

    name = "table"
    description = "CCT + HT as published"
    use_ht = True

    def __init__(self, shape: Shape, *, threshold: int = 2):
        super().__init__(shape)
        self.threshold = check_option(self.name, "threshold", threshold, 0, SHARED_SCORE)
        self.inner = TablePredictor(shape.layers, shape.experts, shape.top_k,
                                    threshold=threshold, use_ht=self.use_ht)
        self.first = True

    def profile(self, stretch: Stretch) -> None:
        self.inner.profile(stretch.experts, np.array([0, len(stretch)]))

    def begin_token(self, token: int, first: bool) -> np.ndarray:
        self.first = first
        return self.nothing()

    def observe(self, layer: int, experts: np.ndarray,
                ahead: np.ndarray | None = None) -> np.ndarray | None:
        chosen = experts.tolist()
        scores = None
        if layer + 1 < self.shape.layers:
            scores = self.inner.scores(layer, chosen, self.first)
        self.inner.observe(layer, chosen, self.first)
        return scores

    def run(self, stretch: Stretch) -> np.ndarray:
        scores = np.full((len(stretch), self.shape.layers, self.shape.experts), NEVER, np.int32)
        if not len(stretch):
            return scores
        inner, history = self.inner, np.zeros(stretch.experts.shape[1:], np.int64)
        recent = [row for row in inner.history if row is not None]
        known = len(recent) == len(history)
        if known:
            history[:] = recent
        _replay(stretch.experts, stretch.first, inner.ids, inner.conf, history, known,
                inner.use_cct, inner.use_ht, scores)
        last, self.first = stretch.experts[-1].tolist(), bool(stretch.first[-1])
        if inner.use_ht:
            inner.history = last
        inner.previous = self.shape.layers - 1, last[-1], self.first
        return scores


class Cct(Table):
    """The correlation table alone."""

    name = "cct"
    description = "cross-layer correlation table alone"
    use_ht = False
