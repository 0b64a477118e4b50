"""What the timing model is fed with: routing, and the rounds of candidates that follow from it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np

from stmoe.config import AcceleratorConfig, Geometry

from ..predict.unit import Candidate, LearnedUnit, PredictionUnit
from .state import records

__all__ = ["Rounds", "Stimulus", "no_rounds", "rounds_at_token", "rounds_by_score",
           "rounds_of"]


@dataclass(frozen=True)
class Rounds:
    """Rounds of candidates, one per token and per layer of it, and what a learned unit reads.

    Records of ``timing.state.FIELDS``. round: [round + 1], first of its segments, one per layer
    predicted, and rows that learn. segment: [segment + 1], that layer, rows added, first candidate.
    rows: int64 [token, table], row by identity, over all tables, -1 none.
    """

    round: np.ndarray
    segment: np.ndarray
    candidate: np.ndarray
    rows: np.ndarray


@dataclass(frozen=True)
class Stimulus:
    """Routing int64 [token, layer, rank]; token int64 [token], identities, -1 unknown; first bool
    [token], of its sequence; and the rounds of one prediction unit, None = nothing is predicted.
    active: int [token, layer], routed experts that are computed, by rank, None = all. popularity:
    int [layer, expert], for static retention."""

    routing: np.ndarray
    token: np.ndarray
    first: np.ndarray
    rounds: Rounds | None = None
    active: np.ndarray | None = None
    popularity: np.ndarray | None = None


class _Listening(LearnedUnit):
    """A unit that tells of each layer that it scores, and how many rows that took, up to the end of
    each stage: deep scores are without those that are not known yet."""

    scored: list[tuple[int, list[int], list[Candidate]]]

    def _candidates(self, layer: int, scores: np.ndarray, rows: int) -> list[Candidate]:
        found = super()._candidates(layer, scores, rows)
        known = self.predictor.seen
        stages = [0] * rows if known == self.config.model.layers - 1 else [
            stage for *_, stage in self.predictor.staged_rows(layer, known)]
        upto = [sum(stage <= last for stage in stages) for last in range(3)]
        self.scored.append((layer, upto, list(found)))  # what is returned is added to
        return found


def rounds_of(config: AcceleratorConfig, unit: PredictionUnit | None, routing: np.ndarray,
              token: np.ndarray, first: np.ndarray,
              ahead: np.ndarray | None = None) -> Rounds | None:
    """The rounds of ``unit``, which has been profiled and learns from what it sees here.

    Parameters
    ----------
    routing: [token, layer, rank]. token, first: as of :class:`Stimulus`. ahead: int [token, layer,
        expert], look-ahead logits, None = none.
    """
    if unit is None:
        return None
    listening: _Listening | None = None
    if isinstance(unit, LearnedUnit):
        unit.__class__ = _Listening
        listening = cast(_Listening, unit)
    tokens, layers, _ = routing.shape
    segments: list[int] = [0]
    about: list[int] = []
    counts: list[int] = []
    rows: list[list[int]] = []
    found: list[Candidate] = []
    learns = np.zeros(tokens * (layers + 1), np.int64)
    options = config.linear
    by_table = np.full((tokens, len(options.tables)), -1, np.int64)
    offsets = dict(zip(options.tables, np.cumsum([0, *options.tables.values()]).tolist(),
                       strict=False))

    def add(step: Sequence[Candidate]) -> None:
        groups: list[tuple[int, list[int], Sequence[Candidate]]] = (
            list(listening.scored) if listening else
            [(step[0][0], [0, 0, 0], step)] if step else [])
        for layer, number, part in groups:
            about.append(layer)
            rows.append(number)
            counts.append(len(part))
            found.extend(part)
        segments.append(len(about))

    for t in range(tokens):
        if listening:
            listening.scored = []
        add(unit.token(int(token[t]), bool(first[t])))
        if listening:
            for name, row in listening._chosen().items():
                by_table[t, list(options.tables).index(name)] = offsets[name] + row
        for layer in range(layers):
            step = t * (layers + 1) + layer + 1
            if listening:
                listening.scored = []
                learns[step] = len(listening.predictor.rows(layer))
            else:
                learns[step] = config.model.top_k + 6 if layer else 0
            add(unit.observe(layer, routing[t, layer].tolist(), bool(first[t]),
                             None if ahead is None else ahead[t, layer]))
            if not listening and layer + 1 < layers and len(segments) > 1 and (
                    segments[-1] == segments[-2]):  # a scan that finds nothing
                about.append(layer + 1)
                rows.append([0, 0, 0])
                counts.append(0)
                segments[-1] = len(about)
    rounds = records("round", len(segments))
    rounds["segment"], rounds["learn_rows"][:-1] = segments, learns
    parts = records("segment", len(about) + 1)
    parts["about"][:-1] = about
    for name, number in zip(("rows_a", "rows_b", "score_rows"), zip(*rows, strict=True),
                            strict=False):
        parts[name][:-1] = number
    parts["first"] = np.cumsum([0, *counts])
    candidates = records("candidate", len(found) + 1)
    candidates["expert"][:-1] = [e for _, e, _ in found]
    candidates["score"][:-1] = [score for *_, score in found]
    return Rounds(rounds, parts, candidates, by_table)


def _named(config: AcceleratorConfig, tokens: int, step: np.ndarray, about: np.ndarray,
           scores: np.ndarray, threshold: int, limit: int) -> Rounds:
    """Rounds whose segments are in ``step`` [segment], rising, of layer ``about``, and name the
    experts with ``scores`` [segment, expert] of ``threshold``, the ``limit`` best, in falling
    score; shared ones before."""
    layers, experts, shared = config.model.layers, scores.shape[1], config.model.shared_units
    order = np.argsort(-scores, axis=1, kind="stable")[:, :limit]
    best = np.take_along_axis(scores, order, axis=1)
    ids = np.concatenate([np.tile(np.arange(experts, experts + shared), (len(step), 1)), order], 1)
    values = np.pad(best, ((0, 0), (shared, 0)), constant_values=63)
    keep = np.pad(best >= threshold, ((0, 0), (shared, 0)), constant_values=True)
    parts = records("segment", len(step) + 1)
    parts["about"][:-1] = about
    parts["first"] = np.concatenate([[0], np.cumsum(keep.sum(1))])
    found = records("candidate", int(keep.sum()) + 1)
    found["expert"][:-1], found["score"][:-1] = ids[keep], values[keep]
    rounds = records("round", tokens * (layers + 1) + 1)
    rounds["segment"] = np.searchsorted(step, np.arange(len(rounds)))
    return Rounds(rounds, parts, found, no_rounds(Geometry(config), tokens).rows)


def rounds_by_score(config: AcceleratorConfig, scores: np.ndarray | Sequence[np.ndarray],
                    threshold: int, limit: int) -> Rounds:
    """Rounds of any predictor's ``scores``, int [token, layer, expert]: of the next layer, and of
    those behind it, from arrays of scores as they are one layer earlier, two, ...

    A round names the experts with at least ``threshold``, the ``limit`` best of them, in falling
    score, shared ones before.
    """
    by_depth = [scores] if isinstance(scores, np.ndarray) else list(scores)
    tokens, layers, _ = by_depth[0].shape
    token, layer, deep = (axis.ravel() for axis in np.meshgrid(
        np.arange(tokens), np.arange(layers), np.arange(len(by_depth)), indexing="ij"))
    inside = layer + deep < layers
    token, layer, deep = token[inside], layer[inside], deep[inside]
    return _named(config, tokens, token * (layers + 1) + layer, layer + deep,
                  np.stack(by_depth)[deep, token, layer + deep], threshold, limit)


def rounds_at_token(config: AcceleratorConfig, scores: np.ndarray, threshold: int, limit: int,
                    cutoff: int) -> Rounds:
    """The same of a token's announcement alone, which names the experts of its first ``cutoff``
    layers."""
    tokens, layers, experts = scores.shape
    cutoff = min(cutoff, layers)
    return _named(config, tokens, np.repeat(np.arange(tokens) * (layers + 1), cutoff),
                  np.tile(np.arange(cutoff), tokens),
                  scores[:, :cutoff].reshape(-1, experts), threshold, limit)


def no_rounds(geometry: Geometry, tokens: int) -> Rounds:
    """Rounds without candidates."""
    rounds = tokens * (geometry.config.model.layers + 1)
    return Rounds(records("round", rounds + 1), records("segment", 2), records("candidate", 1),
                  np.full((tokens, len(geometry.config.linear.tables)), -1, np.int64))
