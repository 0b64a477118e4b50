"""Fixed-point arithmetic of the datapath: rounding, requantisation, the SiLU table."""

from typing import NamedTuple

import numpy as np

__all__ = ["GATE_CODES", "HIDDEN_MAX", "SILU", "Requantiser", "Requantisers", "requant",
           "round_shift", "saturate"]

GATE_CODES = 10  # bits of a requantised gate value, the index of the SiLU table
HIDDEN_MAX = 127


class Requantiser(NamedTuple):
    """Scale of ``mult / 2**shift``: mult 0 .. 65535, shift 0 .. 63."""

    mult: int
    shift: int


class Requantisers(NamedTuple):
    """One scale per channel: ``mult`` uint16 [n], ``shift`` uint8 [n] of 0 .. 63."""

    mult: np.ndarray
    shift: np.ndarray


def round_shift(value: np.ndarray, shift: np.ndarray | int) -> np.ndarray:
    """``value / 2**shift`` rounded half to even, int64; |value| < 2**62, shift 0 .. 63."""
    value = np.asarray(value, np.int64)
    shift = np.asarray(shift, np.int64)
    # Beyond 2**62 the quotient is below a half, for every value in range.
    clipped = np.minimum(shift, 62)
    half = np.where(clipped > 0, np.int64(1) << np.maximum(clipped - 1, 0), 0)
    rest = value & ((np.int64(1) << clipped) - 1)
    down = value >> clipped
    up = (rest > half) | ((rest == half) & (clipped > 0) & (down & 1 == 1))
    return np.where(shift > 62, 0, down + up)


def saturate(value: np.ndarray, bits: int) -> np.ndarray:
    """``value`` clipped to a signed ``bits``-bit range, int64."""
    return np.clip(value, -(1 << (bits - 1)), (1 << (bits - 1)) - 1)


def requant(acc: np.ndarray, mult: np.ndarray | int, shift: np.ndarray | int,
            bits: int) -> np.ndarray:
    """round-half-even(acc * mult / 2**shift) saturated to ``bits``; int32 in, int64 out."""
    product = np.asarray(acc, np.int64) * np.asarray(mult, np.int64)
    return saturate(round_shift(product, shift), bits)


def _silu_table() -> np.ndarray:
    codes = np.arange(1 << GATE_CODES)
    g = np.where(codes < 512, codes, codes - 1024) / 64
    return saturate(np.rint(4096 * g / (1 + np.exp(-g))), 16).astype(np.int16)


SILU = _silu_table()
"""int16 [1024]: 4096 * silu(g / 64) at index g, two's complement; g in -512 .. 511."""
