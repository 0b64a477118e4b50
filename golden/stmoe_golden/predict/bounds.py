"""The two ends of every comparison: no prediction, and perfect knowledge of the next layer."""

import numpy as np

from .predictor import NEVER, Predictor, Shape, Stretch

__all__ = ["NoPrediction", "Oracle"]


class NoPrediction(Predictor):
    """Predicts nothing, at any budget."""

    name = "none"
    description = "nothing is predicted"

    def begin_token(self, token: int, first: bool) -> np.ndarray:
        return self.nothing()

    def observe(self, layer: int, experts: np.ndarray,
                ahead: np.ndarray | None = None) -> np.ndarray | None:
        return self.nothing() if layer + 1 < self.shape.layers else None

    def run(self, stretch: Stretch) -> np.ndarray:
        return np.full((len(stretch), self.shape.layers, self.shape.experts), NEVER, np.int32)


class Oracle(Predictor):
    """Knows what is routed next, layer 0 included: score 1 for those experts, no others."""

    name = "oracle"
    description = "the next layer's experts, known"

    def __init__(self, shape: Shape):
        super().__init__(shape)
        self.future: np.ndarray | None = None

    def foretell(self, experts: np.ndarray) -> None:
        self.future = experts

    def _known(self, layer: int) -> np.ndarray:
        assert self.future is not None, "an oracle must be foretold"
        scores = self.nothing()
        scores[self.future[layer]] = 1
        return scores

    def begin_token(self, token: int, first: bool) -> np.ndarray:
        return self._known(0)

    def observe(self, layer: int, experts: np.ndarray,
                ahead: np.ndarray | None = None) -> np.ndarray | None:
        return self._known(layer + 1) if layer + 1 < self.shape.layers else None

    def run(self, stretch: Stretch) -> np.ndarray:
        scores = np.full((len(stretch), self.shape.layers, self.shape.experts), NEVER, np.int32)
        np.put_along_axis(scores, stretch.experts, 1, axis=2)
        return scores
