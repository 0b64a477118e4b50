"""Online multi-label logistic regression in integers: rows of weights, added and moved.

Exact formats, from which hardware is built:

weight
    signed, ``bits`` wide, saturating at +-(2**(bits-1) - 1), in units of 2**-``fraction`` of
    log-odds. A *row* holds one weight per expert. All start at 0.
rows of a layer l
    ``bias[l]``; ``lexical[token mod lexical rows][l]`` if the token's identity is known; and, for
    every feature f = (token lag a, layer lag b), in order, ``weight[f][l][e]`` for every expert e
    that was routed a tokens before in layer l - b, if that token is of the same sequence and
    l - b >= 0. With a = 0 it is the present token.
score
    prior + sum of the rows, exact: 16 bits signed for four features, top-8 and 10 bits. The prior
    is what is true without any knowledge, a constant: round(2**fraction * ln(top_k / (experts -
    top_k))), 0 if all experts are used.
probability
    ``SIGMOID[clip(score >> (fraction - 4), -128, 127) + 128]``, 10 bits, in units of 1/1024; the
    shift rounds down. 256 entries, round(1024 / (1 + exp(-(i - 127.5) / 16))) clipped to 1 .. 1023.
error
    1024 * (1 if routed else 0) - probability, 11 bits signed.
learning
    once layer l is routed, every row that was in the sum: weight = saturate(weight +
    ((error + 2**(s-1)) >> s)), s = 10 - fraction + rate, so that a weight moves by error * 2**-rate
    in log-odds; of the lexical row s = 10 - fraction + lexical_rate. The shift rounds down, after
    the half has been added: to nearest, ties upwards. The bias moves as the feature rows do.
"""

import math

import numpy as np

from .linear_kernel import replay
from .predictor import Predictor, PredictorError, Shape, Stretch, check_option

__all__ = ["FEATURES", "ONE", "SIGMOID", "SIGMOID_INDEX_BITS", "Linear", "shifted"]

FEATURES = ((0, 1), (0, 2), (0, 3), (1, 0))
ONE = 1024
SIGMOID_INDEX_BITS = 8
SIGMOID = np.clip(np.rint(ONE / (1 + np.exp(-(np.arange(256) - 127.5) / 16))), 1,
                  ONE - 1).astype(np.int32)
MAX_FEATURES, MAX_TOKEN_LAG, MAX_LAYER_LAG, MAX_LEXICAL = 8, 7, 63, 1 << 16


def shifted(value: np.ndarray | int, shift: int) -> np.ndarray | int:
    """``value / 2**shift`` to the nearest integer, ties upwards; ``shift`` 0 or more."""
    return (value + ((1 << shift) >> 1)) >> shift


class Linear(Predictor):
    """Scores are log-odds of use: the formats are those of this module's docstring.

    Predicts layer 0 from the token's identity and the previous token. Nothing is forgotten between
    sequences but who the previous token was.

    Parameters
    ----------
    features: pairs (token lag 0 to 7, layer lag 0 to 63), at most 8, distinct; the layer lag is at
        least 1 where the token lag is 0. A layer nearer to the front than the lag goes without.
    lexical: rows of the table by token identity, 0 or a power of two up to 65536.
    bits: of a weight, 4 to 16. fraction: of them behind the point, 4 to 10.
    rate, lexical_rate: step, 2**-rate, -6 + fraction to 8.
    threshold: least log-odds that are predicted, in units of 1/16, -128 to 127.
    """

    name = "linear"
    description = "online logistic: layers, previous token, token identity"

    def __init__(self, shape: Shape, *, features: tuple[tuple[int, int], ...] = FEATURES,
                 lexical: int = 1024, bits: int = 10, fraction: int = 6, rate: int = 4,
                 lexical_rate: int = 1, threshold: int = -13):
        super().__init__(shape)
        self.features = self._checked(features)
        check_option(self.name, "lexical", lexical, 0, MAX_LEXICAL)
        if lexical & (lexical - 1):
            raise PredictorError(f"{self.name}:lexical must be 0 or a power of two, not {lexical}")
        self.bits = check_option(self.name, "bits", bits, 4, 16)
        self.fraction = check_option(self.name, "fraction", fraction, 4, 10)
        check_option(self.name, "threshold", threshold, -128, 127)
        self.threshold = threshold << (fraction - 4)
        low = fraction - 10
        self.shift = 10 - fraction + check_option(self.name, "rate", rate, low, 8)
        self.lexical_shift = 10 - fraction + check_option(self.name, "lexical_rate", lexical_rate,
                                                          low, 8)
        self.limit = (1 << (bits - 1)) - 1
        layers, experts = shape.layers, shape.experts
        others = experts - shape.top_k
        self.prior = round(2**fraction * math.log(shape.top_k / others)) if others else 0
        self.bias = np.zeros((layers, experts), np.int32)
        self.lexical = np.zeros((lexical, layers, experts), np.int32)
        self.weight = np.zeros((len(self.features), layers, experts, experts), np.int32)
        lags = max([1, *(token for token, _ in self.features)])
        self.recent = np.zeros((lags + 1, layers, shape.top_k), np.int64)
        self.position, self.token = -1, -1
        self._summed: tuple[int, np.ndarray] | None = None

    def _checked(self, features: tuple[tuple[int, int], ...]) -> tuple[tuple[int, int], ...]:
        if not isinstance(features, tuple) or len(features) > MAX_FEATURES or len(
                set(features)) != len(features):
            raise PredictorError(f"{self.name}:features must be at most {MAX_FEATURES} distinct "
                                 f"pairs TOKEN.LAYER, not {features!r}")
        for token, layer in features:
            least = 1 if token == 0 else 0
            if not 0 <= token <= MAX_TOKEN_LAG or not least <= layer <= MAX_LAYER_LAG:
                raise PredictorError(
                    f"{self.name}:features must be pairs of a token lag 0 to {MAX_TOKEN_LAG} and a "
                    f"layer lag {least} to {MAX_LAYER_LAG}, not {token}.{layer}")
        return features

    def rows(self, layer: int) -> list[tuple[np.ndarray, int]]:
        """The rows of ``layer`` for the present token, views, each with its shift of learning."""
        found = [(self.bias[layer], self.shift)]
        if len(self.lexical) and self.token >= 0:
            found.append((self.lexical[self.token % len(self.lexical), layer], self.lexical_shift))
        for f, (token, back) in enumerate(self.features):
            if token <= self.position and back <= layer:
                found += [(self.weight[f, layer, e], self.shift)
                          for e in self.recent[token, layer - back]]
        return found

    def score(self, layer: int) -> np.ndarray:
        """int64 [expert], prior and sum of the rows."""
        rows = np.stack([row for row, _ in self.rows(layer)])
        return np.asarray(self.prior + rows.sum(0, dtype=np.int64))

    def error(self, score: np.ndarray, routed: np.ndarray) -> np.ndarray:
        """int64 [expert], truth less probability in units of 1/1024."""
        address = np.clip(score >> (self.fraction - 4), -128, 127) + 128
        error = -SIGMOID[address].astype(np.int64)
        error[routed] += ONE
        return error

    def learn(self, layer: int, error: np.ndarray) -> None:
        """Move the rows of ``layer``."""
        for row, shift in self.rows(layer):
            row[:] = np.clip(row + shifted(error, shift), -self.limit, self.limit)

    def _scored(self, layer: int, score: np.ndarray) -> np.ndarray:
        self._summed = layer, score
        return score

    def begin_token(self, token: int, first: bool) -> np.ndarray:
        self.recent[1:] = self.recent[:-1].copy()
        self.position = 0 if first else self.position + 1
        self.token = token
        return self._scored(0, self.score(0))

    def observe(self, layer: int, experts: np.ndarray,
                ahead: np.ndarray | None = None) -> np.ndarray | None:
        if self._summed is None or self._summed[0] != layer:
            due = None if self._summed is None else self._summed[0]
            raise PredictorError(f"layer must be {due}, the one that was scored, not {layer}")
        self.learn(layer, self.error(self._summed[1], experts))
        self.recent[0, layer] = experts
        if layer + 1 == self.shape.layers:
            self._summed = None
            return None
        return self._scored(layer + 1, self.score(layer + 1))

    def _gain(self) -> tuple[np.ndarray, int]:
        """Gains of the look-ahead margins, int64 [layer], which learning changes, and their shift
        of learning."""
        return np.zeros(self.shape.layers, np.int64), 0

    def _margins(self, stretch: Stretch) -> np.ndarray:
        """int32 [token, layer, expert], or with no token: no margins."""
        return np.zeros((0, 1, 1), np.int32)

    def run(self, stretch: Stretch) -> np.ndarray:
        shape, count = self.shape, len(stretch)
        scores = np.empty((count, shape.layers, shape.experts), np.int32)
        if count:
            history = np.concatenate([self.recent[::-1], stretch.experts])
            features = np.array(self.features, np.int64).reshape(-1, 2)
            gain, gain_shift = self._gain()
            self.position = replay(
                history, stretch.token, stretch.first, self.position, features, self.bias,
                self.lexical, self.weight, self.prior, SIGMOID, self.shift, self.lexical_shift,
                self.fraction, self.limit, self._margins(stretch), gain, gain_shift, scores)
            self.recent = history[:-len(self.recent) - 1:-1].copy()
            self.token = int(stretch.token[-1])
            self._summed = None
        return scores
