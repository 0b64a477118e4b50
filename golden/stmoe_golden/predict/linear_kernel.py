"""The linear predictor over a whole trace, compiled; its definition is in :mod:`.linear`."""

from numba import njit

__all__ = ["replay"]

GAIN_MAX = 4095


@njit(cache=True)
def _move(row, error, shift, limit):  # pragma: no cover - compiled
    half = (1 << shift) >> 1
    for e in range(len(row)):
        row[e] = min(limit, max(-limit, row[e] + ((error[e] + half) >> shift)))


@njit(cache=True)
def _add(score, row):  # pragma: no cover - compiled
    for e in range(len(row)):
        score[e] += row[e]


@njit(cache=True)
def replay(history, token, first, position, features, bias, lexical, weight, prior, sigmoid, shift,
           lexical_shift, fraction, limit, margin, gain, gain_shift,
           scores):  # pragma: no cover - compiled
    """Score, then learn, every layer of every token; returns the position in the sequence.

    history: int64 [tokens before + token, layer, rank]. features: int64 [feature, 2].
    margin: int32 [token, layer, expert] of the layer behind, or no token. gain: int64 [layer].
    scores: int32 [token, layer, expert], written. All other arrays are changed in place.
    """
    count, layers, experts = scores.shape
    before, top_k = len(history) - count, history.shape[2]
    error = sigmoid[:1].repeat(experts)
    half = (1 << gain_shift) >> 1
    for t in range(count):
        position = 0 if first[t] else position + 1
        row = token[t] % len(lexical) if len(lexical) and token[t] >= 0 else -1
        for layer in range(layers):
            score = scores[t, layer]
            score[:] = prior
            _add(score, bias[layer])
            if row >= 0:
                _add(score, lexical[row, layer])
            for f in range(len(features)):
                lag, back = features[f]
                if lag <= position and back <= layer:
                    for r in range(top_k):
                        _add(score, weight[f, layer, history[before + t - lag, layer - back, r]])
            looks = len(margin) > 0 and layer > 0
            if looks:
                down = 12 - fraction
                for e in range(experts):
                    score[e] += (gain[layer] * margin[t, layer - 1, e] + ((1 << down) >> 1)) >> down
            for e in range(experts):
                error[e] = -sigmoid[min(127, max(-128, score[e] >> (fraction - 4))) + 128]
            for r in range(top_k):
                error[history[before + t, layer, r]] += 1024
            _move(bias[layer], error, shift, limit)
            if row >= 0:
                _move(lexical[row, layer], error, lexical_shift, limit)
            for f in range(len(features)):
                lag, back = features[f]
                if lag <= position and back <= layer:
                    for r in range(top_k):
                        _move(weight[f, layer, history[before + t - lag, layer - back, r]], error,
                              shift, limit)
            if looks:
                moved = half
                for e in range(experts):
                    moved += error[e] * margin[t, layer - 1, e]
                gain[layer] = min(GAIN_MAX, max(0, gain[layer] + (moved >> gain_shift)))
    return position
