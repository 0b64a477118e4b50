"""Recall, set size and precision of the published table predictor over a whole trace."""

from typing import NamedTuple

import numpy as np

from .predictor import Shape, Stretch, by_definition
from .published import Table
from .quality import judge
from .table import TablePredictor

__all__ = ["Quality", "evaluate"]


class Quality(NamedTuple):
    """``set_size`` in multiples of top-k; over all tokens but the first, all layers but 0."""

    recall: float
    set_size: float
    precision: float


def evaluate(trace_experts: np.ndarray, offsets: np.ndarray, profile_sequences: int, *,
             experts: int = 0, threshold: int = 2, use_cct: bool = True, use_ht: bool = True,
             compiled: bool = True) -> Quality:
    """Profile on the first ``profile_sequences``, then predict and learn on all others.

    Parameters
    ----------
    trace_experts: [token, layer, rank]. offsets: first token of each sequence, and the end.
    experts: experts per layer; 0 = highest id in the trace + 1.
    compiled: use the compiled replay instead of the predictor's own steps; the result is the same.
    """
    trace = np.asarray(trace_experts).astype(np.int64)
    offsets = np.asarray(offsets).astype(np.int64)
    shape = Shape(trace.shape[1], experts or int(trace.max()) + 1, trace.shape[2])
    predictor = Table(shape, threshold=threshold)
    predictor.inner = TablePredictor(shape.layers, shape.experts, shape.top_k,
                                     threshold=threshold, use_cct=use_cct, use_ht=use_ht)
    if profile_sequences:
        predictor.inner.profile(trace, offsets[:profile_sequences + 1])
    first = np.zeros(len(trace), bool)
    first[offsets[:-1]] = True
    start = offsets[profile_sequences]
    part = Stretch(trace[start:], np.full(len(trace) - start, -1), first[start:])
    scores = predictor.run(part) if compiled else by_definition(predictor, part)
    outcome = judge(scores, part.experts, threshold)
    counted = ~part.first
    hits, predicted = (int(array[counted, 1:].sum(dtype=np.int64))
                       for array in (outcome.hit, outcome.predicted))
    seen = outcome.rank[counted, 1:].size
    return Quality(hits / max(1, seen), predicted / max(1, seen), hits / max(1, predicted))
