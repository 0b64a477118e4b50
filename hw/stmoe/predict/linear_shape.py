"""What the hardware of the linear predictor depends on, and every width that follows."""

import math
from dataclasses import dataclass
from functools import cached_property

from amaranth.hdl import signed, unsigned
from amaranth.lib import data

from ..config import ConfigError, Geometry
from ..config.error import check_range

__all__ = ["ERROR_ONE", "LinearOptions", "LinearShape"]

ERROR_ONE = 1024  # a probability of 1
MAX_FEATURES, MAX_TOKEN_LAG, MAX_LAYER_LAG, MAX_LEXICAL = 8, 7, 63, 1 << 16


@dataclass(frozen=True, kw_only=True)
class LinearOptions:
    """Options of the predictor ``linear``, named as in golden; docs/predictors.md has the formats.

    Parameters
    ----------
    features: pairs (token lag 0 to 7, layer lag 0 to 63), at most 8, distinct; the layer lag is at
        least 1 where the token lag is 0.
    lexical: rows per layer by token identity, 0 or a power of two up to 65536.
    bits: of a weight, 4 to 16. fraction: of them behind the point, 4 to 10.
    rate, lexical_rate: learning moves a weight by error * 2**-rate; fraction - 10 to 8.
    """

    features: tuple[tuple[int, int], ...] = ((0, 1), (0, 2), (0, 3), (1, 0))
    lexical: int = 0
    bits: int = 10
    fraction: int = 6
    rate: int = 4
    lexical_rate: int = 1

    def __post_init__(self) -> None:
        if len(self.features) > MAX_FEATURES or len(set(self.features)) != len(self.features):
            raise ConfigError("linear.features", self.features,
                              f"at most {MAX_FEATURES} distinct pairs")
        for token, layer in self.features:
            check_range("linear.features token lag", token, 0, MAX_TOKEN_LAG)
            check_range("linear.features layer lag", layer, 0 if token else 1, MAX_LAYER_LAG)
        check_range("linear.lexical", self.lexical, 0, MAX_LEXICAL)
        if self.lexical & (self.lexical - 1):
            raise ConfigError("linear.lexical", self.lexical, "0 or a power of two")
        check_range("linear.bits", self.bits, 4, 16)
        check_range("linear.fraction", self.fraction, 4, 10)
        check_range("linear.rate", self.rate, self.fraction - 10, 8)
        check_range("linear.lexical_rate", self.lexical_rate, self.fraction - 10, 8)


@dataclass(frozen=True)
class LinearShape:
    """Widths and depths of the linear predictor of ``geometry`` with ``options``."""

    geometry: Geometry
    options: LinearOptions

    @property
    def layers(self) -> int:
        return self.geometry.config.model.layers

    @property
    def experts(self) -> int:
        return self.geometry.config.model.experts

    @property
    def top_k(self) -> int:
        return self.geometry.config.model.top_k

    @property
    def id_bits(self) -> int:
        return (self.experts - 1).bit_length()

    @property
    def row(self) -> data.ArrayLayout:
        """A row: one weight per expert."""
        return data.ArrayLayout(signed(self.options.bits), self.experts)

    @property
    def row_limit(self) -> int:
        """Largest magnitude of a weight."""
        return (1 << self.options.bits - 1) - 1

    @property
    def stride(self) -> int:
        """Rows of a layer: its bias, then one per feature and expert."""
        return 1 + len(self.options.features) * self.experts

    @property
    def depth(self) -> int:
        return self.layers * self.stride

    @property
    def address_bits(self) -> int:
        return max(1, (self.depth - 1).bit_length())

    @property
    def lexical_bits(self) -> int:
        """Bits of a token's identity that choose its row."""
        return max(1, (self.options.lexical - 1).bit_length())

    @cached_property
    def prior(self) -> int:
        others = self.experts - self.top_k
        return round(2**self.options.fraction * math.log(self.top_k / others)) if others else 0

    @property
    def rows_added(self) -> int:
        """Most rows of one score."""
        return 1 + bool(self.options.lexical) + len(self.options.features) * self.top_k

    @cached_property
    def score_bits(self) -> int:
        """Bits of an exact score; the most negative value of them is never reached."""
        return (self.rows_added * self.row_limit + abs(self.prior)).bit_length() + 1

    @property
    def shift(self) -> int:
        return 10 - self.options.fraction + self.options.rate

    @property
    def lexical_shift(self) -> int:
        return 10 - self.options.fraction + self.options.lexical_rate

    def steps(self, shift: int) -> data.ArrayLayout:
        """An error per expert, shifted and rounded."""
        bits = ((ERROR_ONE - 1 + (1 << shift >> 1)) >> shift).bit_length() + 1
        return data.ArrayLayout(signed(bits), self.experts)

    @property
    def scores(self) -> data.ArrayLayout:
        return data.ArrayLayout(signed(self.score_bits), self.experts)

    @property
    def token_lag(self) -> int:
        """Tokens that the history reaches back."""
        return max([0, *(token for token, _ in self.options.features)])

    @property
    def past(self) -> data.StructLayout:
        """The routing of a layer, as the history keeps it."""
        return data.StructLayout({"ids": data.ArrayLayout(self.id_bits, self.top_k),
                                  "count": range(self.top_k + 1)})

    @property
    def token(self) -> data.StructLayout:
        """Announcement of a token; ``first`` of a sequence, ``identity`` if ``known``."""
        return data.StructLayout({"identity": unsigned(32), "known": unsigned(1),
                                  "first": unsigned(1)})

    @property
    def candidate(self) -> data.StructLayout:
        """As ``interfaces.candidate``, with a signed score in units of 2**-fraction."""
        return data.StructLayout({
            "layer": unsigned(self.geometry.layer_bits),
            "expert": unsigned(self.geometry.expert_bits),
            "score": signed(self.score_bits), "end": unsigned(1)})
