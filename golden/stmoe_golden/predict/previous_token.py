"""The history table alone: the experts that the previous token used in the same layer."""

import numpy as np

from .predictor import Predictor, Shape, Stretch

__all__ = ["PreviousToken"]


class PreviousToken(Predictor):
    """Score ``top_k - rank`` if the previous token of the sequence used the expert at that rank,
    else 0; all 0 at the first token of a sequence."""

    name = "previous-token"
    description = "experts of the token before (HT)"

    def __init__(self, shape: Shape):
        super().__init__(shape)
        self.score = np.zeros((shape.layers, shape.experts), np.int32)
        self.rank = (shape.top_k - np.arange(shape.top_k)).astype(np.int32)

    def begin_token(self, token: int, first: bool) -> np.ndarray:
        if first:
            self.score[:] = 0
        return self.score[0].copy()

    def observe(self, layer: int, experts: np.ndarray,
                ahead: np.ndarray | None = None) -> np.ndarray | None:
        self.score[layer] = 0
        self.score[layer, experts] = self.rank
        return self.score[layer + 1].copy() if layer + 1 < self.shape.layers else None

    def run(self, stretch: Stretch) -> np.ndarray:
        scores = np.zeros((len(stretch) + 1, *self.score.shape), np.int32)
        scores[0] = self.score
        np.put_along_axis(scores[1:], stretch.experts,
                          np.broadcast_to(self.rank, stretch.experts.shape), axis=2)
        self.score = scores[-1].copy()
        scores[:-1][stretch.first] = 0
        return scores[:-1]
