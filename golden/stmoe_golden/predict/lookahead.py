"""The next layer's router on this layer's input."""

import numpy as np

from .predictor import Predictor, PredictorError, Shape, Stretch, check_option

__all__ = ["MARGIN_MAX", "MARGIN_MIN", "Lookahead", "margins"]

MARGIN_MIN, MARGIN_MAX = -512, 511


def margins(ahead: np.ndarray, top_k: int) -> np.ndarray:
    """Look-ahead logits less the ``top_k``-th largest, in units of 1/64, clipped to 10 bits.

    What is 0 or above would be chosen, if the input did not change any more. ``ahead`` int32
    [.., expert] as in :class:`~.predictor.Stretch`; int32 of the same shape.
    """
    last = ahead.shape[-1] - top_k
    least = np.partition(ahead, last, axis=-1)[..., last:last + 1]
    return np.clip(ahead - least, MARGIN_MIN, MARGIN_MAX).astype(np.int32)


class Lookahead(Predictor):
    """The margin to being chosen, :func:`margins`, is the score. Nothing is learned, and nothing
    known of layer 0.

    Parameters
    ----------
    threshold: least margin that is predicted, in units of 1/64, -512 to 511.
    """

    name = "lookahead"
    description = "next layer's router on this layer's input"
    needs_lookahead = True

    def __init__(self, shape: Shape, *, threshold: int = -16):
        super().__init__(shape)
        self.threshold = check_option(self.name, "threshold", threshold, MARGIN_MIN, MARGIN_MAX)

    def begin_token(self, token: int, first: bool) -> np.ndarray:
        return self.nothing()

    def observe(self, layer: int, experts: np.ndarray,
                ahead: np.ndarray | None = None) -> np.ndarray | None:
        if layer + 1 == self.shape.layers:
            return None
        if ahead is None:
            raise PredictorError(f"{self.name} needs look-ahead logits")
        return margins(ahead, self.shape.top_k)

    def run(self, stretch: Stretch) -> np.ndarray:
        if stretch.ahead is None:
            raise PredictorError(f"{self.name} needs look-ahead logits")
        scores = np.empty(stretch.ahead.shape, np.int32)
        scores[:, 0] = self.nothing()
        scores[:, 1:] = margins(stretch.ahead[:, :-1], self.shape.top_k)
        return scores
