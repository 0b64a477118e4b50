"""The int8 SwiGLU expert and the gate-weighted sum of a layer, bit-exact."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

import numpy as np

from .arithmetic import SILU, Requantiser, Requantisers, requant, round_shift, saturate
from .four_bit import FourBits, four_bits

__all__ = ["Expert", "moe_layer"]


def _scales(rng: np.random.Generator, count: int, target: float) -> Requantisers:
    """Scales near ``target``, varied per channel as those of trained weights are."""
    scale = target * rng.uniform(0.5, 2.0, count)
    shift = np.clip(15 - np.floor(np.log2(scale)).astype(int), 0, 63)
    return Requantisers(np.clip(np.rint(scale * 2.0**shift), 0, 65535).astype(np.uint16),
                        shift.astype(np.uint8))


@dataclass(frozen=True, eq=False)
class Expert:
    """Weights and scales of one expert.

    Parameters
    ----------
    gate, up: int8 [d_ff, d_model]. down: int8 [d_model, d_ff].
    gate_scale: accumulator to 10-bit gate value in steps of 1/64 [d_ff].
    up_scale: accumulator to int16 [d_ff].
    hidden_scale: silu * up to int8.
    out_scale: accumulator to int16 output [d_model].
    codes: the weights of four bits that gate, up and down are, if they are; else none.
    """

    gate: np.ndarray
    up: np.ndarray
    down: np.ndarray
    gate_scale: Requantisers
    up_scale: Requantisers
    hidden_scale: Requantiser
    out_scale: Requantisers
    codes: tuple[FourBits, ...] = ()

    def four_bits(self, group: int) -> Self:
        """The expert with the nearest weights of four bits, ``group`` inputs sharing a scale."""
        codes = tuple(four_bits(weights, group) for weights in (self.gate, self.up, self.down))
        gate, up, down = (code.int8() for code in codes)
        return replace(self, gate=gate, up=up, down=down, codes=codes)

    @classmethod
    def random(cls, rng: np.random.Generator, d_model: int, d_ff: int,
               weight_group: int = 0) -> Self:
        """A seeded expert whose values fill, and at times overflow, every intermediate range;
        weights of eight bits, or of four in groups of ``weight_group``."""
        def weights(*shape: int) -> np.ndarray:
            return rng.integers(-128, 128, shape, np.int8)

        spread = 73.9**2  # rms of a product of two uniform int8
        inner, outer = spread * d_model**0.5, 73.9 * 40 * d_ff**0.5
        gate = _scales(rng, d_ff, 128 / inner)
        up = _scales(rng, d_ff, 8000 / inner)
        hidden = _scales(rng, 1, 40 / (8000.0 * 4096))
        made = cls(weights(d_ff, d_model), weights(d_ff, d_model), weights(d_model, d_ff), gate, up,
                   Requantiser(int(hidden.mult[0]), int(hidden.shift[0])),
                   _scales(rng, d_model, 8000 / outer))
        return made.four_bits(weight_group) if weight_group else made

    def forward(self, x: np.ndarray) -> np.ndarray:
        """int16 [d_model] of an int8 [d_model] activation."""
        x = np.asarray(x, np.int32)
        g = requant(self.gate.astype(np.int32) @ x, *self.gate_scale, bits=10)
        u = requant(self.up.astype(np.int32) @ x, *self.up_scale, bits=16)
        h = requant(SILU[g & 1023].astype(np.int64) * u, *self.hidden_scale, bits=8)
        acc = self.down.astype(np.int32) @ h.astype(np.int32)
        return requant(acc, *self.out_scale, bits=16).astype(np.int16)


def moe_layer(x: np.ndarray, experts: Sequence[Expert], gates: np.ndarray) -> np.ndarray:
    """int16 [d_model]: the sum of the experts' outputs, weighted by ``gates`` (uint16, Q1.15)."""
    total = np.zeros(np.shape(x)[-1], np.int64)
    for expert, gate in zip(experts, gates, strict=True):
        total += int(gate) * expert.forward(x).astype(np.int64)
    return saturate(round_shift(total, 15), 16).astype(np.int16)
