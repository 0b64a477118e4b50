"""Comparison of predictors on a trace: the figures behind ``stmoe predict``."""

import time
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from stmoe.config import ConfigError
from stmoe_golden.predict.predictor import PredictorError, Shape
from stmoe_golden.predict.quality import Outcome, measure, measured_window
from stmoe_golden.predict.registry import make, names, predictor_class
from stmoe_golden.trace import Trace, Window

from .lookahead import lookahead_of

__all__ = ["AFTER_SWITCH", "BUDGETS", "compare", "key"]

BUDGETS = (1.0, 1.25, 1.5, 2.0)
CURVE_BUDGET = 1.5
AFTER_SWITCH = (32, 128, 512)
BEFORE_SWITCH = 512


def key(budget: float) -> str:
    """A budget as the JSON names it."""
    return f"{budget:g}"


def _share(part: Any, whole: Any) -> float | None:
    return float(part) / float(whole) if whole else None


def _figures(outcome: Outcome, tokens: np.ndarray, layers: slice,
             sizes: dict[str, int]) -> dict[str, Any]:
    """Recall, precision and set size over ``tokens`` (a mask) and ``layers``."""
    rank, offered = outcome.rank[tokens, layers], outcome.offered[tokens, layers]
    routed = rank.size
    found: dict[str, Any] = {"recall_at": {}, "precision_at": {}, "set_size_at": {}}
    for name, size in sizes.items():
        hits, taken = (rank < size).sum(), np.minimum(offered, size).sum(dtype=np.int64)
        found["recall_at"][name] = _share(hits, routed)
        found["precision_at"][name] = _share(hits, taken)
        found["set_size_at"][name] = _share(taken, routed)
    hits, taken = (array[tokens, layers].sum(dtype=np.int64)
                   for array in (outcome.hit, outcome.predicted))
    found["at_threshold"] = {"recall": _share(hits, routed), "precision": _share(hits, taken),
                             "set_size": _share(taken, routed)}
    return found


def _segments(domain: np.ndarray | None, count: int) -> list[tuple[int, int]]:
    """Stretches of one domain, [from, to) tokens."""
    edges = [] if domain is None else (np.flatnonzero(np.diff(domain)) + 1).tolist()
    ends = [0, *edges, count]
    return list(pairwise(ends))


class _Curve:
    """Recall over time of one predictor, at one budget, layers 1 and up."""

    def __init__(self, outcome: Outcome, counted: np.ndarray, size: int):
        hits = (outcome.rank[:, 1:] < size).sum((1, 2)) * counted
        self.hits = np.concatenate([[0], np.cumsum(hits)])
        self.routed = np.concatenate([[0], np.cumsum(counted * outcome.rank[0, 1:].size)])

    def between(self, start: int, stop: int) -> float | None:
        return _share(self.hits[stop] - self.hits[start], self.routed[stop] - self.routed[start])


def _curve(curve: _Curve, segments: list[tuple[int, int]], budget: str, start: int,
           count: int) -> dict[str, Any]:
    """Recall in windows, none of which holds a switch of domain."""
    width = 1 << min(7, max(3, (count // 100).bit_length() - 1))
    found: dict[str, Any] = {"budget": budget, "window": width, "token": [], "recall": []}
    for begin, end in segments:
        for left in range(begin, end, width):
            recall = curve.between(left, min(end, left + width))
            if recall is not None:
                found["token"].append(start + left)
                found["recall"].append(recall)
    return found


def _switches(curve: _Curve, segments: list[tuple[int, int]], labels: Sequence[str],
              start: int) -> list[dict[str, Any]]:
    """Recall around every switch of domain."""
    longest = max(stop - begin for begin, stop in segments)
    return [{"token": start + here[0], "from": labels[before[0]], "to": labels[here[0]],
             "before": curve.between(max(before[0], here[0] - BEFORE_SWITCH), here[0]),
             "first": {str(after): curve.between(here[0], min(here[1], here[0] + after))
                       for after in AFTER_SWITCH if after <= longest}}
            for before, here in pairwise(segments)]


def _sizes(trace: Trace, budgets: Sequence[float]) -> dict[str, int]:
    """Experts of each budget, rounded to even at the half."""
    sizes = {key(budget): round(budget * trace.top_k) for budget in budgets}
    for budget, size in sizes.items():
        if not 1 <= size <= trace.num_experts:
            raise ConfigError("--budget", budget, (
                f"1 to {trace.num_experts} experts in multiples of top-k = {trace.top_k}"))
    return sizes


def _chosen(trace: Trace, wanted: Sequence[str] | None, available: bool,
            why: str) -> tuple[list[str], list[str]]:
    """Predictors to run, and those left out because the trace has no look-ahead."""
    chosen = list(wanted) if wanted else names()
    left = [text for text in chosen if predictor_class(text).needs_lookahead and not available]
    if wanted and left:
        raise PredictorError(f"{trace.name}: {left[0]} needs look-ahead logits; {why}")
    shape = Shape(trace.layers, trace.num_experts, trace.top_k)
    for text in chosen:
        make(text, shape)
    return [text for text in chosen if text not in left], left


def _windowed(trace: Trace, profile: int | None, passes: int) -> tuple[Window, np.ndarray]:
    """The window that is measured, and which tokens of the trace are of it."""
    if profile is not None and not 0 <= profile < trace.tokens:
        raise ConfigError("--profile-tokens", profile, f"0 to {trace.tokens - 1}")
    window = measured_window(trace, profile, passes)
    at = np.arange(trace.tokens)
    return window, at if window.trace is trace else at[
        (at < window.profile[1]) | (trace.phase != 0)]


def compare(trace: Trace, file: str | Path, wanted: Sequence[str] | None = None,
            budgets: Sequence[float] = BUDGETS, profile: int | None = None,
            progress: Callable[[int, int], None] = lambda done, total: None,
            passes: int = 1) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """JSON data of the trace, and of each predictor on it; terms in docs/predictors.md.

    Parameters
    ----------
    wanted: predictors as :func:`~stmoe_golden.predict.registry.make` takes them; None = all that
        the trace allows.
    budgets: set sizes in multiples of top-k.
    profile: tokens to profile on; None = the default. passes: times over.
    progress: called with token-predictor pairs done, and how many there are.
    """
    sizes = _sizes(trace, budgets)
    ahead, why = lookahead_of(trace)
    chosen, left = _chosen(trace, wanted, ahead is not None, why)
    window, taken = _windowed(trace, profile, passes)
    if ahead is not None:
        ahead = ahead[taken]
    run, start, count = window.trace, window.start, window.tokens
    first = np.zeros(run.tokens, bool)
    first[run.offsets[:-1]] = True
    counted = ~first[start:]
    domain = None
    if run.domain is not None:
        domain = np.repeat(run.domain, np.diff(run.offsets))[start:]
    labels = [""] * count if domain is None else [
        run.metadata["domains"][index] for index in domain]
    segments = _segments(domain, count)
    budget = min(sizes, key=lambda name: abs(float(name) - CURVE_BUDGET))
    about = {
        "name": trace.name, "file": str(file), "model": trace.model, "layers": trace.layers,
        "experts": trace.num_experts, "top_k": trace.top_k, "profile_tokens": start,
        "profile_passes": passes,
        "tokens": count, "counted_tokens": int(counted.sum()),
        "sequences": run.sequences, "note": trace.metadata.get("note", ""),
        "lookahead": why if left or ahead is not None else None, "left_out": left,
        "domains": [{"name": labels[begin], "token": start + begin, "tokens": end - begin}
                    for begin, end in segments] if domain is not None else []}
    found = []
    shape = Shape(run.layers, run.num_experts, run.top_k)
    rest = slice(1, None)
    for index, text in enumerate(chosen):
        begun, predictor = time.perf_counter(), make(text, shape)

        def done(tokens: int, before: int = index * count) -> None:
            progress(before + tokens, len(chosen) * count)

        outcome = measure(predictor, window, ahead, done)
        curve = _Curve(outcome, counted, sizes[budget])
        entry = {"trace": trace.name, "name": text, "description": predictor.description,
                 "threshold": int(predictor.threshold), "tokens": about["counted_tokens"],
                 **_figures(outcome, counted, rest, sizes),
                 "layer_0": _figures(outcome, counted, slice(0, 1), sizes),
                 "per_layer": [{"layer": layer, **_figures(outcome, counted,
                                                           slice(layer, layer + 1), sizes)}
                               for layer in range(run.layers)],
                 "per_domain": {} if domain is None else {
                     name: _figures(outcome, counted & (domain == i), rest, sizes)
                     for i, name in enumerate(run.metadata["domains"]) if (domain == i).any()},
                 "curve": _curve(curve, segments, budget, start, count),
                 "switches": _switches(curve, segments, labels, start)}
        entry["seconds"] = time.perf_counter() - begun
        found.append(entry)
    return about, found
