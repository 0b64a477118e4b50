"""``stmoe trace import``: recordings of others as a trace of the project."""

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from stmoe.config import ConfigError
from stmoe.config.error import check_range
from stmoe_golden.trace import Trace, join, load
from stmoe_golden.traces.model import MAX_EXPERTS
from stmoe_golden.traces.routed import SUFFIXES, read_ids, read_routed, routed_trace

from .trace_options import Domains, Note, Output, check_output, each, labelled, store

__all__ = ["EPILOG", "import_traces"]

MAX_LAYERS = 1024
EPILOG = """\b
Examples:
  stmoe trace import qwen3.route.csv -o qwen3.npz
  stmoe trace import qwen3.route.csv --keep-prompt -o qwen3-prompt.npz
  stmoe trace import english.npz python.npz -o both.npz
  stmoe trace import answer1.npy answer2.npy --experts 128 --prompt-tokens 31 \\
      --prompt-tokens 18 --domain python -o answers.npz
  stmoe trace import sglang.json --experts 256 --layers 61 --top-k 8 --dense-layers 3 -o v3.npz
"""


def is_trace(path: Path) -> bool:
    """Whether a file is a trace by itself, not an engine's array."""
    if path.suffix != ".npz":
        return path.suffix not in SUFFIXES
    try:
        with np.load(path, allow_pickle=False) as archive:
            return {"experts", "offsets"} <= set(archive.files)
    except Exception:  # whatever is wrong, the reader of arrays says it
        return False


def import_traces(
        files: Annotated[list[Path], typer.Argument(
            metavar="FILE", help="route_trace v1 .csv, traces of the project .npz, or the "
                                    "routed_experts of vLLM or SGLang as .npy, .npz or .json; "
                                    "in the order of time.")],
        output: Output,
        experts: Annotated[int | None, typer.Option(
            "--experts", metavar="N", help="Experts per layer; needed for routed_experts.")] = None,
        prompt_tokens: Annotated[list[int] | None, typer.Option(
            "--prompt-tokens", metavar="N",
            help="Rows that are prefill; once for all, or once per sequence. Default: what a "
                 ".json tells, else 0.")] = None,
        tokens: Annotated[list[Path] | None, typer.Option(
            "--tokens", metavar="FILE", help="Token identities of a sequence, .npy, .json or "
                                             "text; once per sequence.")] = None,
        layers: Annotated[int | None, typer.Option(
            "--layers", metavar="N",
            help="Layers in SGLang's base64, dense ones included.")] = None,
        top_k: Annotated[int | None, typer.Option(
            "--top-k", metavar="N", help="Experts per token in SGLang's base64.")] = None,
        dense_layers: Annotated[int, typer.Option(
            "--dense-layers", metavar="N",
            help="Leading layers without experts, which engines fill with zeros; dropped.")] = 0,
        keep_prompt: Annotated[bool, typer.Option(
            "--keep-prompt", help="Keep prefill tokens of which a .csv lacks the last layer, to "
                                  "profile on.")] = False,
        model: Annotated[str | None, typer.Option(
            "--model", metavar="NAME", help="The model that was recorded.")] = None,
        domain: Domains = None, note: Note = None,
) -> None:
    """Turn recordings of others into a trace.

    Everything is checked; several files become the sequences of one trace, in their order.
    """
    check_output(output)
    for option, value, low, high in (("--experts", experts, 2, MAX_EXPERTS),
                                     ("--layers", layers, 1, MAX_LAYERS),
                                     ("--top-k", top_k, 1, MAX_EXPERTS)):
        if value is not None:
            check_range(option, value, low, high)
    for path in files:
        if not path.is_file():
            raise ConfigError("FILE", str(path), "a file that is there")
    arrays = [path for path in files if not is_trace(path)]
    told = {"--experts": experts, "--prompt-tokens": prompt_tokens, "--tokens": tokens,
            "--layers": layers, "--top-k": top_k, "--dense-layers": dense_layers or None}
    for option, given in told.items():
        if given is not None and not arrays:
            raise ConfigError(option, str(given), f"left out: {files[0]} tells it itself")
    if arrays and experts is None:
        raise ConfigError("--experts", "nothing", f"given for routed_experts, as in {arrays[0]}")
    found = {path: read_routed(path, layers, top_k) for path in dict.fromkeys(arrays)}
    count = sum(len(found[path]) for path in arrays)
    prompts = iter(each("--prompt-tokens", prompt_tokens, count))
    if tokens and len(tokens) != count:
        raise ConfigError("--tokens", f"{len(tokens)} times", f"given {count} times, once per "
                                                              "sequence")
    identities = iter([read_ids(path) for path in tokens or []])
    parts: list[Trace] = []
    for path in files:
        if path not in found:
            parts.append(load(path, keep_prompt))
        for part in found.get(path, ()):
            assert experts is not None
            parts.append(routed_trace(part, experts, dense_layers=dense_layers,
                                      prompt=next(prompts), token=next(identities, None),
                                      model=model or "unknown"))
    if model is not None:
        parts = [replace(part, model=model) for part in parts]
    store(labelled(join(parts, output.stem), domain, note), output)
