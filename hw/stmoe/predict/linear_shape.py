"""What the hardware of the linear predictor depends on, and every width that follows."""

from dataclasses import dataclass
from functools import cached_property

from amaranth.hdl import Value, signed, unsigned
from amaranth.lib import data

from ..config import Geometry, LinearOptions

__all__ = ["ERROR_ONE", "INDEX_BITS", "Lag", "LinearOptions", "LinearShape"]

PAIR_SHIFT = 5  # a pair is known by its second identity + 33 * its first
ERROR_ONE = 1024  # a probability of 1
INDEX_BITS = 8  # of the sigmoid, in steps of 1/16 of log-odds


@dataclass(frozen=True)
class Lag:
    """A feature or leader: whose rows, from ``offset`` within a layer on, and of which stage."""

    token: int
    back: int
    offset: int
    leader: bool
    stage: int


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
        return self.options.row_limit

    @property
    def stride(self) -> int:
        """Rows of a layer: its bias, then by feature and expert, then by leader and expert."""
        return self.options.stride(self.geometry.config.model)

    @property
    def depth(self) -> int:
        return self.layers * self.stride

    @property
    def address_bits(self) -> int:
        return max(1, (self.depth - 1).bit_length())

    @property
    def load_bits(self) -> int:
        """Bits of the number of a row on chip."""
        return max(1, (self.options.chip_rows(self.geometry.config.model) - 1).bit_length())

    @property
    def stages(self) -> int:
        return self.options.stages

    @property
    def stage_bits(self) -> int:
        return max(1, (self.stages - 1).bit_length())

    @cached_property
    def lags(self) -> tuple[Lag, ...]:
        """Features and leaders, stage by stage."""
        lags = [Lag(token, back, 1 + at * self.experts, at >= len(self.options.features),
                    (0 if token else 1 + (back == 1)) if self.stages > 1 else 0)
                for at, (token, back) in enumerate(self.options.features + self.options.leaders)]
        return tuple(sorted(lags, key=lambda lag: lag.stage))

    @property
    def tables(self) -> tuple[str, ...]:
        """Tables of rows by token identity that there are, of ``lexical``, ``pair``, ``previous``.
        """
        return tuple(self.options.tables)

    @property
    def table_bits(self) -> int:
        """Bits of the number of a table, in the order of ``tables``."""
        return max(1, (len(self.tables) - 1).bit_length())

    @property
    def table_rows(self) -> int:
        """Rows per layer in all tables, one table behind the other."""
        return sum(self.options.tables.values())

    @property
    def identity_bits(self) -> int:
        """Bits of a token's identity that choose rows."""
        return max(1, (max([1, *self.options.tables.values()]) - 1).bit_length())

    @property
    def lexical_bits(self) -> int:
        """Bits of a token's identity that choose its lexical row."""
        return max(1, (self.options.lexical - 1).bit_length())

    def chosen_rows(self, identity: Value, last: Value) -> list[Value]:
        """Of each table, which of ``table_rows`` a token and the one before choose."""
        index = {"lexical": identity, "previous": last,
                 "pair": identity + last + (last << PAIR_SHIFT)}
        chosen, start = [], 0
        for name, rows in self.options.tables.items():
            chosen.append((index[name] & rows - 1) + start)
            start += rows
        return chosen

    @cached_property
    def prior(self) -> int:
        return self.options.prior(self.geometry.config.model)

    @property
    def rows_added(self) -> int:
        """Most rows of one score."""
        return self.options.rows_added(self.geometry.config.model)

    @cached_property
    def score_bits(self) -> int:
        """Bits of an exact score; the most negative value of them is never reached."""
        return self.options.score_bits(self.geometry.config.model)

    @property
    def shift(self) -> int:
        return 10 - self.options.fraction + self.options.rate

    @property
    def lexical_shift(self) -> int:
        return 10 - self.options.fraction + self.options.lexical_rate

    @property
    def previous_shift(self) -> int:
        return self.lexical_shift + 1

    def steps(self, shift: int) -> data.ArrayLayout:
        """An error per expert, shifted and rounded."""
        bits = ((ERROR_ONE - 1 + (1 << shift >> 1)) >> shift).bit_length() + 1
        return data.ArrayLayout(signed(bits), self.experts)

    @property
    def scores(self) -> data.ArrayLayout:
        return data.ArrayLayout(signed(self.score_bits), self.experts)

    def term(self, lanes: int) -> data.StructLayout:
        """Terms of a group of ``lanes`` experts, added to their scores if ``valid``."""
        return data.StructLayout({
            "valid": unsigned(1), "group": range(max(2, -(-self.experts // lanes))),
            "values": data.ArrayLayout(signed(self.score_bits), lanes)})

    @property
    def early(self) -> data.ArrayLayout:
        """Sigmoid indices, by stage but the last, and expert."""
        return data.ArrayLayout(data.ArrayLayout(INDEX_BITS, self.experts), self.stages - 1)

    @property
    def token_lag(self) -> int:
        """Tokens that the history reaches back."""
        return max([0, *(lag.token for lag in self.lags)])

    @property
    def past(self) -> data.StructLayout:
        """The routing of a layer, as the history keeps it."""
        return data.StructLayout({"ids": data.ArrayLayout(self.id_bits, self.top_k),
                                  "count": range(self.top_k + 1)})

    @property
    def loaded(self) -> data.StructLayout:
        """A row on chip, from outside."""
        return data.StructLayout({"address": unsigned(self.load_bits), "row": self.row})

    @property
    def candidate(self) -> data.StructLayout:
        """As ``interfaces.candidate``, with a signed score in units of 2**-fraction."""
        return data.StructLayout({
            "layer": unsigned(self.geometry.layer_bits),
            "expert": unsigned(self.geometry.expert_bits),
            "score": signed(self.score_bits), "end": unsigned(1)})
