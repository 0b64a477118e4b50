"""The project's own trace format: a NumPy archive without pickles, see docs/traces.md."""

import json
import os
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from .model import ARRAYS, Trace, TraceError

__all__ = ["FORMAT", "VERSION", "load_npz", "save_npz"]

FORMAT, VERSION = "stmoe-trace", 1
NOTES = {
    "gpt-oss-20b-math": "mathematics questions, no code generation; decode only, no router weights",
    "gpt-oss-20b-science": "science questions, no code generation; decode only, no router weights",
}


def _meta(path: Path, text: Any) -> dict[str, Any]:
    if text.ndim or text.dtype.kind != "U":
        raise TraceError(f"{path}: meta must be one string of JSON, not {text.dtype}{text.shape}")
    try:
        meta = json.loads(str(text))
    except json.JSONDecodeError as error:
        raise TraceError(f"{path}: meta is no JSON: {error}") from None
    if not isinstance(meta, dict) or meta.get("format") != FORMAT:
        raise TraceError(f"{path}: meta.format must be {FORMAT!r}")
    if meta.get("version") != VERSION:
        raise TraceError(f"{path}: meta.version must be {VERSION}, not {meta.get('version')!r}")
    for key, kind in (("name", str), ("model", str), ("num_experts", int), ("metadata", dict)):
        if key in meta and not isinstance(meta[key], kind):
            raise TraceError(f"{path}: meta.{key} must be {kind.__name__}, not {meta[key]!r}")
    return meta


def load_npz(path: Path) -> Trace:
    """Read an archive; only ``experts`` and ``offsets`` must be there."""
    try:
        with np.load(path, allow_pickle=False) as archive:
            if not isinstance(archive, np.lib.npyio.NpzFile):
                raise TraceError(f"{path}: no .npz archive")
            known = {*ARRAYS, "meta"}
            for name in archive.files:
                if name not in known:
                    raise TraceError(f"{path}: unknown field {name!r}; known are "
                                     f"{', '.join(sorted(known))}")
            data = {name: archive[name] for name in archive.files}
    except TraceError:
        raise
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise TraceError(f"{path}: not a readable .npz archive: {error}") from None
    for name in ("experts", "offsets"):
        if name not in data:
            raise TraceError(f"{path}: field {name!r} is missing")
    meta = _meta(path, data.pop("meta")) if "meta" in data else {}
    metadata = dict(meta.get("metadata", {}))
    if not meta and path.stem in NOTES:
        metadata["note"] = NOTES[path.stem]
    try:
        return Trace(name=meta.get("name", path.stem), model=meta.get("model", path.stem),
                     num_experts=meta.get("num_experts", 0), metadata=metadata, **data)
    except (TypeError, ValueError) as error:
        raise TraceError(f"{path}: {error}") from None


def save_npz(trace: Trace, path: Path) -> None:
    """Write what :func:`load_npz` reads, in one step: no reader sees half a file."""
    meta = {"format": FORMAT, "version": VERSION, "name": trace.name, "model": trace.model,
            "num_experts": trace.num_experts, "metadata": trace.metadata}
    arrays = {name: getattr(trace, name) for name in ARRAYS if getattr(trace, name) is not None}
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        with scratch.open("wb") as file:
            np.savez_compressed(file, meta=np.array(json.dumps(meta, sort_keys=True)), **arrays)
        scratch.replace(path)
    finally:
        scratch.unlink(missing_ok=True)
