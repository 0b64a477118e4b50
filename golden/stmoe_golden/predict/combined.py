"""Linear plus look-ahead: one score, of which the margin of the look-ahead is a term.

Formats as in :mod:`.linear`, and:

margin
    :func:`~.lookahead.margins`, 10 bits signed, units of 1/64, of the layer that is scored.
gain
    one per layer, 12 bits unsigned, in units of 1/64 of log-odds per logit; starts at ``gain`` and
    saturates at 0 and 4095.
score
    sum of the rows + ((gain * margin + 2**(d-1)) >> d), d = 12 - fraction; exact, 17 bits
    signed where the sum of the rows has 16. Layer 0 has no margin.
learning
    rows as in :mod:`.linear`, from the error of the whole score; gain = saturate(gain +
    ((sum over experts of error * margin + 2**(g-1)) >> g)), g = ``gain_shift``.
"""

import numpy as np

from .linear import FEATURES, Linear, shifted
from .linear_kernel import GAIN_MAX
from .lookahead import margins
from .predictor import PredictorError, Shape, Stretch, check_option

__all__ = ["Combined"]


class Combined(Linear):
    """Look-ahead logits as a feature among the others; formats in this module's docstring.

    Parameters
    ----------
    gain: at the start, 0 to 4095. gain_shift: of its learning, 8 to 24.
    others: as of :class:`~.linear.Linear`. ``features=none:lexical=0`` leaves a look-ahead with a
    learned bias per expert.
    """

    name = "combined"
    description = "linear + look-ahead in one score"
    needs_lookahead = True

    def __init__(self, shape: Shape, *, features: tuple[tuple[int, int], ...] = FEATURES,
                 lexical: int = 1024, bits: int = 10, fraction: int = 6, rate: int = 4,
                 lexical_rate: int = 1, threshold: int = -13, gain: int = 128,
                 gain_shift: int = 14):
        super().__init__(shape, features=features, lexical=lexical, bits=bits, fraction=fraction,
                         rate=rate, lexical_rate=lexical_rate, threshold=threshold)
        check_option(self.name, "gain", gain, 0, GAIN_MAX)
        self.gain = np.full(shape.layers, gain, np.int64)
        self.gain_shift = check_option(self.name, "gain_shift", gain_shift, 8, 24)
        self.margin: np.ndarray | None = None

    def begin_token(self, token: int, first: bool) -> np.ndarray:
        self.margin = None
        return super().begin_token(token, first)

    def observe(self, layer: int, experts: np.ndarray,
                ahead: np.ndarray | None = None) -> np.ndarray | None:
        scores = super().observe(layer, experts, ahead)
        if scores is None:
            return None
        if ahead is None:
            raise PredictorError(f"{self.name} needs look-ahead logits")
        self.margin = margins(ahead, self.shape.top_k).astype(np.int64)
        return self._scored(layer + 1, scores + shifted(self.gain[layer + 1] * self.margin,
                                                        12 - self.fraction))

    def learn(self, layer: int, error: np.ndarray) -> None:
        super().learn(layer, error)
        if self.margin is not None:
            moved = shifted(int((error * self.margin).sum()), self.gain_shift)
            self.gain[layer] = min(GAIN_MAX, max(0, int(self.gain[layer]) + moved))

    def _gain(self) -> tuple[np.ndarray, int]:
        return self.gain, self.gain_shift

    def _margins(self, stretch: Stretch) -> np.ndarray:
        if stretch.ahead is None:
            raise PredictorError(f"{self.name} needs look-ahead logits")
        return margins(stretch.ahead, self.shape.top_k)
