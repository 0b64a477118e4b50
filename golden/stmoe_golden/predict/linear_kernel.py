"""The linear predictor over a whole trace, compiled; its definition is in :mod:`.linear`."""

import numpy as np
from numba import njit

__all__ = ["GAIN_MAX", "replay"]

GAIN_MAX = 4095
ADDRESS, STAGE, SHIFT, LAG = range(4)


@njit(cache=True)
def _name_rows(at, layer, position, history, hashed, shifts, features, base, staged,
               rows):  # pragma: no cover - compiled
    """Write a layer's rows: address, stage, shift, layer lag within the token (else 0). Returns
    their number. ``at``: the token's place in ``history``."""
    layers, experts = history.shape[1], base[1]
    n = 0
    for h in range(len(hashed)):
        if hashed[h] >= 0:
            rows[n, ADDRESS], rows[n, STAGE] = hashed[h] + layer, 0
            rows[n, SHIFT], rows[n, LAG] = shifts[1 + h], 0
            n += 1
    for f in range(len(features)):
        lag, back, ranks = features[f]
        if lag <= position and back <= layer:
            for r in range(ranks):
                expert = history[at - lag, layer - back, r]
                rows[n, ADDRESS] = base[0] + (f * layers + layer) * experts + expert
                rows[n, STAGE] = 0 if lag > 0 else 2 if back == 1 else 1
                rows[n, SHIFT], rows[n, LAG] = shifts[0], back if lag == 0 else 0
                n += 1
    if not staged:
        rows[:n, STAGE] = 2
    return n


@njit(cache=True)
def _sum(memory, rows, back, damped, prior, part, sums):  # pragma: no cover - compiled
    """Sums after each stage, int32 [3, expert], of the rows with a layer lag of 0 or from ``back``.
    """
    part[:] = 0
    for n in range(len(rows)):
        if rows[n, LAG] == 0 or rows[n, LAG] >= back:
            row, total = memory[rows[n, ADDRESS]], part[rows[n, STAGE]]
            for e in range(len(row)):
                total[e] += row[e]
    for e in range(sums.shape[1]):
        sums[0, e] = prior + part[0, e]
        kept = part[0, e] - (part[0, e] >> 2) if damped else part[0, e]
        sums[1, e] = prior + kept + part[1, e]
        sums[2, e] = sums[1, e] + part[2, e]


@njit(cache=True)
def replay(history, first, position, hashed, shifts, features, base, memory, prior, sigmoid,
           fraction, limit, staged, depth, margin, gain, gain_shift,
           scores):  # pragma: no cover - compiled
    """Score, then learn, every layer of every token; returns the position in the sequence.

    history: int64 [tokens before + token, layer, rank]. hashed: int64 [token, table], address of
    the row of layer 0 or -1. shifts: int64 [1 + table], of learning, features' first. features:
    int64 [feature, 3], lags and ranks. base: int64 [2], address of the features' rows, and experts.
    memory: int32 [row, expert]. margin: int32 [token, layer, expert] of the layer behind, or no
    token. gain: int64 [layer]. scores: int32 [token, layer, expert], written. ``memory`` and
    ``gain`` are changed in place.
    """
    count, layers, experts = scores.shape
    before, top_k = len(history) - count, history.shape[2]
    found = np.empty((hashed.shape[1] + len(features) * top_k, 4), np.int64)
    part, sums = np.empty((3, experts), np.int32), np.empty((3, experts), np.int32)
    error = np.empty((3, experts), np.int32)
    down = 12 - fraction
    for t in range(count):
        position = 0 if first[t] else position + 1
        for layer in range(layers):
            rows = found[:_name_rows(before + t, layer, position, history, hashed[t], shifts,
                                     features, base, staged, found)]
            damped = layer > 0
            if depth > 1:
                _sum(memory, rows, depth, damped, prior, part, sums)
                known = 2 if not staged or layer == 0 else 1 if layer >= depth else 0
                scores[t, layer] = sums[known]
            _sum(memory, rows, 1, damped, prior, part, sums)
            looks = len(margin) > 0 and layer > 0
            if looks:
                for e in range(experts):
                    sums[2, e] += (gain[layer] * margin[t, layer - 1, e]
                                   + ((1 << down) >> 1)) >> down
            if depth == 1:
                scores[t, layer] = sums[2]
            for stage in range(0 if staged else 2, 3):
                for e in range(experts):
                    address = min(127, max(-128, sums[stage, e] >> (fraction - 4))) + 128
                    error[stage, e] = -sigmoid[address]
                for r in range(top_k):
                    error[stage, history[before + t, layer, r]] += 1024
            for n in range(len(rows)):
                row, wrong = memory[rows[n, ADDRESS]], error[rows[n, STAGE]]
                shift = rows[n, SHIFT]
                half = (1 << shift) >> 1
                for e in range(experts):
                    row[e] = min(limit, max(-limit, row[e] + ((wrong[e] + half) >> shift)))
            if looks:
                moved = (1 << gain_shift) >> 1
                for e in range(experts):
                    moved += error[2, e] * margin[t, layer - 1, e]
                gain[layer] = min(GAIN_MAX, max(0, gain[layer] + (moved >> gain_shift)))
    return position
