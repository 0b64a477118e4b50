"""Rounding of real weights to int8, and of real scales to multiplier and shift."""

import numpy as np

from ..compute.arithmetic import Requantisers
from .error import require

__all__ = ["clipped_step", "encode_scale", "round_weights"]

CLIPS = np.linspace(0.4, 1.0, 13)
CACHED = 1 << 16  # values that are searched at a time
SMALLEST = 1e-12


def encode_scale(scale: np.ndarray) -> Requantisers:
    """Nearest ``mult / 2**shift`` to positive ``scale``, mult of 16 bits: relative error 2**-17."""
    scale = np.asarray(scale, np.float64)
    require(bool(((scale > 0) & (scale < 32768)).all()), "scale",
            f"must be above 0 and below 32768, not {scale.min()} to {scale.max()}")
    shift = np.clip(15 - np.floor(np.log2(scale)).astype(np.int64), 0, 63)
    mult = np.rint(np.ldexp(scale, shift))
    # 65535.6 rounds up to 2**16: one shift less.
    over = mult > 65535
    shift = np.where(over, shift - 1, shift)
    mult = np.rint(np.ldexp(scale, shift))
    return Requantisers(mult.astype(np.uint16), shift.astype(np.uint8))


def clipped_step(values: np.ndarray, top: int = 127) -> np.ndarray:
    """Step per row of ``values`` [row, n] with the least squared error, saturation included.

    Searched among steps that put 40 to 100 % of the row's largest magnitude at ``top``.
    """
    values = np.ascontiguousarray(values, np.float64)
    chunk = max(1, CACHED // max(1, values.shape[1]))
    return np.concatenate([_clipped_step(values[at:at + chunk], top)
                           for at in range(0, len(values), chunk)])


def _clipped_step(values: np.ndarray, top: int) -> np.ndarray:
    high = np.maximum(np.abs(values).max(-1), SMALLEST)
    best, steps = np.full(len(values), np.inf), np.zeros(len(values))
    for clip in CLIPS:
        step = clip * high / top
        scaled = values / step[:, None]
        error = np.rint(scaled)
        np.clip(error, -top, top, out=error)
        error -= scaled
        loss = np.einsum("ij,ij->i", error, error) * step**2
        better = loss < best
        best, steps = np.where(better, loss, best), np.where(better, step, steps)
    return steps


def round_weights(weights: np.ndarray, step: np.ndarray, moment: np.ndarray,
                  damping: float = 0.01) -> np.ndarray:
    """int8 [row, n] so that ``step * result`` acts like ``weights`` [row, n] on real inputs.

    Columns are rounded in order of the power of their input; the error of each is made up for by
    the columns still to come, as far as their inputs correlate (the OBQ and GPTQ papers' rule).

    Parameters
    ----------
    step: [row]. moment: [n, n], mean of x x' of the inputs.
    damping: share of the mean power added to ``moment``'s diagonal.
    """
    count = len(moment)
    order = np.argsort(-np.diag(moment), kind="stable")
    power = max(float(np.trace(moment)) / count, SMALLEST)
    damped = moment[np.ix_(order, order)] + damping * power * np.eye(count)
    factor = np.linalg.cholesky(np.linalg.inv(damped)).T
    rest = weights[:, order].astype(np.float64)
    result = np.zeros(rest.shape, np.int8)
    for at in range(count):
        whole = np.clip(np.rint(rest[:, at] / step), -127, 127)
        result[:, order[at]] = whole
        error = (rest[:, at] - whole * step) / factor[at, at]
        rest[:, at + 1:] -= np.outer(error, factor[at, at + 1:])
    return result
