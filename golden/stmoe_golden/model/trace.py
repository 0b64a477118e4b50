"""The recorded trace of the packaged model: what verbs use when no trace is named."""

from importlib.resources import files
from pathlib import Path

from ..traces.model import Trace
from ..traces.npz import load_npz

__all__ = ["default_trace", "packaged_trace"]


def packaged_trace() -> Path:
    """Where the trace that comes with the package lies."""
    return Path(str(files(__package__))) / "tiny-moe.trace.npz"


def default_trace() -> Trace:
    """Decode tokens of held-out text, both domains in turn, with the int8 inputs of every layer."""
    return load_npz(packaged_trace())
