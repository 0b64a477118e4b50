"""Traces of the ``routed_experts`` that vLLM and SGLang return, see docs/traces.md."""

import json
import zipfile
import zlib
from pathlib import Path

import numpy as np

from .model import DECODE, PREFILL, Trace, TraceError
from .responses import Response, integers, read_numpy, responses

__all__ = ["SUFFIXES", "read_ids", "read_routed", "routed_trace"]

SUFFIXES = (".npy", ".npz", ".json")


def read_routed(path: Path, layers: int | None = None, top_k: int | None = None) -> list[Response]:
    """Sequences of a file, told by its suffix: .npy one, .npz one per array, .json responses.

    ``layers`` and ``top_k`` are needed for SGLang's base64, which tells no shape.
    """
    if path.suffix == ".json":
        try:
            data = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError) as error:
            raise TraceError(f"{path}: no readable JSON: {error}") from None
        return responses(data, f"{path}: $", layers, top_k)
    loaded = read_numpy(path, str(path))
    if isinstance(loaded, np.ndarray):
        return [Response(str(path), loaded)]
    with loaded as archive:
        if not archive.files:
            raise TraceError(f"{path}: empty trace: the archive holds no array")
        try:
            return [Response(f"{path}: {name}", archive[name]) for name in archive.files]
        except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
            raise TraceError(f"{path}: not a readable .npz archive: {error}") from None


def read_ids(path: Path) -> list[int]:
    """Token identities of a sequence: .npy [token], .json list, or integers of a text."""
    if path.suffix == ".npy":
        array = read_numpy(path, str(path))
        if array.ndim != 1 or array.dtype.kind not in "iu":
            raise TraceError(f"{path}: must be integers [token], not {array.dtype}"
                             f"{list(array.shape)}")
        return array.tolist()
    try:
        text = path.read_text(encoding="utf-8")
        data = json.loads(text) if path.suffix == ".json" else [int(w) for w in text.split()]
    except (OSError, ValueError, RecursionError) as error:
        raise TraceError(f"{path}: no readable token identities: {error}") from None
    return integers(data, str(path)) or []


def routed_trace(part: Response, experts: int, *, dense_layers: int = 0,
                 prompt: int | None = None, token: list[int] | None = None,
                 model: str = "unknown") -> Trace:
    """A sequence as a trace, checked; ranks stay as the engine gave them, and it gives no weights.

    Parameters
    ----------
    experts: per layer.
    dense_layers: leading layers without experts, which engines fill with zeros; dropped.
    prompt: tokens of the prompt, recorded as prefill; None = what the file tells, else 0.
    token: identities, one per row, and possibly the last token, which was never an input; None =
        what the file tells.
    """
    ids, where = part.ids, part.where
    if ids.dtype.kind not in "iu":
        raise TraceError(f"{where}: ids must be integers, not {ids.dtype}")
    if ids.ndim != 3:
        raise TraceError(f"{where}: must be [token, layer, rank], not of shape {ids.shape}")
    if not 0 <= dense_layers < max(1, ids.shape[1]):
        raise TraceError(f"{where}: dense layers must be 0 to {ids.shape[1] - 1}, "
                         f"not {dense_layers}")
    ids = ids[:, dense_layers:]
    rows = len(ids)
    if ids.size and ids.shape[2] > 1 and not ids[:, 0].any():
        raise TraceError(f"{where}: layer {dense_layers}: all ids are 0, as engines give for dense "
                         f"layers; drop them with --dense-layers {dense_layers + 1} or more")
    if prompt is None:
        prompt = part.prompt or 0
    if not 0 <= prompt <= rows:
        raise TraceError(f"{where}: prompt tokens must be 0 to {rows}, not {prompt}")
    token = part.token if token is None else token
    if token is not None and len(token) not in (rows, rows + 1):
        raise TraceError(f"{where}: token identities must be {rows}, or {rows + 1} with the last "
                         f"token, not {len(token)}")
    known = np.full(rows, -1) if token is None else np.array(token[:rows], np.int64)
    return Trace(
        name=where, model=model, experts=ids, offsets=np.array([0, rows]), num_experts=experts,
        token=known, phase=np.where(np.arange(rows) < prompt, PREFILL, DECODE),
        metadata={"source": "routed_experts",
                  "note": "routing as an inference engine returned it, without router weights"})
