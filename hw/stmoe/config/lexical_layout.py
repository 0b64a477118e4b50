"""Where rows by token identity lie in expert memory."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from .error import ConfigError
from .linear import LinearOptions

if TYPE_CHECKING:
    from .geometry import Geometry

__all__ = ["LexicalLayout"]


@dataclass(frozen=True)
class LexicalLayout:
    """Layout of the rows by identity of ``options`` in expert memory, in bytes from a base address.

    Rows are numbered table by table, lexical, pair, previous, and in each by identity modulo its
    size. The row of (number, layer) begins at ``base + number * token_stride + layer *
    row_stride``. It holds the weights of experts 0, 1, ... as two's complement of ``bits`` bits,
    the first in the least significant bits of the lowest byte, without gaps; the rest of its last
    beat is written as 0 and not looked at, what follows up to the stride is never accessed. Strides
    are powers of two and ``base`` a multiple of ``token_stride``, so that no row crosses a 4 KiB
    boundary and each is one burst: the widest, 512 experts of 16 bits, has 1 KiB.
    """

    geometry: Geometry
    options: LinearOptions

    @property
    def row_bytes(self) -> int:
        return -(-self.geometry.config.model.experts * self.options.bits // 8)

    @property
    def row_beats(self) -> int:
        """Beats of the bus per row, 1 to 256."""
        return -(-self.row_bytes // self.geometry.axi_bytes)

    @property
    def row_stride(self) -> int:
        return max(self.geometry.axi_bytes, 1 << (self.row_bytes - 1).bit_length())

    @property
    def token_stride(self) -> int:
        """Bytes of an identity, whose layers are a power of two; alignment of the base."""
        return self.row_stride << self.geometry.layer_bits

    @property
    def rows(self) -> int:
        """Rows per layer in all tables."""
        return sum(self.options.tables.values())

    @property
    def memory_bytes(self) -> int:
        return self.rows * self.token_stride

    def base_behind(self, address: int) -> int:
        """The least legal base from ``address`` on."""
        return -(-address // self.token_stride) * self.token_stride

    def check_base(self, base: int) -> None:
        """:class:`ConfigError` unless rows may lie at ``base``."""
        if base % self.token_stride or base < 0:
            raise ConfigError("linear base", base, f"a multiple of {self.token_stride}")
        room = 1 << self.geometry.config.axi_addr_bits
        if base + self.memory_bytes > room:
            raise ConfigError("linear base", base, f"at most {room - self.memory_bytes} with "
                                                   f"{self.memory_bytes} bytes of rows")

    def address(self, base: int, number: int, layer: int) -> int:
        """Byte address of a row; numbers count on from the first table's last."""
        return base + number % self.rows * self.token_stride + layer * self.row_stride
