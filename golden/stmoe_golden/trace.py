"""Routing traces: recorded by others and by us. Formats: docs/traces.md."""

from pathlib import Path

import numpy as np

from .traces.join import join
from .traces.model import DECODE, PREFILL, Trace, TraceError
from .traces.npz import load_npz, save_npz
from .traces.route_csv import load_csv
from .traces.window import Window, decode_slice

__all__ = ["DECODE", "ONE", "PREFILL", "Trace", "TraceError", "Window", "decode_slice", "gates",
           "join", "load", "save"]

ONE = 0x8000  # 1.0 in Q1.15


def load(path: str | Path, keep_prompt: bool = False) -> Trace:
    """Read a trace: ``.npz`` of the project or ``.csv`` of ``route_trace v1``, told by content.
    ``keep_prompt``: of the latter, prefill tokens without the last layer, too."""
    path = Path(path)
    try:
        if path.is_dir():
            raise TraceError(f"{path}: is a folder, not a file")
        with path.open("rb") as file:
            head = file.read(2)
    except FileNotFoundError:
        raise TraceError(f"{path}: no such file") from None
    except OSError as error:
        raise TraceError(f"{path}: not readable ({error.strerror})") from None
    if head == b"PK":
        return load_npz(path)
    if path.suffix == ".npz":
        raise TraceError(f"{path}: {'empty trace: the file holds nothing' if not head else ''}"
                         f"{'not an .npz archive' if head else ''}")
    return load_csv(path, keep_prompt)


def save(trace: Trace, path: str | Path) -> None:
    """Write the project's ``.npz``."""
    path = Path(path)
    if path.suffix != ".npz":
        raise TraceError(f"{path}: a trace is saved as .npz, not {path.suffix or 'without suffix'}")
    save_npz(trace, path)


def gates(trace: Trace, token: int, layer: int) -> np.ndarray:
    """Gate weights of the experts of (token, layer), uint16 Q1.15, rank order, sum 0x8000.

    Exact: each expert gets floor(0x8000 * weight / sum of weights), and the units left over go one
    each to the largest remainders, lower rank first. Unknown or all-zero weights count as equal.
    """
    count = trace.top_k
    scaled = [1] * count
    if trace.weights is not None:
        ratios = [float(w).as_integer_ratio() for w in trace.weights[token, layer]]
        common = max(denominator for _, denominator in ratios)  # powers of two
        scaled = [numerator * (common // denominator) for numerator, denominator in ratios]
        if not any(scaled):
            scaled = [1] * count
    total = sum(scaled)
    result = [ONE * value // total for value in scaled]
    left = ONE - sum(result)
    order = sorted(range(count), key=lambda rank: (-(ONE * scaled[rank] % total), rank))
    for rank in order[:left]:
        result[rank] += 1
    return np.array(result, np.uint16)
