"""One expert from floating point to the accelerator's integers."""

from dataclasses import replace

import numpy as np

from ..compute.arithmetic import Requantiser
from ..compute.expert import Expert
from .batch import BatchExpert, requant_exact
from .rounding import clipped_step, encode_scale, round_weights

__all__ = ["moment", "round_expert", "swiglu"]

UP_RANGE = 28000.0  # largest up value seen, in steps of its int16
MARGIN = 1.5  # of the hidden range over what the calibration needs: its tail is long
EVEN = 16.0  # most that the steps of an expert's hidden channels differ by


def moment(x: np.ndarray) -> np.ndarray:
    """Mean of x x' over the rows of ``x`` [n, width]."""
    return x.T @ x / max(len(x), 1)


def swiglu(gate: np.ndarray, up: np.ndarray) -> np.ndarray:
    """Hidden values of the two projections."""
    return gate / (1 + np.exp(-gate)) * up


def round_expert(gate: np.ndarray, up: np.ndarray, down: np.ndarray, x: np.ndarray,
                 inputs: np.ndarray, out_step: float) -> Expert:
    """Integers of the expert ``down(silu(gate x) * up x)``.

    The hidden channels get steps of their own, which the up scales and the columns of ``down``
    absorb; the one hidden scale of the hardware is such that no up value saturates.

    Parameters
    ----------
    gate, up: [d_ff, d_model], to be applied to int8 activations as they are.
    down: [d_model, d_ff].
    x: int8 activations [n, d_model] in float64 that the expert shall be good at.
    inputs: second moment [d_model, d_model] of its activations.
    out_step: real value of one step of the int16 output.
    """
    gate_row, up_row = clipped_step(gate), clipped_step(up)
    raised = x @ up.T
    unit = clipped_step(swiglu(x @ gate.T, raised).T)
    unit = MARGIN * np.maximum(unit, unit.max() / EVEN)
    most = np.maximum(np.abs(raised).max(0), np.abs(raised).max() / EVEN)
    hidden = float((most / (UP_RANGE * 4096 * unit)).max())
    mult, shift = encode_scale(np.array(hidden))
    expert = Expert(
        round_weights(gate, gate_row, inputs), round_weights(up, up_row, inputs),
        np.zeros(down.shape, np.int8), encode_scale(64 * gate_row),
        encode_scale(up_row / (unit * 4096 * hidden)), Requantiser(int(mult), int(shift)),
        encode_scale(np.ones(len(down))))
    first = BatchExpert(expert)
    h = requant_exact(first.hidden(x), first.hidden_scale, 8)
    folded = down * unit
    out_row = clipped_step(folded)
    return replace(expert, down=round_weights(folded, out_row, moment(h)),
                   out_scale=encode_scale(out_row / out_step))
