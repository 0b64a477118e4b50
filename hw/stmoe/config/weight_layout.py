"""Where the weights of each layer lie in expert memory."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from .lexical_layout import LexicalLayout
from .linear import LinearOptions

if TYPE_CHECKING:
    from .geometry import Geometry

__all__ = ["WeightLayout"]

PAGE = 4096  # bytes, which no burst crosses


def _power(value: int) -> int:
    """The least power of two from ``value`` on."""
    return 1 << (value - 1).bit_length()


@dataclass(frozen=True)
class WeightLayout:
    """Layout of the bias, feature and leader rows of ``options`` in expert memory, a block per
    layer, in bytes.

    Blocks lie at ``base + offset``, behind the rows by identity if those are in memory too. A row
    has the bytes of :class:`LexicalLayout`, without a stride of its own: ``burst_rows`` of them, a
    power of two, follow one another and are read in one burst. Bursts begin at multiples of
    ``burst_stride``, blocks at multiples of ``block_stride``, powers of two, so that none crosses a
    4 KiB boundary if ``base`` is a multiple of ``burst_stride``; what is between is never accessed.
    """

    geometry: Geometry
    options: LinearOptions

    @property
    def rows(self) -> int:
        """Rows of a block."""
        return self.options.stride(self.geometry.config.model)

    @property
    def row_beats(self) -> int:
        return LexicalLayout(self.geometry, self.options).row_beats

    @property
    def block_beats(self) -> int:
        """Beats of the bus per block."""
        return self.rows * self.row_beats

    @property
    def burst_rows(self) -> int:
        """Rows of a burst; of the last one of a block fewer."""
        beats = min(self.geometry.config.burst_beats, PAGE // self.geometry.axi_bytes)
        return 1 << max(1, beats // self.row_beats).bit_length() - 1

    @property
    def bursts(self) -> int:
        """Bursts of a block."""
        return -(-self.rows // self.burst_rows)

    @property
    def burst_stride(self) -> int:
        """Bytes from one burst to the next; alignment of the base."""
        return _power(self.burst_rows * self.row_beats * self.geometry.axi_bytes)

    @property
    def block_stride(self) -> int:
        return _power(self.bursts * self.burst_stride)

    @property
    def memory_bytes(self) -> int:
        return self.geometry.config.model.layers * self.block_stride

    @property
    def offset(self) -> int:
        """Bytes from the base address to the first block."""
        before = 0
        if self.options.tables and self.options.lexical_store == "memory":
            before = LexicalLayout(self.geometry, self.options).memory_bytes
        return -(-before // self.burst_stride) * self.burst_stride

    def address(self, base: int, layer: int, row: int) -> int:
        """Byte address of a row of a layer."""
        burst, within = divmod(row, self.burst_rows)
        return (base + self.offset + layer * self.block_stride + burst * self.burst_stride
                + within * self.row_beats * self.geometry.axi_bytes)
