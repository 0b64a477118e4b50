"""Weights in floating point, and the training checkpoint they come from."""

import json
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from .error import ModelError, require
from .shape import LmShape

__all__ = ["Backbone", "FloatModel", "backbone_shapes", "check_tensor", "load_checkpoint"]


def backbone_shapes(shape: LmShape) -> dict[str, tuple[int, ...]]:
    """Tensors outside the MoE layers and the shapes that they must have."""
    wide, layers = shape.d_model, shape.layers
    square = (layers, wide, wide)
    return {"embed": (shape.vocab, wide), "attn_norm": (layers, wide), "wq": square, "wk": square,
            "wv": square, "wo": square, "moe_norm": (layers, wide), "final_norm": (wide,)}


def check_tensor(where: str, name: str, value: np.ndarray, shape: tuple[int, ...],
                 kind: Any) -> np.ndarray:
    """``value``, or :class:`ModelError` naming file, tensor, and what differs."""
    require(value.shape == shape, where,
            f"tensor {name!r} must have shape {list(shape)}, not {list(value.shape)}")
    require(value.dtype == np.dtype(kind), where,
            f"tensor {name!r} must be {np.dtype(kind).name}, not {value.dtype}")
    if value.dtype.kind == "f":
        require(bool(np.isfinite(value).all()), where, f"tensor {name!r} holds a non-finite value")
    return value


@dataclass(frozen=True, eq=False)
class Backbone:
    """Everything but the MoE layers: what stays in floating point on the host.

    Parameters
    ----------
    embed: [vocab, d_model], also the output layer.
    attn_norm, moe_norm: gains [layer, d_model]. final_norm: [d_model].
    wq, wk, wv, wo: [layer, d_model, d_model], applied as W @ x.
    """

    shape: LmShape
    embed: np.ndarray
    attn_norm: np.ndarray
    wq: np.ndarray
    wk: np.ndarray
    wv: np.ndarray
    wo: np.ndarray
    moe_norm: np.ndarray
    final_norm: np.ndarray

    def tensors(self) -> dict[str, np.ndarray]:
        return {name: getattr(self, name) for name in backbone_shapes(self.shape)}


@dataclass(frozen=True, eq=False)
class FloatModel:
    """The whole model in floating point.

    Parameters
    ----------
    router: [layer, expert, d_model]. gate, up: [layer, expert, d_ff, d_model].
    down: [layer, expert, d_model, d_ff].
    tokenizer: JSON of the ``tokenizers`` library.
    training: facts about the training run, JSON data.
    """

    backbone: Backbone
    router: np.ndarray
    gate: np.ndarray
    up: np.ndarray
    down: np.ndarray
    tokenizer: str = ""
    training: dict[str, Any] = field(default_factory=dict)

    @property
    def shape(self) -> LmShape:
        return self.backbone.shape

    @classmethod
    def random(cls, rng: np.random.Generator, shape: LmShape, tokenizer: str = "") -> "FloatModel":
        """Untrained weights whose activations keep a variance near one."""
        def normal(dims: tuple[int, ...], fan_in: int) -> np.ndarray:
            return (rng.standard_normal(dims) / np.sqrt(fan_in)).astype(np.float32)

        wide, hidden = shape.d_model, shape.d_ff
        parts = {name: rng.uniform(0.5, 1.5, dims).astype(np.float32) if "norm" in name
                 else normal(dims, wide if name != "embed" else 4)
                 for name, dims in backbone_shapes(shape).items()}
        moe = (shape.layers, shape.experts)
        return cls(Backbone(shape, **parts), normal((*moe, wide), wide),
                   normal((*moe, hidden, wide), wide), normal((*moe, hidden, wide), wide),
                   normal((*moe, wide, hidden), hidden), tokenizer)


def _read(path: Path) -> dict[str, np.ndarray]:
    try:
        with np.load(path, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except FileNotFoundError:
        raise ModelError(f"{path}: no such file") from None
    except (TypeError, OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise ModelError(f"{path}: not a readable .npz checkpoint: {error}") from None


def _text(path: Path, data: Mapping[str, np.ndarray], name: str) -> str:
    require(name in data, str(path), f"field {name!r} is missing")
    require(data[name].dtype.kind == "U" and data[name].ndim == 0, str(path),
            f"field {name!r} must be one string, not {data[name].dtype}{data[name].shape}")
    return str(data[name])


def load_checkpoint(path: str | Path) -> FloatModel:
    """Read the float32 ``.npz`` that training writes; docs/tiny-moe.md names its fields."""
    path = Path(path)
    data = _read(path)
    try:
        meta = json.loads(_text(path, data, "meta"))
    except json.JSONDecodeError as error:
        raise ModelError(f"{path}: meta is no JSON: {error}") from None
    require(isinstance(meta, dict), str(path), "meta must be a JSON object")
    shape, training = LmShape.from_mapping(meta, str(path))
    moe = (shape.layers, shape.experts)
    wide, hidden = shape.d_model, shape.d_ff
    expected = backbone_shapes(shape) | {
        "router": (*moe, wide), "gate": (*moe, hidden, wide), "up": (*moe, hidden, wide),
        "down": (*moe, wide, hidden)}
    for name in expected:
        require(name in data, str(path), f"tensor {name!r} is missing")
    parts = {name: check_tensor(str(path), name, data[name], dims, np.float32)
             for name, dims in expected.items()}
    backbone = Backbone(shape, **{name: parts[name] for name in backbone_shapes(shape)})
    return FloatModel(backbone, parts["router"], parts["gate"], parts["up"], parts["down"],
                      _text(path, data, "tokenizer"), training)
