"""How good a predictor is on a trace: what every figure of ``stmoe predict`` is made of."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numba import njit

from ..traces.model import DECODE, Trace
from ..traces.window import Window, decode_slice
from .predictor import NEVER, Predictor, Stretch

__all__ = ["Outcome", "judge", "measure", "measured_window", "profile_on", "stretch_of"]

CELLS = 1 << 22  # scores held at a time


@dataclass(frozen=True, eq=False)
class Outcome:
    """What became of each prediction; int16 throughout.

    rank: [token, layer, rank], place of a routed expert in the predictor's order, 0 = best; the
        number of experts where it was not offered at all.
    offered: [token, layer], experts with a score above ``NEVER``.
    predicted, hit: [token, layer], experts at or above the threshold, and the routed among them.
    """

    rank: np.ndarray
    offered: np.ndarray
    predicted: np.ndarray
    hit: np.ndarray


@njit(cache=True)
def _judge(scores, experts, threshold, rank, offered, predicted, hit):  # pragma: no cover
    count = scores.shape[2]
    for t in range(scores.shape[0]):
        for layer in range(scores.shape[1]):
            score = scores[t, layer]
            for e in range(count):
                offered[t, layer] += score[e] > NEVER
                predicted[t, layer] += score[e] >= threshold
            for r in range(experts.shape[2]):
                x = experts[t, layer, r]
                if score[x] <= NEVER:
                    rank[t, layer, r] = count
                    continue
                hit[t, layer] += score[x] >= threshold
                place = 0
                for e in range(count):
                    place += score[e] > score[x] or (score[e] == score[x] and e < x)
                rank[t, layer, r] = place


def judge(scores: np.ndarray, experts: np.ndarray, threshold: int) -> Outcome:
    """Hold int32 ``scores`` [token, layer, expert] against int64 ``experts`` [token, layer, rank].

    A threshold at or below ``NEVER`` is raised above it: what is not offered is never predicted.
    """
    rank = np.zeros(experts.shape, np.int16)
    offered, predicted, hit = (np.zeros(experts.shape[:2], np.int16) for _ in range(3))
    _judge(scores, experts, max(threshold, NEVER + 1), rank, offered, predicted, hit)
    return Outcome(rank, offered, predicted, hit)


def stretch_of(trace: Trace, start: int, stop: int, ahead: np.ndarray | None = None) -> Stretch:
    """Tokens ``start`` to ``stop`` of ``trace``; ``ahead`` [token, layer, expert], logits in
    float, of all its tokens."""
    first = np.zeros(trace.tokens, bool)
    first[trace.offsets[:-1]] = True
    taken = None
    if ahead is not None:
        taken = np.clip(np.rint(64.0 * ahead[start:stop].astype(np.float32)), -(1 << 15),
                        (1 << 15) - 1).astype(np.int32)
    return Stretch(trace.experts[start:stop].astype(np.int64),
                   trace.token[start:stop].astype(np.int64), first[start:stop], taken)


class Profiled(Protocol):
    """A predictor or a prediction unit."""

    def profile(self, stretch: Stretch) -> None: ...


def profile_on(unit: Profiled, window: Window, ahead: np.ndarray | None = None) -> None:
    """Let ``unit`` learn from the profile of ``window``, as often as it says; ``ahead`` as of
    :func:`stretch_of`."""
    for _ in range(window.passes if window.profile[1] else 0):
        unit.profile(stretch_of(window.trace, *window.profile, ahead))


def measured_window(trace: Trace, profile: int | None = None, passes: int = 1) -> Window:
    """All decode tokens behind the profile; ``profile`` tokens, or the default of
    :func:`~..traces.window.decode_slice`, ``passes`` times over.
    :class:`~..traces.model.TraceError` if none is left."""
    if profile is None:
        profile = decode_slice(trace, 1).profile[1]
    left = int((trace.phase[max(0, profile):] == DECODE).sum())
    return decode_slice(trace, max(1, left), 0, profile, passes)


def measure(predictor: Predictor, window: Window, ahead: np.ndarray | None = None,
            progress: Callable[[int], None] = lambda tokens: None) -> Outcome:
    """Profile ``predictor``, then let it predict and learn over the rest of ``window``.

    Parameters
    ----------
    ahead: look-ahead logits of all tokens of ``window.trace``, or None.
    progress: called with the number of measured tokens done.
    """
    trace = window.trace
    profile_on(predictor, window, ahead)
    block = max(1, CELLS // (trace.layers * trace.num_experts))
    parts = []
    for start in range(window.start, trace.tokens, block):
        part = stretch_of(trace, start, min(trace.tokens, start + block), ahead)
        parts.append(judge(predictor.run(part), part.experts, predictor.threshold))
        progress(start + len(part) - window.start)
    return Outcome(*(np.concatenate([getattr(part, name) for part in parts])
                     for name in ("rank", "offered", "predicted", "hit")))
