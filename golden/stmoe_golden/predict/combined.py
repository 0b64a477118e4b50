"""Linear plus look-ahead: one score, of which the margin of the look-ahead is a term.

Formats as in :mod:`.linear`, and:

margin
    :func:`~.lookahead.margins`, 10 bits signed, units of 1/64, of the layer that is scored.
gain
    one per layer, 12 bits unsigned, in units of 1/64 of log-odds per logit; starts at ``gain`` and
    saturates at 0 and 4095.
score
    sum C of the rows + ((gain * margin + 2**(d-1)) >> d), d = 12 - fraction; exact, 17 bits
    signed where the sum of the rows has 16. Layer 0 has no margin, nor has a layer whose logits
    were not given: its score is that of :mod:`.linear`, and its gain does not move.
learning
    rows as in :mod:`.linear`, sum C with the margin's term; gain = saturate(gain +
    ((sum over experts of error * margin + 2**(g-1)) >> g)), g = ``gain_shift``.
"""

from dataclasses import replace

import numpy as np

from .linear import FEATURES, LEADERS, Linear, shifted
from .linear_kernel import GAIN_MAX
from .linear_rows import Pairs
from .lookahead import margins
from .predictor import Shape, Stretch, check_logits, check_option

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

    def __init__(self, shape: Shape, *, features: Pairs = FEATURES, leaders: Pairs = LEADERS,
                 lexical: int = 4096, pair: int = 8192, previous: int = 1024, stages: int = 3,
                 bits: int = 10, fraction: int = 7, rate: int = 4, lexical_rate: int = 1,
                 threshold: int = -13, depth: int = 1, gain: int = 128, gain_shift: int = 14):
        super().__init__(shape, features=features, leaders=leaders, lexical=lexical, pair=pair,
                         previous=previous, stages=stages, bits=bits, fraction=fraction, rate=rate,
                         lexical_rate=lexical_rate, threshold=threshold, depth=depth)
        check_option(self.name, "gain", gain, 0, GAIN_MAX)
        self.gain = np.full(shape.layers, gain, np.int64)
        self.gain_shift = check_option(self.name, "gain_shift", gain_shift, 8, 24)
        self.margin: np.ndarray | None = None

    def term(self, layer: int, ahead: np.ndarray | None) -> np.ndarray | int:
        if layer == 0 or ahead is None:
            self.margin = None
            return 0
        self.margin = margins(ahead, self.shape.top_k).astype(np.int64)
        return shifted(self.gain[layer] * self.margin, 12 - self.fraction)

    def learn(self, layer: int, errors: np.ndarray) -> None:
        super().learn(layer, errors)
        if self.margin is not None:
            moved = shifted(int((errors[2] * self.margin).sum()), self.gain_shift)
            self.gain[layer] = min(GAIN_MAX, max(0, int(self.gain[layer]) + moved))

    def _gain(self) -> tuple[np.ndarray, int]:
        return self.gain, self.gain_shift

    def _margins(self, stretch: Stretch) -> np.ndarray:
        if stretch.ahead is None:
            return super()._margins(stretch)
        return margins(stretch.ahead, self.shape.top_k)

    def run(self, stretch: Stretch) -> np.ndarray:
        check_logits(self, stretch)
        return super().run(stretch)

    def run_rows(self, stretch: Stretch) -> np.ndarray:
        """As :meth:`run` without any logits: rows learn, gains stay."""
        return super().run(replace(stretch, ahead=None))
