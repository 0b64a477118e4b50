"""The model as it ships: int8 experts and router, the rest in float16."""

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from ..compute.arithmetic import Requantiser, Requantisers
from ..compute.expert import Expert
from ..compute.four_bit import FourBits, four_bits
from .shape import LmShape
from .weights import Backbone, FloatModel

__all__ = ["QuantisedModel", "moe_tensors"]

Spec = tuple[tuple[int, ...], Any]


def moe_tensors(shape: LmShape) -> dict[str, Spec]:
    """Fields of the MoE layers, as (shape, dtype)."""
    moe = (shape.layers, shape.experts)
    wide, hidden = shape.d_model, shape.d_ff
    found: dict[str, Spec] = {
        "router": ((*moe, wide), np.float16), "router_int8": ((*moe, wide), np.int8),
        "gate": ((*moe, hidden, wide), np.int8), "up": ((*moe, hidden, wide), np.int8),
        "down": ((*moe, wide, hidden), np.int8),
        "activation_scale": ((shape.layers, wide), np.float32),
        "output_scale": ((shape.layers,), np.float32)}
    for name, dims in (("router", (shape.layers,)), ("gate", (*moe, hidden)),
                       ("up", (*moe, hidden)), ("hidden", moe), ("down", (*moe, wide))):
        found |= {f"{name}_mult": (dims, np.uint16), f"{name}_shift": (dims, np.uint8)}
    return found


@dataclass(frozen=True, eq=False)
class QuantisedModel:
    """Fields have the names, shapes and types of :func:`moe_tensors`.

    A scale is ``mult / 2**shift``. Steps of the integers, in units of the float model: input
    channel c of a layer ``activation_scale[layer, c]``, result ``output_scale[layer]``; the gate
    and router scales lead to steps of 1/64.

    Parameters
    ----------
    backbone: tensors in float16.
    heldout: uint16 token ids by domain, a sample for measuring.
    facts: JSON data: training, licences, float perplexities.
    """

    backbone: Backbone
    router: np.ndarray
    router_int8: np.ndarray
    router_mult: np.ndarray
    router_shift: np.ndarray
    gate: np.ndarray
    gate_mult: np.ndarray
    gate_shift: np.ndarray
    up: np.ndarray
    up_mult: np.ndarray
    up_shift: np.ndarray
    hidden_mult: np.ndarray
    hidden_shift: np.ndarray
    down: np.ndarray
    down_mult: np.ndarray
    down_shift: np.ndarray
    activation_scale: np.ndarray
    output_scale: np.ndarray
    tokenizer: str = ""
    heldout: dict[str, np.ndarray] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)
    codes: tuple[FourBits, ...] = ()

    @property
    def shape(self) -> LmShape:
        return self.backbone.shape

    def tensors(self) -> dict[str, np.ndarray]:
        """Tensors of the MoE layers by name."""
        return {name: getattr(self, name) for name in moe_tensors(self.shape)}

    def expert(self, layer: int, expert: int) -> Expert:
        """One expert as the accelerator has it."""
        def scales(name: str) -> Requantisers:
            return Requantisers(getattr(self, f"{name}_mult")[layer, expert],
                                getattr(self, f"{name}_shift")[layer, expert])

        hidden = Requantiser(int(self.hidden_mult[layer, expert]),
                             int(self.hidden_shift[layer, expert]))
        codes = tuple(FourBits(weights[layer, expert], scale[layer, expert])
                      for weights, scale in self.codes)
        return Expert(self.gate[layer, expert], self.up[layer, expert], self.down[layer, expert],
                      scales("gate"), scales("up"), hidden, scales("down"), codes)

    def four_bits(self, group: int) -> "QuantisedModel":
        """The same model with every expert's weights as the nearest of four bits, in groups of at
        most ``group`` inputs, one of :data:`~stmoe_golden.compute.four_bit.GROUPS`."""
        codes = tuple(four_bits(weights, min(group, weights.shape[-1]))
                      for weights in (self.gate, self.up, self.down))
        gate, up, down = (code.int8() for code in codes)
        return replace(self, gate=gate, up=up, down=down, codes=codes)

    def fit(self, weight_group: int) -> "QuantisedModel":
        """The model with the weights that hardware of this ``weight_group`` has (0: of eight
        bits)."""
        return self.four_bits(weight_group) if weight_group and not self.codes else self

    def router_registers(self, layer: int) -> tuple[int, int]:
        """mult and shift that take the router's accumulator to steps of 1/64."""
        return int(self.router_mult[layer]), int(self.router_shift[layer])

    def scale(self, name: str) -> np.ndarray:
        """``mult / 2**shift`` of "router", "gate", "up", "hidden" or "down", exact in float64."""
        return np.ldexp(getattr(self, f"{name}_mult").astype(np.float64),
                        -getattr(self, f"{name}_shift").astype(np.int64))

    def dequantised(self) -> FloatModel:
        """Floating-point weights that the integers stand for, without any rounding between."""
        step = self.activation_scale.astype(np.float64)[:, None, None, :]
        gate = self.gate * self.scale("gate")[..., None] / 64 / step
        up = self.up * self.scale("up")[..., None] / step
        # One step of silu * up becomes scale("hidden") steps of the hidden value.
        after = self.scale("down")[..., None] * self.scale("hidden")[..., None, None] * 4096
        down = self.down * after * self.output_scale.astype(np.float64)[:, None, None, None]
        router = self.router_int8 * self.scale("router")[:, None, None] / 64 / step[:, 0]
        return FloatModel(self.backbone, router, gate, up, down, self.tokenizer)
