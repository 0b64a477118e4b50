"""How often an expert was used, whatever the token: counted once, or with ageing."""

import numpy as np
from numba import njit

from .predictor import PROBABLE, Predictor, Shape, Stretch, check_option

__all__ = ["ONE", "AgeingPopularity", "Popularity"]

ONE = 1 << 16  # score of an expert that every token uses


class Popularity(Predictor):
    """Share of the profiled tokens that used an expert, rounded down to 1/65536; fixed after it."""

    name = "popularity"
    description = "use counted in the profile"
    threshold = round(PROBABLE * ONE)

    def __init__(self, shape: Shape):
        super().__init__(shape)
        self.score = np.zeros((shape.layers, shape.experts), np.int32)

    def profile(self, stretch: Stretch) -> None:
        for layer in range(self.shape.layers):
            known = stretch.experts[stretch.experts[:, layer, 0] >= 0, layer]
            counts = np.bincount(known.ravel(), minlength=self.shape.experts)
            self.score[layer] = counts * ONE // max(1, len(known))

    def begin_token(self, token: int, first: bool) -> np.ndarray:
        return self.score[0]

    def observe(self, layer: int, experts: np.ndarray,
                ahead: np.ndarray | None = None) -> np.ndarray | None:
        return self.score[layer + 1] if layer + 1 < self.shape.layers else None

    def run(self, stretch: Stretch) -> np.ndarray:
        return np.broadcast_to(self.score, (len(stretch), *self.score.shape))


@njit(cache=True)
def _age(experts, score, rate, scores):  # pragma: no cover - compiled
    for t in range(len(experts)):
        scores[t] = score
        for layer in range(score.shape[0]):
            for e in range(score.shape[1]):
                score[layer, e] -= score[layer, e] >> rate
            for e in experts[t, layer]:
                score[layer, e] += 65536 >> rate


class AgeingPopularity(Predictor):
    """A use frequency that forgets: p -= p >> rate at every token, then p += 65536 >> rate if the
    token used the expert. Kept across sequences.

    Parameters
    ----------
    rate: 1 to 12; half of what was seen is forgotten after 0.7 * 2**rate tokens.
    """

    name = "popularity-ageing"
    description = "use counted with ageing"
    threshold = round(PROBABLE * ONE)

    def __init__(self, shape: Shape, *, rate: int = 5):
        super().__init__(shape)
        self.rate = check_option(self.name, "rate", rate, 1, 12)
        self.score = np.zeros((shape.layers, shape.experts), np.int32)

    def begin_token(self, token: int, first: bool) -> np.ndarray:
        return self.score[0].copy()

    def observe(self, layer: int, experts: np.ndarray,
                ahead: np.ndarray | None = None) -> np.ndarray | None:
        self.score[layer] -= self.score[layer] >> self.rate
        self.score[layer, experts] += ONE >> self.rate
        return self.score[layer + 1].copy() if layer + 1 < self.shape.layers else None

    def run(self, stretch: Stretch) -> np.ndarray:
        scores = np.empty((len(stretch), *self.score.shape), np.int32)
        _age(stretch.experts, self.score, self.rate, scores)
        return scores
