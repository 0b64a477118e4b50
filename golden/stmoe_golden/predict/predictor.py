"""One interface of all predictors of the next layer's experts; see docs/adding-a-predictor.md."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, ClassVar

import numpy as np

__all__ = ["NEVER", "PROBABLE", "Predictor", "PredictorError", "Shape", "Stretch", "by_definition",
           "check_logits", "check_option"]

NEVER = -(1 << 30)
"""Score of an expert that is not predicted at any budget or threshold."""

PROBABLE = 0.31
"""Least probability of use that is worth a prefetch where a score is one: log-odds of -0.8."""


class PredictorError(ValueError):
    """An unknown predictor or an illegal option; the message names it, the value and the limit."""


@dataclass(frozen=True)
class Shape:
    """``layers`` MoE layers, ``experts`` of them per layer, ``top_k`` used per token."""

    layers: int
    experts: int
    top_k: int


@dataclass(frozen=True, eq=False)
class Stretch:
    """Consecutive tokens.

    experts: int64 [token, layer, rank], distinct ids, rank 0 = largest router weight. Of a stretch
        that is profiled, -1 in the last layer: not recorded; the token ends before it.
    token: int64 [token], identity of the input token, -1 unknown.
    first: bool [token], whether it begins a sequence.
    ahead: int32 [token, layer, expert], logits in units of 1/64 of the next layer's router on this
        layer's input (last layer: not read), -32768 to 32767; or None.
    """

    experts: np.ndarray
    token: np.ndarray
    first: np.ndarray
    ahead: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.experts)


class Predictor(ABC):
    """Told tokens and routed layers in order, scores the experts of the layer that comes next.

    A score is an integer, higher is better, equal scores in order of id: a budget of m experts is
    the m best, a threshold takes those that reach it. Subclasses call ``super().__init__(shape)``
    and take their options as further integer keywords with defaults.

    Members
    -------
    name: by which it is asked for. description: half a line for lists.
    needs_lookahead: whether a :class:`Stretch` without ``ahead`` is refused.
    threshold: least score that the predictor itself would prefetch.
    """

    name: ClassVar[str]
    description: ClassVar[str] = ""
    needs_lookahead: ClassVar[bool] = False
    threshold: int = 1

    def __init__(self, shape: Shape):
        self.shape = shape

    @abstractmethod
    def begin_token(self, token: int, first: bool) -> np.ndarray:
        """A token of identity ``token`` (-1 unknown) begins; int [expert], scores of layer 0."""

    @abstractmethod
    def observe(self, layer: int, experts: np.ndarray,
                ahead: np.ndarray | None = None) -> np.ndarray | None:
        """``layer`` was routed to ``experts`` [rank]; int [expert], scores of ``layer + 1``.

        None after the last layer. ``ahead`` [expert] as in :class:`Stretch`. What was routed is
        learned here: first learn, then predict.
        """

    def foretell(self, experts: np.ndarray) -> None:  # noqa: B027
        """The routing [layer, rank] of the token about to begin. Only an oracle listens."""

    def profile(self, stretch: Stretch) -> None:
        """Learn from tokens before the first prediction that counts; by default just run."""
        partial = (stretch.experts[:, -1, 0] < 0).astype(int)
        edges = (np.flatnonzero(np.diff(partial)) + 1).tolist()
        for start, stop in pairwise([0, *edges, len(stretch)]):
            part = Stretch(stretch.experts[start:stop], stretch.token[start:stop],
                           stretch.first[start:stop],
                           None if stretch.ahead is None else stretch.ahead[start:stop])
            if start < stop and partial[start]:
                by_definition(self, part)
            else:
                self.run(part)

    def run(self, stretch: Stretch) -> np.ndarray:
        """int32 [token, layer, expert], the scores of every layer before it was routed.

        The state moves on, so that a long trace may come in pieces. Override it with something
        fast that gives the same as :func:`by_definition`.
        """
        return by_definition(self, stretch)

    def nothing(self) -> np.ndarray:
        """Scores that predict no expert."""
        return np.full(self.shape.experts, NEVER, np.int64)


def by_definition(predictor: Predictor, stretch: Stretch) -> np.ndarray:
    """What :meth:`Predictor.run` gives, by :meth:`~Predictor.begin_token` and
    :meth:`~Predictor.observe` token by token."""
    check_logits(predictor, stretch)
    shape = predictor.shape
    scores = np.full((len(stretch), shape.layers, shape.experts), NEVER, np.int32)
    for t, routed in enumerate(stretch.experts):
        predictor.foretell(routed)
        scores[t, 0] = predictor.begin_token(int(stretch.token[t]), bool(stretch.first[t]))
        for layer in range(shape.layers):
            if routed[layer, 0] < 0:
                break
            ahead = None if stretch.ahead is None else stretch.ahead[t, layer]
            after = predictor.observe(layer, routed[layer], ahead)
            if after is not None:
                scores[t, layer + 1] = after
    return scores


def check_logits(predictor: Predictor, stretch: Stretch) -> None:
    """:class:`PredictorError` if ``predictor`` needs look-ahead logits and there are none."""
    if predictor.needs_lookahead and stretch.ahead is None:
        raise PredictorError(f"{predictor.name} needs look-ahead logits")


def check_option(owner: str, option: str, value: Any, low: int, high: int) -> int:
    """``value`` if it is an integer from ``low`` to ``high``, else :class:`PredictorError`."""
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise PredictorError(f"{owner}:{option} must be {low} to {high}, not {value!r}")
    return value
