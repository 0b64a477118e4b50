"""Engines compute MoE layers: the protocols, floating point, and the accelerator's arithmetic."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np

from ..compute.expert import moe_layer
from ..router.router import GateMode, route
from .activations import dequantise_output, host_gates, quantise_input
from .quantised import QuantisedModel
from .weights import FloatModel

__all__ = ["BatchEngine", "FloatEngine", "GoldenEngine", "LayerRecord", "MoeEngine", "Routing",
           "TokensEngine"]

Routing = Literal["hardware", "host"]


class MoeEngine(Protocol):
    """Computes one token at a time, as an accelerator does."""

    def begin_token(self, token_id: int, first: bool) -> None:
        """A token starts; ``first`` of its sequence. Its layers follow, 0 first."""

    def layer(self, layer: int, x: np.ndarray) -> np.ndarray:
        """What the MoE layer adds to the stream, float32 [d_model], of its normed input ``x``."""
        ...


class BatchEngine(Protocol):
    """Computes many tokens at a time."""

    def layers(self, layer: int, x: np.ndarray) -> np.ndarray:
        """Output of MoE layer ``layer`` for each row of ``x`` float32 [n, d_model]."""
        ...


class TokensEngine(MoeEngine, BatchEngine, Protocol):
    """Computes up to ``max_tokens`` consecutive tokens of a sequence at a time."""

    max_tokens: int

    def begin_tokens(self, tokens: Sequence[int], start: int, *, drafted: bool) -> None:
        """Tokens from number ``start`` of their sequence on begin: of a prompt, or the last one
        known and ``drafted`` ones. Their layers follow, 0 first."""


class FloatEngine:
    """Both protocols in float64, of a checkpoint or of a dequantised model.

    ``ids`` int64 [n, top_k] of the latest call of each layer, and ``gates`` float64 likewise.
    """

    def __init__(self, model: FloatModel):
        self.top_k = model.shape.top_k
        self.router, self.gate, self.up, self.down = (
            part.astype(np.float64) for part in (model.router, model.gate, model.up, model.down))
        self.ids: dict[int, np.ndarray] = {}
        self.gates: dict[int, np.ndarray] = {}

    def begin_token(self, token_id: int, first: bool) -> None:
        pass

    def layer(self, layer: int, x: np.ndarray) -> np.ndarray:
        return self.layers(layer, x[None])[0]

    def layers(self, layer: int, x: np.ndarray) -> np.ndarray:
        x = np.asarray(x, np.float64)
        logits = x @ self.router[layer].T
        ids = np.argsort(-logits, axis=-1, kind="stable")[:, :self.top_k]
        chosen = np.take_along_axis(logits, ids, -1)
        gates = np.exp(chosen - chosen[:, :1])
        gates /= gates.sum(-1, keepdims=True)
        self.ids[layer], self.gates[layer] = ids, gates
        out = np.zeros_like(x)
        for expert in np.unique(ids):
            token, rank = np.nonzero(ids == expert)
            g = x[token] @ self.gate[layer, expert].T
            h = g / (1 + np.exp(-g)) * (x[token] @ self.up[layer, expert].T)
            out[token] += gates[token, rank, None] * (h @ self.down[layer, expert].T)
        return out.astype(np.float32)


@dataclass(frozen=True)
class LayerRecord:
    """What a MoE layer was given: experts in rank order, gates uint16 Q1.15, ``x`` int8."""

    experts: list[int]
    gates: np.ndarray
    x: np.ndarray


class GoldenEngine:
    """One token at a time in exactly the accelerator's arithmetic, by the golden functions.

    ``routing`` "hardware": int8 router, softmax in fixed point, renormalised over the chosen.
    "host": the float router decides. ``token`` is the present token's identity, ``first`` whether
    it starts a sequence, ``records`` one :class:`LayerRecord` per layer computed so far, and
    ``result`` the int16 result of the latest layer. Of many tokens that begin together ``token`` is
    the last, and there is a record for each per layer.
    """

    def __init__(self, model: QuantisedModel, routing: Routing = "hardware", max_tokens: int = 1):
        self.model, self.routing, self.max_tokens = model, routing, max_tokens
        shape = model.shape
        self.experts = [[model.expert(layer, e) for e in range(shape.experts)]
                        for layer in range(shape.layers)]
        self.token, self.first = -1, True
        self.records: list[LayerRecord] = []
        self.result = np.zeros(shape.d_model, np.int16)

    def begin_token(self, token_id: int, first: bool) -> None:
        self.token, self.first, self.records = token_id, first, []

    def begin_tokens(self, tokens: Sequence[int], start: int, *, drafted: bool) -> None:
        self.begin_token(tokens[-1], start == 0)

    def layers(self, layer: int, x: np.ndarray) -> np.ndarray:
        return np.stack([self.layer(layer, row) for row in x])

    def routed(self, layer: int, x: np.ndarray, q: np.ndarray) -> tuple[list[int], np.ndarray]:
        """Experts in rank order and their gates, of float32 ``x`` and its int8 ``q``."""
        model, top_k = self.model, self.model.shape.top_k
        if self.routing == "host":
            ids, gates = host_gates(model.router[layer], x[None], top_k)
            return ids[0].tolist(), gates[0]
        mult, shift = model.router_registers(layer)
        pairs = route(model.router_int8[layer], q, top_k, mode=GateMode.SOFTMAX,
                      renormalise=True, mult=mult, shift=shift)
        return [e for e, _ in pairs], np.array([gate for _, gate in pairs], np.uint16)

    def layer(self, layer: int, x: np.ndarray) -> np.ndarray:
        q = quantise_input(x, self.model.activation_scale[layer])
        experts, gates = self.routed(layer, x, q)
        self.records.append(LayerRecord(experts, gates, q))
        self.result = moe_layer(q, [self.experts[layer][e] for e in experts], gates)
        return dequantise_output(self.result, float(self.model.output_scale[layer]))
