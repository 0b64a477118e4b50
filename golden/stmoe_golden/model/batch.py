"""The accelerator's arithmetic on many tokens at once, equal to the golden functions bit for bit.

Integers are held in float64, which is exact below 2**53: an accumulator times a multiplier stays
below 2**48, and a product with a power of two is exact, so ``rint`` rounds half to even just as
:func:`~stmoe_golden.compute.arithmetic.requant` does.
"""

import numpy as np

from ..compute.arithmetic import GATE_CODES, SILU
from ..compute.expert import Expert
from ..router.router import EXP, GATE_BITS
from .activations import dequantise_output, host_gates, quantise_input
from .engine import Routing
from .quantised import QuantisedModel

__all__ = ["BatchExpert", "GoldenBatch", "requant_exact", "route_batch"]

SILU_FROM_LOWEST = np.roll(SILU, 1 << (GATE_CODES - 1)).astype(np.float64)
LOWEST = -(1 << (GATE_CODES - 1))
EXP_TABLE = np.array(EXP)


def requant_exact(acc: np.ndarray, scale: np.ndarray | float, bits: int) -> np.ndarray:
    """``rint(acc * scale)`` saturated to ``bits``; ``scale`` = mult / 2**shift in float64."""
    top = 1 << (bits - 1)
    return np.clip(np.rint(acc * scale), -top, top - 1)


def route_batch(weights: np.ndarray, x: np.ndarray, top_k: int,
                scale: float) -> tuple[np.ndarray, np.ndarray]:
    """:func:`~stmoe_golden.router.router.route`, renormalised softmax, of each row of ``x``.

    ``weights`` int8 [expert, d_model], ``x`` int8 [n, d_model], ``scale`` = mult / 2**shift.
    Returns ids int64 and gates uint16, [n, top_k] in rank order.
    """
    acc = x.astype(np.float64) @ weights.astype(np.float64).T
    ids = np.argsort(-acc, axis=-1, kind="stable")[:, :top_k]
    below = acc.max(-1, keepdims=True) - np.take_along_axis(acc, ids, -1)
    values = EXP_TABLE[np.minimum(np.rint(below * scale), 1023).astype(np.int64)]
    return ids, ((values << GATE_BITS) // values.sum(-1, keepdims=True)).astype(np.uint16)


class BatchExpert:
    """An :class:`~stmoe_golden.compute.expert.Expert` that takes rows of activations."""

    def __init__(self, expert: Expert):
        def scale(mult: np.ndarray | int, shift: np.ndarray | int) -> np.ndarray:
            return np.ldexp(np.asarray(mult, np.float64), -np.asarray(shift, np.int64))

        self.first = np.concatenate([expert.gate, expert.up]).astype(np.float64).T
        self.second = expert.down.astype(np.float64).T
        self.gate_scale, self.up_scale = scale(*expert.gate_scale), scale(*expert.up_scale)
        self.hidden_scale, self.out_scale = scale(*expert.hidden_scale), scale(*expert.out_scale)

    def hidden(self, x: np.ndarray) -> np.ndarray:
        """silu * up before it is requantised, float64 [n, d_ff], of int8 ``x`` [n, d_model]."""
        acc = x.astype(np.float64) @ self.first
        half = acc.shape[1] // 2
        g = requant_exact(acc[:, :half], self.gate_scale, GATE_CODES).astype(np.int64)
        return SILU_FROM_LOWEST[g - LOWEST] * requant_exact(acc[:, half:], self.up_scale, 16)

    def forward(self, x: np.ndarray) -> np.ndarray:
        """Integers in float64 [n, d_model], int16 range, of int8 ``x`` [n, d_model]."""
        h = requant_exact(self.hidden(x), self.hidden_scale, 8)
        return requant_exact(h @ self.second, self.out_scale, 16)


class GoldenBatch:
    """Batch engine in the accelerator's arithmetic; ``routing`` as for the golden engine.

    Of the latest call of each layer: ``ids`` int64 and ``gates`` uint16 [n, top_k] in rank order,
    ``x`` int8 [n, d_model].
    """

    def __init__(self, model: QuantisedModel, routing: Routing = "hardware"):
        self.model, self.routing = model, routing
        shape = model.shape
        self.experts = [[BatchExpert(model.expert(layer, e)) for e in range(shape.experts)]
                        for layer in range(shape.layers)]
        self.ids: dict[int, np.ndarray] = {}
        self.gates: dict[int, np.ndarray] = {}
        self.x: dict[int, np.ndarray] = {}

    def routed(self, layer: int, x: np.ndarray, q: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Ids and gates [n, top_k] of float32 ``x`` and its int8 ``q``."""
        model, top_k = self.model, self.model.shape.top_k
        if self.routing == "host":
            return host_gates(model.router[layer], x, top_k)
        return route_batch(model.router_int8[layer], q, top_k, float(model.scale("router")[layer]))

    def layers(self, layer: int, x: np.ndarray) -> np.ndarray:
        model = self.model
        q = quantise_input(x, model.activation_scale[layer])
        ids, gates = self.routed(layer, x, q)
        self.ids[layer], self.gates[layer], self.x[layer] = ids, gates, q
        total = np.zeros(x.shape)
        for expert in np.unique(ids):
            token, rank = np.nonzero(ids == expert)
            total[token] += gates[token, rank, None] * self.experts[layer][expert].forward(q[token])
        result = requant_exact(total, 2.0**-GATE_BITS, 16)
        return dequantise_output(result.astype(np.int16), float(model.output_scale[layer]))
