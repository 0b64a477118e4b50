"""Dense weights as plain matrix-vector products: a matrix cut into parts by its inputs."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

import numpy as np

from stmoe.config import Geometry

from .arithmetic import Requantisers, requant, saturate
from .four_bit import FourBits, four_bits

__all__ = ["Matrix", "dense_layer", "parts_of"]


@dataclass(frozen=True, eq=False)
class Matrix:
    """``weights`` int8 [d_model, inputs]; ``scale`` takes an output's accumulator to int16
    [d_model]. ``codes``: the weights of four bits that they are, if they are."""

    weights: np.ndarray
    scale: Requantisers
    codes: FourBits | None = None

    @classmethod
    def random(cls, rng: np.random.Generator, d_model: int, inputs: int,
               weight_group: int = 0) -> Self:
        """A seeded matrix whose outputs fill, and at times overflow, int16."""
        weights = rng.integers(-128, 128, (d_model, inputs), np.int8)
        scale = 16000 / (73.9**2 * inputs**0.5) * rng.uniform(0.5, 2.0, d_model)
        shift = np.clip(15 - np.floor(np.log2(scale)).astype(int), 0, 63)
        mult = np.clip(np.rint(scale * 2.0**shift), 0, 65535)
        made = cls(weights, Requantisers(mult.astype(np.uint16), shift.astype(np.uint8)))
        return made.four_bits(weight_group) if weight_group else made

    def four_bits(self, group: int) -> Self:
        """The matrix with the nearest weights of four bits, ``group`` inputs sharing a scale."""
        codes = four_bits(self.weights, group)
        return replace(self, weights=codes.int8(), codes=codes)

    def forward(self, x: np.ndarray) -> np.ndarray:
        """int16 [d_model] of int8 ``x`` [inputs]: each output requantised once, saturating."""
        acc = self.weights.astype(np.int32) @ np.asarray(x, np.int32)
        return requant(acc, *self.scale, bits=16).astype(np.int16)

    def cut(self, inputs: int) -> list[Self]:
        """Parts of ``inputs`` consecutive inputs each, with the same scales."""
        count = self.weights.shape[1] // inputs
        if count * inputs != self.weights.shape[1]:
            raise ValueError(f"{self.weights.shape[1]} inputs cannot be cut into parts of {inputs}")
        found = []
        for at in range(0, count * inputs, inputs):
            codes = None
            if self.codes is not None:
                each = self.weights.shape[1] // self.codes.scales.shape[1]
                codes = FourBits(self.codes.weights[:, at:at + inputs],
                                 self.codes.scales[:, at // each:(at + inputs) // each])
            found.append(replace(self, weights=self.weights[:, at:at + inputs], codes=codes))
        return found


def parts_of(matrix: Matrix, g: Geometry) -> list[Matrix]:
    """``matrix``, of at most d_model inputs, in parts as the accelerator of ``g`` takes them."""
    return matrix.cut(g.matrix_columns)


def dense_layer(x: np.ndarray, parts: Sequence[Matrix]) -> np.ndarray:
    """int16 [d_model] of int8 ``x``, whose inputs ``parts`` take one after the other: the sum of
    their outputs, saturated."""
    total, at = np.zeros(len(parts[0].weights), np.int64), 0
    for part in parts:
        inputs = part.weights.shape[1]
        total += part.forward(x[at:at + inputs]).astype(np.int64)
        at += inputs
    return saturate(total, 16).astype(np.int16)
