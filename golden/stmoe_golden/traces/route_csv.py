"""Reader of ``route_trace v1``: one CSV row per (token, layer, rank), see docs/traces.md."""

import math
import re
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from .model import DECODE, MAX_EXPERTS, PREFILL, Trace, TraceError

__all__ = ["load_csv"]

MAGIC = "# route_trace v1"
COLUMNS = ("turn", "phase", "step", "layer", "slot", "expert", "weight", "residency",
           "expert_bytes")
NATIVE_TOP_K = {"qwen3moe": 8, "gemma4": 8}

Token = tuple[int, int, int]


class _Reader:
    """Collects rows; every complaint names file and line."""

    def __init__(self, path: Path):
        self.path, self.line = path, 0
        self.header: dict[str, str] = {}
        self.expert_bytes: dict[int, int] = {}
        self.cells: dict[Token, dict[int, dict[int, tuple[int, float]]]] = {}
        self.last: dict[Token, int] = {}

    def fail(self, text: str, line: int | None = None) -> TraceError:
        return TraceError(f"{self.path}, line {self.line if line is None else line}: {text}")

    def integer(self, name: str, text: str, low: int, high: int) -> int:
        try:
            value = int(text)
        except ValueError:
            raise self.fail(f"{name} must be an integer, not {text!r}") from None
        if not low <= value <= high:
            raise self.fail(f"{name} must be {low} to {high}, not {value}")
        return value

    def shape(self, name: str, high: int) -> int:
        if name not in self.header:
            raise TraceError(f"{self.path}: the header gives no {name}")
        return self.integer(name, self.header[name], 1, high)

    def comment(self, line: str) -> None:
        fields = dict(re.findall(r"(\w+)=(.*?)(?=\s+\w+=|$)", line[1:].strip()))
        if "layer" in fields:
            layer = self.integer("layer", fields["layer"], 0, 255)
            self.expert_bytes[layer] = self.integer(
                "expert_bytes", fields.get("expert_bytes", "0"), 0, 2**40)
        else:
            self.header |= fields

    def row(self, line: str, limits: tuple[int, int, int]) -> None:
        fields = line.split(",")
        if len(fields) != len(COLUMNS):
            raise self.fail(f"a row must have {len(COLUMNS)} fields, not {len(fields)} "
                            "(truncated file?)")
        layers, experts, top_k = limits
        turn = self.integer("turn", fields[0], 0, 2**31)
        phase = self.integer("phase", fields[1], PREFILL, DECODE)
        step = self.integer("step", fields[2], 0, 2**31)
        layer = self.integer("layer", fields[3], 0, layers - 1)
        slot = self.integer("slot", fields[4], 0, top_k - 1)
        expert = self.integer("expert", fields[5], 0, experts - 1)
        try:
            weight = float(fields[6])
        except ValueError:
            raise self.fail(f"weight must be a number, not {fields[6]!r}") from None
        if not math.isfinite(weight) or weight < 0:
            raise self.fail(f"weight must be finite and not negative, not {fields[6]}")
        self.integer("expert_bytes", fields[8], 0, 2**40)
        token = (turn, step, phase)
        ranks = self.cells.setdefault(token, {}).setdefault(layer, {})
        if slot in ranks:
            raise self.fail(f"step {step}, layer {layer}: slot {slot} occurs twice")
        if any(expert == other for other, _ in ranks.values()):
            raise self.fail(f"step {step}, layer {layer}: expert {expert} occurs twice")
        ranks[slot] = (expert, weight)
        self.last[token] = self.line

    def read(self) -> tuple[int, int, int]:
        """Read the file; (layers, experts, top-k) from its header."""
        try:
            text = self.path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            raise TraceError(f"{self.path}: not a text file, let alone {MAGIC[2:]!r}") from None
        if not text.strip():
            raise TraceError(f"{self.path}: empty trace: the file holds nothing")
        lines = text.splitlines()
        if lines[0].strip() != MAGIC:
            raise TraceError(f"{self.path}, line 1: must be {MAGIC!r}, not {lines[0][:40]!r}")
        limits = None
        for self.line, line in enumerate(lines, 1):
            if line.startswith("#"):
                if self.line > 1:
                    self.comment(line)
            elif limits is None:
                if tuple(line.strip().split(",")) != COLUMNS:
                    raise self.fail(f"the columns must be {','.join(COLUMNS)}, "
                                    f"not {line.strip()!r}")
                limits = (self.shape("n_layer", 256), self.shape("n_expert", MAX_EXPERTS),
                          self.shape("n_expert_used", 16))
            elif line.strip():
                self.row(line, limits)
        if limits is None:
            raise TraceError(f"{self.path}: truncated: the line of column names is missing")
        return limits

    def whole(self, token: Token, layers: int, top_k: int) -> bool:
        """Whether ``token`` has all layers; an illegal gap is an error."""
        turn, step, phase = token
        rows = self.cells[token]
        what = f"turn {turn}, {('prefill', 'decode')[phase]} step {step}"
        for layer, ranks in rows.items():
            if len(ranks) != top_k:
                missing = min(set(range(top_k)) - set(ranks))
                raise self.fail(f"{what}, layer {layer}: slot {missing} is missing, "
                                f"{len(ranks)} of {top_k} are there (truncated file?)",
                                self.last[token])
        gap = next((layer for layer in range(layers) if layer not in rows), None)
        if gap is None:
            return True
        if phase == PREFILL and gap == layers - 1:
            return False
        raise self.fail(f"{what}: layer gap: layer {gap} of {layers} is missing (truncated file?)",
                        self.last[token])


def _note(arch: str, top_k: int, dropped: int, partial: int) -> str:
    parts = []
    if NATIVE_TOP_K.get(arch, top_k) != top_k:
        parts.append(f"recorded with a forced top-{top_k}, the model's own is {NATIVE_TOP_K[arch]}")
    if dropped:
        parts.append(f"{dropped} prefill tokens without the last layer dropped")
    if partial:
        parts.append(f"{partial} prefill tokens are without the last layer")
    parts.append("content unknown, not known to hold code generation")
    return "; ".join(parts)


def load_csv(path: Path, keep_prompt: bool = False) -> Trace:
    """Read ``route_trace v1``; a turn is a sequence.

    Prefill tokens without the last layer (recorders skip it for all but the last prompt token) are
    dropped and counted in ``metadata["prefill_tokens_dropped"]``, or, with ``keep_prompt``, have
    experts of -1 and weights of 0 there; every other gap is an error.
    """
    reader = _Reader(path)
    layers, experts, top_k = reader.read()
    tokens = sorted(reader.cells)
    if not tokens:
        raise TraceError(f"{path}: empty trace: there is no row below the column names")
    for before, after in pairwise(tokens):
        if before[0] == after[0] and after[1] != before[1] + 1:
            raise TraceError(f"{path}, line {reader.last[after]}: turn {after[0]}: step must be "
                             f"{before[1] + 1} after {before[1]}, not {after[1]}")
    whole = [token for token in tokens if reader.whole(token, layers, top_k)]
    kept = tokens if keep_prompt and whole else whole
    dropped, partial = len(tokens) - len(kept), len(kept) - len(whole)
    unknown = dict.fromkeys(range(top_k), (-1, 0.0))
    if not kept:
        raise TraceError(f"{path}: empty trace: none of its {dropped} tokens has all layers")
    cells = [[[reader.cells[token].get(layer, unknown)[rank] for rank in range(top_k)]
              for layer in range(layers)] for token in kept]
    turns = np.array([token[0] for token in kept])
    starts = np.flatnonzero(np.diff(turns)) + 1
    arch = reader.header.get("arch", "")
    metadata: dict[str, Any] = {
        "source": "route_trace v1", "arch": arch, "prefill_tokens_dropped": dropped,
        "expert_bytes": [reader.expert_bytes.get(layer, 0) for layer in range(layers)],
        "note": _note(arch, top_k, dropped, partial)}
    name = path.name.removesuffix(".csv").removesuffix(".route")
    return Trace(
        name=name, model=reader.header.get("model", name).rsplit("/", 1)[-1].removesuffix(".gguf"),
        experts=np.array([[[e for e, _ in ranks] for ranks in token] for token in cells], np.int16),
        weights=np.array([[[w for _, w in ranks] for ranks in token] for token in cells],
                         np.float32),
        offsets=np.array([0, *starts.tolist(), len(kept)], np.int64),
        phase=np.array([token[2] for token in kept], np.uint8),
        num_experts=experts, metadata=metadata)
