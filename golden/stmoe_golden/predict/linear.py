"""Online multi-label logistic regression in integers: rows of weights, added and moved.

Exact formats, from which hardware is built:

weight
    signed, ``bits`` wide, saturating at +-(2**(bits-1) - 1), in units of 2**-``fraction`` of
    log-odds. A *row* holds one weight per expert. All start at 0.
rows of a layer l, in order
    ``bias[l]``; ``lexical[token mod lexical rows][l]``; ``pair[(token + 33 * last) mod pair
    rows][l]``; ``previous[last mod previous rows][l]``, where *last* is the identity of the token
    before in the sequence, each where the identities that it needs are known; for every feature
    (token lag a, layer lag b) ``weight[feature][l][e]`` of every expert e that was routed a tokens
    before in layer l - b, if that token is of the same sequence and l - b >= 0 (a = 0 is the
    present token); for every leader, such a pair too, ``leader[leader][l][e]`` of the expert of
    rank 0 alone.
stages
    3: rows with token lag 0 and layer lag 1 are of stage 2, with token lag 0 and more layers of
    stage 1, all others of stage 0, known once the token is. 1: all rows are of stage 2.
sums, exact; 16 bits signed for up to 63 rows of 10 bits
    with S0, S1, S2 the sums of a stage's rows and d = S0, from layer 1 on S0 - (S0 >> 2), which
    counts 3/4: A = prior + S0, B = prior + d + S1, C = B + S2. C is the score. The prior is what is
    true without any knowledge, a constant: round(2**fraction * ln(top_k / (experts - top_k))), 0 if
    all experts are used.
deep score of a layer l, k the last layer observed, -1 at the token
    of the features within the token, only those with l - b <= k. Three stages: C if l = k + 1,
    else A if k = -1, else B. One stage: C. Nothing is learned from it.
guess of a layer l of the next token, after the last layer of this one
    prior, ``bias[l]`` and the rows of features and leaders with a token lag, as the next token of
    the sequence would have them: sum A without rows by identity. Nothing is learned from it.
probability
    ``SIGMOID[clip(sum >> (fraction - 4), -128, 127) + 128]``, 10 bits, in units of 1/1024; the
    shift rounds down. 256 entries, round(1024 / (1 + exp(-(i - 127.5) / 16))) clipped to 1 .. 1023.
error
    1024 * (1 if routed else 0) - probability, 11 bits signed, one of each of A, B, C.
learning
    once layer l is routed, every row, from the error of the sum that ends its stage: weight =
    saturate(weight + ((error + 2**(s-1)) >> s)), s = 10 - fraction + rate, so that a weight moves
    by error * 2**-rate in log-odds; of lexical and pair rows s = 10 - fraction + lexical_rate, of
    previous rows one more. The shift rounds down, after the half has been added: to nearest, ties
    upwards.
"""

import math

import numpy as np

from .linear_kernel import replay
from .linear_rows import PAIR_FACTOR, Pairs, check_pairs, check_table, hashed_rows
from .predictor import Predictor, PredictorError, Shape, Stretch, check_option

__all__ = ["FEATURES", "LEADERS", "ONE", "SIGMOID", "SIGMOID_INDEX_BITS", "Linear", "shifted"]

FEATURES: Pairs = ((0, 1), (0, 2), (0, 3), (0, 4), (0, 5), (1, 0))
LEADERS: Pairs = ((0, 1), (0, 2), (0, 3), (0, 4))
ONE = 1024
SIGMOID_INDEX_BITS = 8
SIGMOID = np.clip(np.rint(ONE / (1 + np.exp(-(np.arange(256) - 127.5) / 16))), 1,
                  ONE - 1).astype(np.int32)


def shifted(value: np.ndarray | int, shift: int) -> np.ndarray | int:
    """``value / 2**shift`` to the nearest integer, ties upwards; ``shift`` 0 or more."""
    return (value + ((1 << shift) >> 1)) >> shift


class Linear(Predictor):
    """Scores are log-odds of use: the formats are those of this module's docstring.

    Predicts layer 0 from the token's identity and the previous token. Nothing is forgotten between
    sequences but who the previous token was.

    Parameters
    ----------
    features, leaders: pairs (token lag 0 to 7, layer lag 0 to 63), at most 8, distinct; the layer
        lag is at least 1 where the token lag is 0. A layer nearer to the front goes without.
    lexical, pair, previous: rows of the tables by token identity, 0 or powers of two up to 65536.
    stages: 1, or 3 for deep scores that are as good as if they were learned alone.
    bits: of a weight, 4 to 16. fraction: of them behind the point, 4 to 10.
    rate, lexical_rate: step, 2**-rate, -10 + fraction to 8.
    threshold: least log-odds that are predicted, in units of 1/16, -128 to 127.
    depth: layers ahead that scores are given, 1 to 64; where the front is nearer, from the token
        alone. It changes what is answered, not what is learned.
    """

    name = "linear"
    description = "online logistic: layers, previous token, token identity"

    def __init__(self, shape: Shape, *, features: Pairs = FEATURES, leaders: Pairs = LEADERS,
                 lexical: int = 4096, pair: int = 8192, previous: int = 1024, stages: int = 3,
                 bits: int = 10, fraction: int = 7, rate: int = 4, lexical_rate: int = 1,
                 threshold: int = -13, depth: int = 1):
        super().__init__(shape)
        self.features = check_pairs(self.name, "features", features)
        self.leaders = check_pairs(self.name, "leaders", leaders)
        tables = [check_table(self.name, option, rows) for option, rows in
                  (("lexical", lexical), ("pair", pair), ("previous", previous))]
        if stages not in (1, 3):
            raise PredictorError(f"{self.name}:stages must be 1 or 3, not {stages!r}")
        self.staged = stages == 3
        self.bits = check_option(self.name, "bits", bits, 4, 16)
        self.fraction = check_option(self.name, "fraction", fraction, 4, 10)
        check_option(self.name, "threshold", threshold, -128, 127)
        self.threshold = threshold << (fraction - 4)
        self.depth = check_option(self.name, "depth", depth, 1, 64)
        low, unit = fraction - 10, 10 - fraction
        self.shift = unit + check_option(self.name, "rate", rate, low, 8)
        self.lexical_shift = unit + check_option(self.name, "lexical_rate", lexical_rate, low, 8)
        self.limit = (1 << (bits - 1)) - 1
        others = shape.experts - shape.top_k
        self.prior = round(2**fraction * math.log(shape.top_k / others)) if others else 0
        self._allocate(tables)
        lags = max([1, *(token for token, _ in self.features + self.leaders)])
        self.recent = np.zeros((lags + 1, shape.layers, shape.top_k), np.int64)
        self.position, self.token, self.last, self.seen = -1, -1, -1, -1
        self._summed: tuple[int, np.ndarray] | None = None

    def _allocate(self, tables: list[int]) -> None:
        """All rows in one array, int32 [row, expert], and views of it by kind."""
        layers, experts = self.shape.layers, self.shape.experts
        square = layers * experts
        sizes = [layers, *(rows * layers for rows in tables), len(self.features) * square,
                 len(self.leaders) * square]
        self.base = np.cumsum([0, *sizes])
        self.memory = np.zeros((self.base[-1], experts), np.int32)
        kinds = np.split(self.memory, self.base[1:-1])
        self.bias = kinds[0]
        self.lexical, self.pair, self.previous = (
            kind.reshape(rows, layers, experts)
            for kind, rows in zip(kinds[1:4], tables, strict=True))
        self.weight, self.leader = (kind.reshape(-1, layers, experts, experts)
                                    for kind in kinds[4:])

    def staged_rows(self, layer: int, known: int) -> list[tuple[np.ndarray, int, int]]:
        """The rows of ``layer`` for the present token, layers up to ``known`` observed: views, each
        with its shift of learning and its stage."""
        found = [(self.bias[layer], self.shift, 0)]
        for table, index, shift in (
                (self.lexical, self.token, self.lexical_shift),
                (self.pair, self.token + PAIR_FACTOR * self.last if min(self.token, self.last) >= 0
                 else -1, self.lexical_shift),
                (self.previous, self.last, self.lexical_shift + 1)):
            if len(table) and index >= 0:
                found.append((table[index % len(table), layer], shift, 0))
        for pairs, weight, ranks in ((self.features, self.weight, self.shape.top_k),
                                     (self.leaders, self.leader, 1)):
            for f, (token, back) in enumerate(pairs):
                if token <= self.position and back <= layer and (token or layer - back <= known):
                    stage = 0 if token else 2 if back == 1 else 1
                    found += [(weight[f, layer, e], self.shift, stage)
                              for e in self.recent[token, layer - back, :ranks]]
        return found if self.staged else [(row, shift, 2) for row, shift, _ in found]

    def guess_rows(self, layer: int) -> list[np.ndarray]:
        """The rows of ``layer`` that are known of the next token, views."""
        found = [self.bias[layer]]
        for pairs, weight, ranks in ((self.features, self.weight, self.shape.top_k),
                                     (self.leaders, self.leader, 1)):
            for f, (token, back) in enumerate(pairs):
                if 1 <= token <= self.position + 1 and back <= layer:
                    found += [weight[f, layer, e]
                              for e in self.recent[token - 1, layer - back, :ranks]]
        return found

    def guess_scores(self, layer: int) -> np.ndarray:
        """int64 [expert], scores of ``layer`` of the next token, once the last layer of the present
        one was observed."""
        if self.position < 0 or self.seen != self.shape.layers - 1:
            raise PredictorError(f"layer {layer} of the next token can be guessed behind the last "
                                 f"layer, {self.shape.layers - 1}, not behind {self.seen}")
        return np.asarray(self.prior + sum(row.astype(np.int64) for row in self.guess_rows(layer)))

    def rows(self, layer: int) -> list[tuple[np.ndarray, int]]:
        """The rows of the score of ``layer``, views, each with its shift of learning."""
        return [(row, shift) for row, shift, _ in self.staged_rows(layer, layer - 1)]

    def sums(self, layer: int, known: int) -> np.ndarray:
        """int64 [3, expert], sums A, B and C."""
        part = np.zeros((3, self.shape.experts), np.int64)
        for row, _, stage in self.staged_rows(layer, known):
            part[stage] += row
        kept = part[0] - (part[0] >> 2) if layer else part[0]
        middle = self.prior + kept + part[1]
        return np.stack([self.prior + part[0], middle, middle + part[2]])

    def _deep(self, layer: int, known: int) -> np.ndarray:
        stage = 2 if not self.staged or layer <= known + 1 else 1 if known >= 0 else 0
        return np.asarray(self.sums(layer, known)[stage])

    def ahead_scores(self, layer: int) -> np.ndarray:
        """int64 [expert], scores of any later ``layer`` of the present token, from what is known
        now, without a term of look-ahead."""
        if self.position < 0 or not self.seen < layer < self.shape.layers:
            raise PredictorError(f"layer must be {self.seen + 1} to {self.shape.layers - 1} of a "
                                 f"token that was begun, not {layer}")
        return self._deep(layer, self.seen)

    def errors(self, sums: np.ndarray, routed: np.ndarray) -> np.ndarray:
        """int64 [3, expert], truth less probability in units of 1/1024."""
        address = np.clip(sums >> (self.fraction - 4), -128, 127) + 128
        error = -SIGMOID[address].astype(np.int64)
        error[:, routed] += ONE
        return error

    def learn(self, layer: int, errors: np.ndarray) -> None:
        """Move the rows of ``layer``."""
        for row, shift, stage in self.staged_rows(layer, layer - 1):
            row[:] = np.clip(row + shifted(errors[stage], shift), -self.limit, self.limit)

    def term(self, layer: int, ahead: np.ndarray | None) -> np.ndarray | int:
        """What is added to C beside the rows, int64 [expert]."""
        return 0

    def _score(self, layer: int, ahead: np.ndarray | None) -> np.ndarray:
        sums = self.sums(layer, layer - 1)
        sums[2] += self.term(layer, ahead)
        self._summed = layer, sums
        if self.depth > 1:
            return self._deep(layer, max(-1, layer - self.depth))
        return np.asarray(sums[2])

    def begin_token(self, token: int, first: bool) -> np.ndarray:
        self.recent[1:] = self.recent[:-1].copy()
        self.position = 0 if first else self.position + 1
        self.last = self.token if self.position else -1
        self.token, self.seen = token, -1
        return self._score(0, None)

    def observe(self, layer: int, experts: np.ndarray,
                ahead: np.ndarray | None = None) -> np.ndarray | None:
        if self._summed is None or self._summed[0] != layer:
            due = None if self._summed is None else self._summed[0]
            raise PredictorError(f"layer must be {due}, the one that was scored, not {layer}")
        self.learn(layer, self.errors(self._summed[1], experts))
        self.recent[0, layer], self.seen = experts, layer
        if layer + 1 == self.shape.layers:
            self._summed = None
            return None
        return self._score(layer + 1, ahead)

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
            features = np.array([(*pair, shape.top_k) for pair in self.features]
                                + [(*pair, 1) for pair in self.leaders], np.int64).reshape(-1, 3)
            hashed = hashed_rows(stretch, self.token, self.position, self.base[1:4],
                                 (self.lexical, self.pair, self.previous))
            shifts = np.array([self.shift, self.shift, self.lexical_shift, self.lexical_shift,
                               self.lexical_shift + 1])
            gain, gain_shift = self._gain()
            self.position = replay(
                history, stretch.first, self.position, hashed, shifts, features,
                np.array([self.base[4], shape.experts]), self.memory, self.prior, SIGMOID,
                self.fraction, self.limit, self.staged, self.depth, self._margins(stretch), gain,
                gain_shift, scores)
            self.recent = history[:-len(self.recent) - 1:-1].copy()
            self.token, self.seen = int(stretch.token[-1]), shape.layers - 1
            self._summed = None
        return scores
