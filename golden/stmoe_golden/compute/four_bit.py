"""Weights of four bits: what they stand for, exact, and the nearest ones to weights of eight.

A row's consecutive inputs form groups that share a scale. A weight of four bits q, -8 .. 7, with
the scale s of its group, 1 .. 255 in eighths, stands for the int8 weight ``(q * s + 4) >> 3``,
saturated: a small multiplier, an adder and a clip in front of the int8 multipliers, which with
everything behind them stay as they are. 4 + 8 / group bits per weight.
"""

from typing import NamedTuple

import numpy as np

from .arithmetic import saturate

__all__ = ["GROUPS", "FourBits", "four_bits"]

GROUPS = (32, 64)
FRACTION = 3  # bits of a scale below the point
SCALES = np.arange(1, 256)
CHUNK = 1024  # groups that are searched at a time


class FourBits(NamedTuple):
    """``weights`` int8 [..., input] of -8 .. 7, ``scales`` uint8 [..., input / group]."""

    weights: np.ndarray
    scales: np.ndarray

    def int8(self) -> np.ndarray:
        """The int8 weights that they stand for, exactly; of the shape of ``weights``."""
        group = self.weights.shape[-1] // self.scales.shape[-1]
        return _stands_for(self.weights, np.repeat(self.scales, group, -1)).astype(np.int8)


def _stands_for(q: np.ndarray, scale: np.ndarray | np.integer) -> np.ndarray:
    product = q.astype(np.int64) * scale
    return saturate((product + (1 << (FRACTION - 1))) >> FRACTION, 8)


def four_bits(weights: np.ndarray, group: int) -> FourBits:
    """The nearest to int8 ``weights`` [..., input] in the sum of squares, group by group.

    The number of inputs must be a multiple of ``group``, one of :data:`GROUPS`.
    """
    inputs = weights.shape[-1]
    if group not in GROUPS or inputs % group:
        raise ValueError(f"group must be {' or '.join(map(str, GROUPS))} and divide "
                         f"{inputs} inputs, not {group}")
    rows = weights.reshape(-1, group).astype(np.int64)
    best, scales = np.zeros(rows.shape, np.int8), np.ones(len(rows), np.uint8)
    for at in range(0, len(rows), CHUNK):
        part = slice(at, at + CHUNK)
        best[part], scales[part] = _nearest(rows[part])
    return FourBits(best.reshape(weights.shape),
                    scales.reshape(*weights.shape[:-1], inputs // group))


def _nearest(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Weights and scale of each group, by trying every scale that could be the best."""
    most = np.abs(rows).max(-1)
    q, chosen = np.zeros(rows.shape, np.int8), np.ones(len(rows), np.uint8)
    loss = np.full(len(rows), np.iinfo(np.int64).max)
    for scale in SCALES:
        # 7 * scale / 8 short of 0.6 of the largest, or beyond all by far, is never the best.
        apt = np.flatnonzero((7 * scale >= 4 * most) & (7 * scale <= 16 * most + 56))
        if not len(apt):
            continue
        found = np.clip(np.rint(rows[apt] * (1 << FRACTION) / scale), -8, 7)
        error = ((_stands_for(found, scale) - rows[apt])**2).sum(-1)
        better = error < loss[apt]
        place = apt[better]
        loss[place], chosen[place], q[place] = error[better], scale, found[better]
    return q, chosen
