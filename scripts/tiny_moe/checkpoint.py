"""Float checkpoints: one .npz without pickle, written so that a reader never sees half of one."""

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch

from tiny_moe.model import Shape, TinyMoe

__all__ = ["load_checkpoint", "save_checkpoint", "write_atomically"]


def write_atomically(path: Path, writer: Callable[[BinaryIO], object]) -> None:
    """Call ``writer(file)`` on a temporary file beside ``path``, then rename it to ``path``."""
    temporary = path.with_name(f".{path.name}.part")
    with open(temporary, "wb") as file:
        writer(file)
    os.replace(temporary, path)


def save_checkpoint(path: Path, model: TinyMoe, tokenizer: str,
                    progress: Mapping[str, object]) -> None:
    """Write parameters (float32), ``meta`` (JSON: shape and ``progress``) and ``tokenizer``."""
    arrays = {name: p.detach().float().numpy() for name, p in model.named_parameters()}
    meta = json.dumps({**asdict(model.shape), **progress})
    write_atomically(path, lambda file: np.savez(
        file, meta=np.array(meta), tokenizer=np.array(tokenizer),
        **arrays))  # type: ignore[arg-type]


def load_checkpoint(path: Path, dtype: torch.dtype = torch.float32,
                    ) -> tuple[TinyMoe, str, dict[str, object]]:
    """Model, tokenizer (JSON) and ``meta`` of a checkpoint; products run in ``dtype``.

    Raises ValueError naming the array that is missing or has another shape.
    """
    with np.load(path, allow_pickle=False) as arrays:
        meta = json.loads(str(arrays["meta"]))
        model = TinyMoe(Shape(**{f.name: meta[f.name] for f in fields(Shape) if f.name in meta}),
                        dtype)
        for name, p in model.named_parameters():
            if name not in arrays:
                raise ValueError(f"{path}: array {name} is missing")
            if arrays[name].shape != tuple(p.shape):
                raise ValueError(f"{path}: {name} is {arrays[name].shape}, not {tuple(p.shape)}")
            p.data.copy_(torch.from_numpy(arrays[name]))
        return model, str(arrays["tokenizer"]), meta
