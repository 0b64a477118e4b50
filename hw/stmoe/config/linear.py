"""Options of the learned predictor, and what follows from them for a model."""

import math
from dataclasses import dataclass
from typing import Any

from .error import ConfigError, check_choice, check_range
from .model import ModelShape

__all__ = ["LINEAR_THRESHOLD", "LinearOptions"]

MAX_FEATURES, MAX_TOKEN_LAG, MAX_LAYER_LAG, MAX_LEXICAL = 8, 7, 63, 1 << 16
LINEAR_THRESHOLD = -13  # log-odds in units of 1/16: a probability of 0.31


@dataclass(frozen=True, kw_only=True)
class LinearOptions:
    """Options of the predictor ``linear``, named as in golden; docs/predictors.md has the formats.

    Parameters
    ----------
    features: pairs (token lag 0 to 7, layer lag 0 to 63), at most 8, distinct; the layer lag is at
        least 1 where the token lag is 0.
    lexical: rows per layer by token identity, 0 or a power of two up to 65536.
    lexical_store: where they are, "chip", or "memory": the expert memory, of which a token streams
        in, and learnt, back, only its own.
    bits: of a weight, 4 to 16. fraction: of them behind the point, 4 to 10.
    rate, lexical_rate: learning moves a weight by error * 2**-rate; fraction - 10 to 8.
    lookahead: the score has a term for the next router's logits on this layer's input.
    gain: of that term at the start, 0 to 4095. gain_shift: of its learning, 8 to 24.
    """

    features: tuple[tuple[int, int], ...] = ((0, 1), (0, 2), (0, 3), (1, 0))
    lexical: int = 1024
    lexical_store: str = "memory"
    bits: int = 10
    fraction: int = 6
    rate: int = 4
    lexical_rate: int = 1
    lookahead: bool = False
    gain: int = 128
    gain_shift: int = 14

    def __post_init__(self) -> None:
        object.__setattr__(self, "features", self._pairs(self.features))
        if len(self.features) > MAX_FEATURES or len(set(self.features)) != len(self.features):
            raise ConfigError("linear.features", self.features,
                              f"at most {MAX_FEATURES} distinct pairs")
        for token, layer in self.features:
            least = 0 if token else 1
            if not (isinstance(token, int) and 0 <= token <= MAX_TOKEN_LAG
                    and isinstance(layer, int) and least <= layer <= MAX_LAYER_LAG):
                raise ConfigError("linear.features", self.features,
                                  f"pairs of a token lag 0 to {MAX_TOKEN_LAG} and a layer lag 0, "
                                  f"1 where the token lag is 0, to {MAX_LAYER_LAG}")
        check_range("linear.lexical", self.lexical, 0, MAX_LEXICAL)
        if self.lexical & (self.lexical - 1):
            raise ConfigError("linear.lexical", self.lexical, "0 or a power of two")
        check_choice("linear.lexical_store", self.lexical_store, ("chip", "memory"))
        check_range("linear.bits", self.bits, 4, 16)
        check_range("linear.fraction", self.fraction, 4, 10)
        check_range("linear.rate", self.rate, self.fraction - 10, 8)
        check_range("linear.lexical_rate", self.lexical_rate, self.fraction - 10, 8)
        if not isinstance(self.lookahead, bool):
            raise ConfigError("linear.lookahead", self.lookahead, "true or false")
        check_range("linear.gain", self.gain, 0, 4095)
        check_range("linear.gain_shift", self.gain_shift, 8, 24)

    @staticmethod
    def _pairs(features: Any) -> tuple[tuple[int, int], ...]:
        """Pairs from lists of lists, as TOML has them."""
        try:
            pairs = tuple((token, layer) for token, layer in features)
        except (TypeError, ValueError):
            raise ConfigError("linear.features", features,
                              "a list of pairs [token lag, layer lag]") from None
        return pairs

    @property
    def row_limit(self) -> int:
        """Largest magnitude of a weight."""
        return (1 << self.bits - 1) - 1

    @property
    def threshold(self) -> int:
        """Score from which an expert is predicted by default."""
        return LINEAR_THRESHOLD << (self.fraction - 4)

    def prior(self, model: ModelShape) -> int:
        """Score without any row: log-odds of an even choice."""
        others = model.experts - model.top_k
        return round(2**self.fraction * math.log(model.top_k / others)) if others else 0

    def rows_added(self, model: ModelShape) -> int:
        """Most rows of one score."""
        return 1 + bool(self.lexical) + len(self.features) * model.top_k

    def stride(self, model: ModelShape) -> int:
        """Rows of a layer: its bias, then one per feature and expert."""
        return 1 + len(self.features) * model.experts

    def chip_rows(self, model: ModelShape) -> int:
        """Rows on chip: layer by layer, then, if they are there, lexical ones by identity."""
        lexical = self.lexical if self.lexical_store == "chip" else 0
        return model.layers * (self.stride(model) + lexical)

    def row_words(self, model: ModelShape) -> int:
        """Command words that a row is loaded by."""
        return -(-model.experts * self.bits // 64)

    def score_bits(self, model: ModelShape) -> int:
        """Bits of an exact score; the most negative value of them is never reached."""
        largest = self.rows_added(model) * self.row_limit + abs(self.prior(model))
        if self.lookahead:  # gain 4095, margin 512
            largest += (4096 * 512) >> (12 - self.fraction)
        return largest.bit_length() + 1
