"""Options of the learned predictor, and what follows from them for a model."""

import math
from dataclasses import dataclass
from typing import Any

from .error import ConfigError, check_choice, check_range
from .model import ModelShape

__all__ = ["LINEAR_THRESHOLD", "LinearOptions"]

MAX_PAIRS, MAX_TOKEN_LAG, MAX_LAYER_LAG, MAX_TABLE = 8, 7, 63, 1 << 16
TABLES = ("lexical", "pair", "previous")
LINEAR_THRESHOLD = -13  # log-odds in units of 1/16: a probability of 0.31


@dataclass(frozen=True, kw_only=True)
class LinearOptions:
    """Options of the predictor ``linear``, named as in golden; docs/predictors.md has the formats.

    Parameters
    ----------
    features, leaders: pairs (token lag 0 to 7, layer lag 0 to 63), at most 8 each, distinct; the
        layer lag is at least 1 where the token lag is 0. Features have a row per expert of that
        layer, leaders one of its first expert alone.
    lexical, pair, previous: rows per layer by identity of the token, of it and the one before, of
        the one before; 0 or a power of two up to 65536.
    lexical_store: where they are, "chip", or "memory": the expert memory, of which a token streams
        in, and learnt, back, only its own.
    stages: 1, or 3: rows learn from the score as it is without those that are known later, so that
        scores of deep layers are as good as if they had been learned alone.
    bits: of a weight, 4 to 16. fraction: of them behind the point, 4 to 10.
    rate, lexical_rate: learning moves a weight by error * 2**-rate; fraction - 10 to 8.
    lookahead: the score has a term for the next router's logits on this layer's input.
    gain: of that term at the start, 0 to 4095. gain_shift: of its learning, 8 to 24.
    """

    features: tuple[tuple[int, int], ...] = ((0, 1), (0, 2), (0, 3), (0, 4), (0, 5), (1, 0))
    leaders: tuple[tuple[int, int], ...] = ((0, 1), (0, 2), (0, 3), (0, 4))
    lexical: int = 4096
    pair: int = 8192
    previous: int = 1024
    lexical_store: str = "memory"
    stages: int = 3
    bits: int = 10
    fraction: int = 7
    rate: int = 4
    lexical_rate: int = 1
    lookahead: bool = False
    gain: int = 128
    gain_shift: int = 14

    def __post_init__(self) -> None:
        for name in ("features", "leaders"):
            object.__setattr__(self, name, self._pairs(f"linear.{name}", getattr(self, name)))
        for name in TABLES:
            rows = getattr(self, name)
            check_range(f"linear.{name}", rows, 0, MAX_TABLE)
            if rows & (rows - 1):
                raise ConfigError(f"linear.{name}", rows, "0 or a power of two")
        check_choice("linear.lexical_store", self.lexical_store, ("chip", "memory"))
        check_range("linear.stages", self.stages, 1, 3)
        if self.stages == 2:
            raise ConfigError("linear.stages", self.stages, "1 or 3")
        check_range("linear.bits", self.bits, 4, 16)
        check_range("linear.fraction", self.fraction, 4, 10)
        check_range("linear.rate", self.rate, self.fraction - 10, 8)
        check_range("linear.lexical_rate", self.lexical_rate, self.fraction - 10, 8)
        if not isinstance(self.lookahead, bool):
            raise ConfigError("linear.lookahead", self.lookahead, "true or false")
        check_range("linear.gain", self.gain, 0, 4095)
        check_range("linear.gain_shift", self.gain_shift, 8, 24)

    @staticmethod
    def _pairs(field: str, given: Any) -> tuple[tuple[int, int], ...]:
        """Legal pairs, from lists of lists, as TOML has them."""
        try:
            pairs = tuple((token, layer) for token, layer in given)
        except (TypeError, ValueError):
            raise ConfigError(field, given, "a list of pairs [token lag, layer lag]") from None
        if len(pairs) > MAX_PAIRS or len(set(pairs)) != len(pairs):
            raise ConfigError(field, pairs, f"at most {MAX_PAIRS} distinct pairs")
        for token, layer in pairs:
            least = 0 if token else 1
            if not (isinstance(token, int) and 0 <= token <= MAX_TOKEN_LAG
                    and isinstance(layer, int) and least <= layer <= MAX_LAYER_LAG):
                raise ConfigError(field, pairs,
                                  f"pairs of a token lag 0 to {MAX_TOKEN_LAG} and a layer lag 0, "
                                  f"1 where the token lag is 0, to {MAX_LAYER_LAG}")
        return pairs

    @property
    def row_limit(self) -> int:
        """Largest magnitude of a weight."""
        return (1 << self.bits - 1) - 1

    @property
    def tables(self) -> dict[str, int]:
        """Tables of rows by token identity that there are, and their rows per layer."""
        return {name: getattr(self, name) for name in TABLES if getattr(self, name)}

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
        return 1 + len(self.tables) + len(self.features) * model.top_k + len(self.leaders)

    def stride(self, model: ModelShape) -> int:
        """Rows of a layer: its bias, then one per feature and expert, one per leader and expert."""
        return 1 + (len(self.features) + len(self.leaders)) * model.experts

    def chip_rows(self, model: ModelShape) -> int:
        """Rows on chip: layer by layer, then, if they are there, those by identity, table by table.
        """
        tables = sum(self.tables.values()) if self.lexical_store == "chip" else 0
        return model.layers * (self.stride(model) + tables)

    def row_words(self, model: ModelShape) -> int:
        """Command words that a row is loaded by."""
        return -(-model.experts * self.bits // 64)

    def score_bits(self, model: ModelShape) -> int:
        """Bits of an exact score; the most negative value of them is never reached."""
        largest = self.rows_added(model) * self.row_limit + abs(self.prior(model))
        if self.lookahead:  # gain 4095, margin 512
            largest += (4096 * 512) >> (12 - self.fraction)
        return largest.bit_length() + 1
