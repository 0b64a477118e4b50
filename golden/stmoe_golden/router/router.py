"""Gating network: int8 logits, top-k, fixed-point gate values."""

from enum import IntEnum

import numpy as np

__all__ = ["EXP", "SIGMOID", "GateMode", "ahead_logits", "logits", "requantise", "route",
           "top_k_ids"]

STEPS = 64  # table steps per unit of the exponent
GATE_BITS = 15  # gates are Q1.15


class GateMode(IntEnum):
    """Function from logits to gates."""

    SOFTMAX = 0
    SIGMOID = 1


EXP = [int(v) for v in np.rint(65535 * np.exp(-np.arange(1024) / STEPS))]
"""exp(-i/64) as uint16, 65535 = 1; index 0 to 1023."""

SIGMOID = [int(v) for v in np.rint(32768 / (1 + np.exp(-np.arange(-512, 512) / STEPS)))]
"""sigmoid(i/64) in Q1.15; ``SIGMOID[i + 512]``, i from -512 to 511."""


def logits(weights: np.ndarray, x: np.ndarray) -> np.ndarray:
    """``weights`` int8 [expert, d_model] times ``x`` int8 [d_model], exactly; fits int32."""
    return weights.astype(np.int64) @ x.astype(np.int64)


def top_k_ids(values: np.ndarray, k: int) -> np.ndarray:
    """Ids of the ``k`` largest, in falling order, lower id first among equals."""
    return np.argsort(-np.asarray(values, np.int64), kind="stable")[:k]


def requantise(value: int, mult: int, shift: int) -> int:
    """``value * mult / 2**shift``, rounded to nearest, halves to even; not saturated."""
    product = int(value) * mult
    below = product & ((1 << shift) - 1)
    up = 2 * below + ((product >> shift) & 1) > (1 << shift)
    return (product >> shift) + up


def ahead_logits(weights: np.ndarray, x: np.ndarray, mult: int, shift: int) -> np.ndarray:
    """Look-ahead logits, int64 [expert]: the next layer's ``weights`` and requantiser on the ``x``
    of this layer, in steps of 1/64, saturated to -32768 .. 32767."""
    steps = [requantise(int(value), mult, shift) for value in logits(weights, x)]
    return np.clip(steps, -(1 << 15), (1 << 15) - 1)


def route(weights: np.ndarray, x: np.ndarray, k: int, *, mode: GateMode, renormalise: bool,
          mult: int, shift: int) -> list[tuple[int, int]]:
    """Chosen experts with their gates, in rank order (falling logit, lower id first).

    Softmax: e_i = EXP[min(1023, requantise(max - logit_i))]; the gate is
    floor(e_i * 2**15 / S), S the sum of e over the chosen if ``renormalise``, else over all
    experts. Sigmoid: e_i = SIGMOID of requantise(logit_i) saturated to -512 .. 511; the gate is e_i
    itself, or floor(e_i * 2**15 / S) with S the sum over the chosen if ``renormalise``.
    Gates are 0 .. 32768. ``mult`` is unsigned 16 bit, ``shift`` 0 .. 63; together they take
    accumulator units to steps of 1/64.
    """
    values = [int(v) for v in logits(weights, x)]
    chosen = [int(e) for e in top_k_ids(np.array(values), k)]
    if mode == GateMode.SOFTMAX:
        top = max(values)
        scale = [EXP[min(1023, requantise(top - v, mult, shift))] for v in values]
    else:
        scale = [SIGMOID[min(511, max(-512, requantise(v, mult, shift))) + 512] for v in values]
        if not renormalise:
            return [(e, scale[e]) for e in chosen]
    total = sum(scale[e] for e in chosen) if renormalise else sum(scale)
    return [(e, (scale[e] << GATE_BITS) // total) for e in chosen]
