"""The shipped file: safetensors with one metadata entry of JSON and a hash of its content.

docs/tiny-moe.md documents the format. The entry is a single one because the library writes several
in no fixed order, and equal models shall give equal files.
"""

import hashlib
import json
import os
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from .error import ModelError, require
from .quantised import QuantisedModel, moe_tensors
from .shape import LmShape
from .weights import Backbone, backbone_shapes, check_tensor

__all__ = ["FORMAT", "MAX_BYTES", "PACKAGED", "VERSION", "load_model", "packaged_model",
           "save_model"]

FORMAT, VERSION = "stmoe-model", 1
KEY = "stmoe"
MAX_BYTES = 8 << 20
PACKAGED = "tiny-moe.safetensors"
HELDOUT = "heldout."


def packaged_model() -> Path:
    """Where the model that comes with the package lies."""
    return Path(str(files(__package__))) / PACKAGED


def _digest(meta: dict[str, Any], tensors: dict[str, np.ndarray]) -> str:
    """sha256 over the metadata without its hash, then name, type, shape and bytes of each tensor,
    by name."""
    state = hashlib.sha256(_json({k: v for k, v in meta.items() if k != "hash"}).encode())
    for name in sorted(tensors):
        value = np.ascontiguousarray(tensors[name])
        state.update(f"\n{name} {value.dtype.str} {list(value.shape)}\n".encode())
        state.update(value.tobytes())
    return state.hexdigest()


def _json(data: Any) -> str:
    return json.dumps(data, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def save_model(model: QuantisedModel, path: str | Path) -> str:
    """Write ``model`` in one step; returns its hash. At most ``MAX_BYTES``, or ModelError."""
    path = Path(path)
    shape = model.shape
    tensors = model.backbone.tensors() | model.tensors() | {
        HELDOUT + domain: tokens for domain, tokens in model.heldout.items()}
    meta = {"format": FORMAT, "version": VERSION, "tokenizer": model.tokenizer,
            "shape": {name: getattr(shape, name) for name in shape.__dataclass_fields__},
            "facts": model.facts}
    meta["hash"] = _digest(meta, tensors)
    data = save({name: np.ascontiguousarray(value) for name, value in tensors.items()},
                {KEY: _json(meta)})
    require(len(data) <= MAX_BYTES, str(path),
            f"the model takes {len(data)} bytes, the limit is {MAX_BYTES}")
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        scratch.write_bytes(data)
        scratch.replace(path)
    finally:
        scratch.unlink(missing_ok=True)
    return str(meta["hash"])


def _read(path: Path) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    require(path.is_file(), str(path), "no such model file")
    try:
        with safe_open(path, framework="numpy") as file:
            text = (file.metadata() or {}).get(KEY)
            tensors = {name: file.get_tensor(name) for name in file.keys()}
    except (SafetensorError, OSError, TypeError, ValueError) as error:
        raise ModelError(f"{path}: not a readable safetensors file: {error}") from None
    require(text is not None, str(path), f"metadata entry {KEY!r} is missing")
    try:
        meta = json.loads(str(text))
    except json.JSONDecodeError as error:
        raise ModelError(f"{path}: metadata entry {KEY!r} is no JSON: {error}") from None
    require(isinstance(meta, dict), str(path), f"metadata entry {KEY!r} must be a JSON object")
    return meta, tensors


def _check_meta(path: Path, meta: dict[str, Any], tensors: dict[str, np.ndarray]) -> None:
    where = str(path)
    require(meta.get("format") == FORMAT, where,
            f"format must be {FORMAT!r}, not {meta.get('format')!r}")
    require(meta.get("version") == VERSION, where,
            f"version must be {VERSION}, not {meta.get('version')!r}")
    for name, kind in (("hash", str), ("tokenizer", str), ("shape", dict), ("facts", dict)):
        require(isinstance(meta.get(name), kind), where,
                f"metadata {name!r} must be {kind.__name__}, not {type(meta.get(name)).__name__}")
    found = _digest(meta, tensors)
    require(found == meta["hash"], where,
            f"hash of the content is {found}, the file says {meta['hash']}: damaged or edited")


def load_model(path: str | Path | None = None) -> QuantisedModel:
    """Read and check a model, by default the packaged one; :class:`ModelError` if anything is off.

    Everything is checked: hash, names, shapes, types, finite and positive scales.
    """
    path = packaged_model() if path is None else Path(path)
    meta, tensors = _read(path)
    _check_meta(path, meta, tensors)
    where = str(path)
    shape, unknown = LmShape.from_mapping(meta["shape"], where)
    require(not unknown, where, f"unknown entries of the shape: {', '.join(sorted(unknown))}")
    specs = {name: (dims, np.float16) for name, dims in backbone_shapes(shape).items()}
    moe = moe_tensors(shape)
    heldout = {name.removeprefix(HELDOUT): tensors.pop(name) for name in sorted(tensors)
               if name.startswith(HELDOUT)}
    for name, (dims, kind) in (specs | moe).items():
        require(name in tensors, where, f"tensor {name!r} is missing")
        check_tensor(where, name, tensors[name], dims, kind)
    extra = sorted(set(tensors) - set(specs) - set(moe))
    require(not extra, where, f"unknown tensors: {', '.join(extra)}")
    for name in ("activation_scale", "output_scale"):
        require(bool((tensors[name] > 0).all()), where, f"tensor {name!r} must be positive")
    for name in moe:
        if name.endswith("_shift"):
            high = int(tensors[name].max(initial=0))
            require(high <= 63, where, f"tensor {name!r} must be 0 to 63, not {high}")
    for domain, tokens in heldout.items():
        require(tokens.ndim == 1 and tokens.dtype == np.uint16, where,
                f"tensor {HELDOUT + domain!r} must be uint16 [n], not {tokens.dtype}"
                f"{list(tokens.shape)}")
        require(int(tokens.max(initial=0)) < shape.vocab, where,
                f"tensor {HELDOUT + domain!r} must hold ids below {shape.vocab}")
    backbone = Backbone(shape, **{name: tensors[name] for name in specs})
    return QuantisedModel(backbone, **{name: tensors[name] for name in moe},
                          tokenizer=meta["tokenizer"], heldout=heldout, facts=meta["facts"],
                          codes=())
