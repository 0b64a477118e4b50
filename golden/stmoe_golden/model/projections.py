"""The attention projections in the accelerator's arithmetic: int8 matrices of dense weights.

Scales are static, from calibration tokens. Weights are rounded to the nearest; steps keep
``STEP_BITS`` significant bits, so that the order in which a machine sums does not move them.
"""

from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from ..compute.arithmetic import Requantisers
from ..compute.four_bit import FourBits, four_bits
from ..compute.matrix import Matrix
from .activations import dequantise_output, quantise_input
from .batch import GoldenBatch, requant_exact
from .error import require
from .quantised import QuantisedModel
from .rounding import clipped_step, encode_scale
from .shape import LmShape
from .trace import default_trace
from .transformer import PROJECTIONS, Transformer

__all__ = ["BatchProjections", "Projections", "QuantisedProjections", "calibration",
           "quantise_projections"]

HEADROOM = 4.0  # of the int16 results over the largest seen, as of the experts'
STEP_BITS = 8


class Projections(Protocol):
    """Computes the projections of attention."""

    def project(self, layer: int, name: str, x: np.ndarray) -> np.ndarray:
        """Projection ``name`` ("wq", "wk", "wv", "wo") of ``x`` [n, d_model], likewise."""
        ...


@dataclass(frozen=True, eq=False)
class QuantisedProjections:
    """Of layer l and projection p, in the order of :data:`PROJECTIONS`:

    Parameters
    ----------
    weights: int8 [l, p, d_model, d_model]. mult, shift: their requantisers, uint16 and uint8
        [l, p, d_model].
    input_step: float32 [l, p, d_model], of each int8 input channel; the same for wq, wk and wv.
    output_step: float32 [l, p], of the int16 result.
    codes: the weights of four bits that they are, if they are.
    """

    shape: LmShape
    weights: np.ndarray
    mult: np.ndarray
    shift: np.ndarray
    input_step: np.ndarray
    output_step: np.ndarray
    codes: FourBits | None = None

    def fit(self, weight_group: int) -> "QuantisedProjections":
        """The nearest weights of those that hardware of this ``weight_group`` has (0: of eight
        bits)."""
        if not weight_group:
            return self
        codes = four_bits(self.weights, weight_group)
        return replace(self, weights=codes.int8(), codes=codes)

    def matrix(self, layer: int, name: str) -> Matrix:
        """One projection as the accelerator has it, whole."""
        p = PROJECTIONS.index(name)
        codes = self.codes and FourBits(*(part[layer, p] for part in self.codes))
        return Matrix(self.weights[layer, p], Requantisers(self.mult[layer, p],
                                                           self.shift[layer, p]), codes)

    def quantise(self, layer: int, name: str, x: np.ndarray) -> np.ndarray:
        """int8 of ``x`` [..., d_model]."""
        return quantise_input(x, self.input_step[layer, PROJECTIONS.index(name)])

    def dequantise(self, layer: int, name: str, y: np.ndarray) -> np.ndarray:
        """What int16 results ``y`` [..., d_model] stand for, float64."""
        step = float(self.output_step[layer, PROJECTIONS.index(name)])
        return dequantise_output(y, step).astype(np.float64)

    def tensors(self) -> dict[str, np.ndarray]:
        """Everything by name."""
        return {name: getattr(self, name) for name in
                ("weights", "mult", "shift", "input_step", "output_step")}


class BatchProjections:
    """:class:`Projections` in the accelerator's arithmetic, parts of ``columns`` inputs each; equal
    to :func:`~stmoe_golden.compute.matrix.dense_layer` row by row."""

    def __init__(self, projections: QuantisedProjections, columns: int):
        self.projections, self.columns = projections, columns

    def integers(self, layer: int, name: str, q: np.ndarray) -> np.ndarray:
        """int16 [n, d_model] of int8 ``q`` [n, d_model]."""
        total = np.zeros(q.shape)
        for at, part in enumerate(self.projections.matrix(layer, name).cut(self.columns)):
            scale = np.ldexp(part.scale.mult.astype(np.float64), -part.scale.shift.astype(np.int64))
            own = q[:, at * self.columns:(at + 1) * self.columns].astype(np.float64)
            total += requant_exact(own @ part.weights.T.astype(np.float64), scale, 16)
        return requant_exact(total, 1.0, 16).astype(np.int16)

    def project(self, layer: int, name: str, x: np.ndarray) -> np.ndarray:
        q = self.projections.quantise(layer, name, x)
        return self.projections.dequantise(layer, name, self.integers(layer, name, q))


class _Recorder:
    """Floating-point projections that keep what they were given, and the largest of each result."""

    def __init__(self, model: QuantisedModel):
        self.weights = {name: value.astype(np.float64)
                        for name, value in model.backbone.tensors().items() if name in PROJECTIONS}
        self.inputs: dict[tuple[int, str], list[np.ndarray]] = {}
        self.largest: dict[tuple[int, str], float] = {}

    def project(self, layer: int, name: str, x: np.ndarray) -> np.ndarray:
        result = x @ self.weights[name][layer].T
        self.inputs.setdefault((layer, name), []).append(x)
        self.largest[layer, name] = max(self.largest.get((layer, name), 0.0),
                                        float(np.abs(result).max()))
        return result


def _short(step: np.ndarray) -> np.ndarray:
    """``step`` with :data:`STEP_BITS` significant bits, float32."""
    mantissa, exponent = np.frexp(step)
    return np.ldexp(np.rint(np.ldexp(mantissa, STEP_BITS)), exponent - STEP_BITS).astype(np.float32)


def calibration(model: QuantisedModel) -> np.ndarray:
    """Token ids [sequence, token] to scale on: those of the packaged trace. :class:`ModelError` if
    ``model`` has not as many tokens or so much context."""
    trace = default_trace()
    tokens = trace.token.reshape(trace.sequences, -1)
    for what, value, most in (("vocab", int(tokens.max()) + 1, model.shape.vocab),
                              ("context", tokens.shape[1], model.shape.context)):
        require(value <= most, f"model {what}", f"must be at least {value}, that of the packaged "
                                                f"trace, to scale the projections, not {most}")
    return tokens


def quantise_projections(model: QuantisedModel, tokens: np.ndarray) -> QuantisedProjections:
    """The projections of ``model`` in integers, scaled for what they are given on ``tokens``
    [sequence, token], see :func:`calibration`."""
    shape = model.shape
    recorder = _Recorder(model)
    Transformer(model.backbone, recorder).stream(np.asarray(tokens, np.int64), GoldenBatch(model))
    size = (shape.layers, len(PROJECTIONS), shape.d_model)
    input_step, output_step = np.zeros(size, np.float32), np.zeros(size[:2], np.float32)
    weights = np.zeros((*size, shape.d_model), np.int8)
    mult, shift = np.zeros(size, np.uint16), np.zeros(size, np.uint8)
    for layer in range(shape.layers):
        for p, name in enumerate(PROJECTIONS):
            seen = np.concatenate(recorder.inputs[layer, name])
            input_step[layer, p] = _short(clipped_step(seen.T))
            output_step[layer, p] = _short(np.array(
                HEADROOM * max(recorder.largest[layer, name], 1e-6) / 32767))
            folded = recorder.weights[name][layer] * input_step[layer, p].astype(np.float64)
            step = clipped_step(folded)
            weights[layer, p] = np.clip(np.rint(folded / step[:, None]), -127, 127)
            mult[layer, p], shift[layer, p] = encode_scale(step / float(output_step[layer, p]))
    return QuantisedProjections(shape, weights, mult, shift, input_step, output_step)
