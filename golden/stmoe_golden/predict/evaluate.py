"""Recall, set size and precision of the table predictor over a whole trace."""

from typing import NamedTuple

import numpy as np

from .table import TablePredictor

try:
    from numba import njit
except ImportError:  # plain numpy: the same numbers from TablePredictor itself, slowly
    njit = None

__all__ = ["Quality", "evaluate"]


class Quality(NamedTuple):
    """``set_size`` in multiples of top-k; over all tokens but the first, all layers but 0."""

    recall: float
    set_size: float
    precision: float


def _replay(experts, offsets, first_sequence, ids, conf, threshold, use_cct, use_ht):
    layers, k = experts.shape[1], experts.shape[2]
    num_experts, ways = ids.shape[1], ids.shape[2]
    hits, predicted, seen = 0, 0, 0
    score = np.zeros(num_experts, np.int64)
    routed = np.zeros(num_experts, np.bool_)
    for q in range(first_sequence, len(offsets) - 1):
        for t in range(offsets[q], offsets[q + 1]):
            for layer in range(layers - 1):
                score[:] = 0
                routed[:] = False
                for e in experts[t, layer + 1]:
                    routed[e] = True
                if use_cct:
                    for e in experts[t, layer]:
                        for w in range(ways):
                            score[ids[layer, e, w]] += conf[layer, e, w]
                if t > offsets[q]:
                    if use_ht:
                        for e in experts[t - 1, layer + 1]:
                            score[e] += 2
                    for f in range(num_experts):
                        if score[f] >= threshold:
                            predicted += 1
                            hits += routed[f]
                    seen += k
                if not use_cct:
                    continue
                for e in experts[t, layer]:
                    row, sure = ids[layer, e], conf[layer, e]
                    for w in range(ways):
                        if routed[row[w]]:
                            sure[w] = min(3, sure[w] + 1)
                        elif sure[w] > 0:
                            sure[w] -= 1
                        else:
                            for f in experts[t, layer + 1]:
                                if not (row == f).any():
                                    row[w] = f
                                    sure[w] = 2
                                    break
    return hits, predicted, seen


_compiled = njit(_replay) if njit else None


def _by_definition(predictor: TablePredictor, experts: np.ndarray, offsets: np.ndarray,
                   first_sequence: int) -> tuple[int, int, int]:
    hits = predicted = seen = 0
    for q in range(first_sequence, len(offsets) - 1):
        for t in range(int(offsets[q]), int(offsets[q + 1])):
            first = t == offsets[q]
            for layer in range(predictor.layers):
                found = predictor.observe(layer, experts[t, layer], first)
                if layer + 1 < predictor.layers and not first:
                    routed = set(experts[t, layer + 1].tolist())
                    hits += sum(e in routed for e, _ in found)
                    predicted += len(found)
                    seen += len(routed)
    return hits, predicted, seen


def evaluate(trace_experts: np.ndarray, offsets: np.ndarray, profile_sequences: int, *,
             experts: int = 0, threshold: int = 2, use_cct: bool = True, use_ht: bool = True,
             compiled: bool = True) -> Quality:
    """Profile on the first ``profile_sequences``, then predict and learn on all others.

    Parameters
    ----------
    trace_experts: [token, layer, rank]. offsets: first token of each sequence, and the end.
    experts: experts per layer; 0 = highest id in the trace + 1.
    compiled: use numba where it is installed; the result is the same.
    """
    trace = np.asarray(trace_experts).astype(np.int64)
    offsets = np.asarray(offsets).astype(np.int64)
    experts = experts or int(trace.max()) + 1
    predictor = TablePredictor(trace.shape[1], experts, trace.shape[2], threshold=threshold,
                               use_cct=use_cct, use_ht=use_ht)
    if profile_sequences:
        predictor.profile(trace, offsets[:profile_sequences + 1])
    if compiled and _compiled:
        hits, predicted, seen = _compiled(trace, offsets, profile_sequences, *predictor.rows(),
                                          threshold, use_cct, use_ht)
    else:
        hits, predicted, seen = _by_definition(predictor, trace, offsets, profile_sequences)
    return Quality(hits / max(1, seen), predicted / max(1, seen), hits / max(1, predicted))
