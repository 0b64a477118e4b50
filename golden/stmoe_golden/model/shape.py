"""Dimensions of a decoder-only MoE language model."""

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from stmoe.config import ModelShape

from .error import ModelError, require

__all__ = ["LmShape"]


@dataclass(frozen=True, kw_only=True)
class LmShape:
    """Checked when made, :class:`ModelError` if impossible.

    Parameters
    ----------
    vocab: token ids, 1 to 65535.
    d_model: width, 1 to 1024, so that sums of int8 products stay exact in every format used.
    layers: blocks, 1 to 256; each has attention and a MoE layer.
    heads: attention heads of even width ``d_model / heads``.
    experts, top_k: experts of a layer, and how many of them a token uses.
    d_ff: hidden width of an expert.
    context: most tokens that attention looks at, 1 to 65536.
    theta: base of the rotary frequencies.
    eps: added to the mean square in every norm.
    """

    vocab: int
    d_model: int
    layers: int
    heads: int
    experts: int
    top_k: int
    d_ff: int
    context: int
    theta: float = 10000.0
    eps: float = 1e-6

    def __post_init__(self) -> None:
        limits = {"vocab": 65535, "d_model": 1024, "layers": 256, "heads": self.d_model,
                  "experts": 512, "top_k": self.experts, "d_ff": 16384, "context": 65536}
        for name, high in limits.items():
            value = getattr(self, name)
            require(type(value) is int and 1 <= value <= high, "model shape",
                    f"{name} must be an integer of 1 to {high}, not {value!r}")
        for name in ("theta", "eps"):
            value = getattr(self, name)
            require(isinstance(value, int | float) and math.isfinite(value) and value > 0,
                    "model shape", f"{name} must be a positive number, not {value!r}")
        require(self.d_model % (2 * self.heads) == 0, "model shape",
                f"d_model must be a multiple of 2 * heads = {2 * self.heads}, not {self.d_model}")

    @classmethod
    def from_mapping(cls, data: Mapping[str, Any], name: str) -> tuple[Self, dict[str, Any]]:
        """The shape in ``data`` and the entries that belong to no shape; ``name`` for errors."""
        fields = {field.name: field for field in dataclasses.fields(cls)}
        missing = [key for key, field in fields.items()
                   if field.default is dataclasses.MISSING and key not in data]
        require(not missing, name, f"the model's shape lacks {', '.join(missing)}")
        try:
            shape = cls(**{key: data[key] for key in fields if key in data})
        except ModelError as error:
            raise ModelError(f"{name}: {error}") from None
        return shape, {key: value for key, value in data.items() if key not in fields}

    @property
    def head_dim(self) -> int:
        return self.d_model // self.heads

    def moe(self, name: str = "tiny-moe") -> ModelShape:
        """What an accelerator configuration must know of this model."""
        return ModelShape(name=name, layers=self.layers, experts=self.experts, top_k=self.top_k,
                          d_model=self.d_model, d_ff=self.d_ff)
