"""What a routing trace says about reuse, the next layer and popularity."""

from collections.abc import Callable
from typing import Any

import numpy as np

from .model import Trace

__all__ = ["BLOCK", "LAGS", "statistics"]

LAGS = 32
BLOCK = 64
Progress = Callable[[int], None]


def _mean(values: np.ndarray) -> float | None:
    """Mean of what is known, None if nothing is."""
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else None


def _plain(values: np.ndarray) -> list[float | None]:
    return [None if np.isnan(value) else float(value) for value in values]


def _hot(chosen: np.ndarray, experts: int) -> np.ndarray:
    """bool [token, expert] of ids [token, rank]."""
    hot = np.zeros((len(chosen), experts), bool)
    np.put_along_axis(hot, chosen.astype(np.int64), True, axis=1)
    return hot


def _positions(offsets: np.ndarray) -> np.ndarray:
    """int64 [token], tokens before this one in its sequence."""
    return np.arange(offsets[-1]) - np.repeat(offsets[:-1], np.diff(offsets))


def _reuse(chosen: np.ndarray, hot: np.ndarray, position: np.ndarray, lags: int) -> np.ndarray:
    """Share of a layer's experts that were used ``lag`` tokens before; NaN without such a token."""
    share = np.full(lags, np.nan)
    for lag in range(1, min(lags, int(position.max())) + 1):
        now = np.flatnonzero(position >= lag)
        share[lag - 1] = np.take_along_axis(hot[now - lag], chosen[now], axis=1).mean()
    return share


def _pairs(before: np.ndarray, after: np.ndarray, experts: int) -> np.ndarray:
    """int64 [expert, expert], how often both were chosen for a token in adjacent layers."""
    joint = before[:, :, None] * experts + after[:, None, :]
    return np.bincount(joint.ravel(), minlength=experts**2).reshape(experts, experts)


def _association(table: np.ndarray) -> tuple[float, float]:
    """Mutual information in bits and Cramér's V of a contingency table."""
    total = table.sum()
    rows, columns = table.sum(1), table.sum(0)
    expected = np.outer(rows, columns) / total
    seen = table > 0
    bits = float((table[seen] / total * np.log2(table[seen] / expected[seen])).sum())
    possible = expected > 0
    chi2 = ((table - expected)[possible]**2 / expected[possible]).sum()
    degrees = min((rows > 0).sum(), (columns > 0).sum()) - 1
    return max(0.0, bits), float(np.sqrt(chi2 / (total * degrees))) if degrees else 0.0


def _recall(scores: np.ndarray, chosen: np.ndarray) -> float:
    """Share of ``chosen`` [token, rank] in the top of ``scores`` [token, expert], ties by id."""
    best = np.argsort(-scores, axis=1, kind="stable")[:, :chosen.shape[1]]
    return float(np.take_along_axis(_hot(best, scores.shape[1]), chosen, axis=1).mean())


def _next_layer(before: np.ndarray, after: np.ndarray, experts: int) -> tuple[float, float]:
    """Recall of the next layer's top-k by co-activation and by popularity alone.

    Learned on alternate blocks of :data:`BLOCK` tokens and measured on the others, both ways.
    """
    tokens = len(before)
    fold = np.arange(tokens) // min(BLOCK, max(1, tokens // 2)) % 2 == 1
    found = []
    for learn in (fold, ~fold):
        table = _pairs(before[learn], after[learn], experts).astype(np.float32)
        times = np.bincount(before[learn].ravel(), minlength=experts)
        chance = table / np.maximum(1, times)[:, None]
        judged = ~learn
        scores = np.zeros((int(judged.sum()), experts), np.float32)
        for rank in before[judged].T:
            scores += chance[rank]
        popular = np.bincount(after[learn].ravel(), minlength=experts)
        found.append((_recall(scores, after[judged]),
                      _recall(np.broadcast_to(popular, scores.shape), after[judged])))
    return tuple(np.mean(found, axis=0))


def _popularity(counts: np.ndarray) -> dict[str, Any]:
    """Entropy in bits, Gini coefficient and share of the top tenth of ``counts`` [expert]."""
    share = np.sort(counts / counts.sum())
    some = share[share > 0]
    n = len(share)
    top = -(-n // 10)
    gini = 2 * (np.arange(1, n + 1) * share).sum() / n - (n + 1) / n
    return {"entropy_bits": float(max(0.0, -(some * np.log2(some)).sum())), "gini": float(gini),
            "top_tenth_share": float(share[-top:].sum()), "unused": int((counts == 0).sum())}


def _domain_distance(trace: Trace) -> dict[str, float]:
    """Total variation distance of popularity between domains, mean over layers, by "a / b"."""
    if trace.domain is None:
        return {}
    of_token = np.repeat(trace.domain, np.diff(trace.offsets))
    share = {}
    for index, name in enumerate(trace.metadata["domains"]):
        chosen = trace.experts[of_token == index]
        if len(chosen):
            share[name] = np.array([
                np.bincount(chosen[:, layer].ravel(), minlength=trace.num_experts)
                for layer in range(trace.layers)]) / (len(chosen) * trace.top_k)
    names = list(share)
    return {f"{a} / {b}": float(np.abs(share[a] - share[b]).sum(1).mean() / 2)
            for i, a in enumerate(names) for b in names[i + 1:]}


def statistics(trace: Trace, lags: int = LAGS,
               progress: Progress = lambda layer: None) -> dict[str, Any]:
    """Statistics of all tokens of ``trace``, JSON data; terms in docs/traces.md.

    Values per layer are lists; those of layer pairs start with layers 0 and 1. None where the trace
    is too short to tell. ``progress`` is called with the number of finished layers.
    """
    experts, layers = trace.num_experts, trace.layers
    position = _positions(trace.offsets)
    reuse = np.full((layers, lags), np.nan)
    names = ("recall", "popular_recall", "lookahead_recall", "mutual_information_bits",
             "shuffled_information_bits", "cramers_v")
    pair = {name: np.full(max(0, layers - 1), np.nan) for name in names}
    counts = np.zeros((layers, experts), np.int64)
    shuffle = np.random.default_rng(1).permutation(trace.tokens)
    before = None
    for layer in range(layers):
        chosen = trace.experts[:, layer].astype(np.int64)
        counts[layer] = np.bincount(chosen.ravel(), minlength=experts)
        reuse[layer] = _reuse(chosen, _hot(chosen, experts), position, lags)
        if before is not None:
            at = layer - 1
            bits, v = _association(_pairs(before, chosen, experts))
            pair["mutual_information_bits"][at], pair["cramers_v"][at] = bits, v
            pair["shuffled_information_bits"][at] = _association(
                _pairs(before[shuffle], chosen, experts))[0]
            if trace.tokens > 1:
                pair["recall"][at], pair["popular_recall"][at] = _next_layer(
                    before, chosen, experts)
            if trace.lookahead is not None:
                pair["lookahead_recall"][at] = _recall(
                    trace.lookahead[:, at].astype(np.float32), chosen)
        before = chosen
        progress(layer + 1)
    popularity = [_popularity(row) for row in counts]
    return {
        "chance": trace.top_k / experts,
        "reuse": {"lags": list(range(1, lags + 1)),
                  "overall": [_mean(column) for column in reuse.T],
                  "by_layer": [_plain(row) for row in reuse]},
        "next_layer": {"overall": {name: _mean(values) for name, values in pair.items()},
                       "by_layer": {name: _plain(values) for name, values in pair.items()}},
        "popularity": {
            "overall": {key: float(np.mean([row[key] for row in popularity]))
                        for key in popularity[0]},
            "by_layer": {key: [row[key] for row in popularity] for key in popularity[0]},
            "counts": counts.tolist()},
        "domain_distance": _domain_distance(trace)}
