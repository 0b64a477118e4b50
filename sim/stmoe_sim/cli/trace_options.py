"""What the verbs of ``stmoe trace`` share: options, bars, the file that is written."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Annotated, TypeVar

import numpy as np
import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from stmoe.config import ConfigError
from stmoe_golden.trace import Trace, save

from ..report.files import check_writable

__all__ = ["Domains", "Note", "Output", "check_output", "each", "labelled", "progress_bar", "store"]

Output = Annotated[Path, typer.Option("--output", "-o", metavar="FILE",
                                      help="The trace to write, .npz.")]
Domains = Annotated[list[str] | None, typer.Option(
    "--domain", metavar="NAME",
    help="Domain of the sequences; once for all, or once per sequence.")]
Note = Annotated[str | None, typer.Option(
    "--note", metavar="TEXT", help="Shown wherever numbers of the trace are.")]
Value = TypeVar("Value")


@contextmanager
def progress_bar(title: str, total: int | None) -> Iterator[Callable[[int], None]]:
    """A bar on standard error that disappears at the end; call with what is done.

    ``total`` None: not known, only what is done is shown.
    """
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(),
               TimeElapsedColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True,
                  disable=not console.is_terminal) as bars:
        task = bars.add_task(title, total=total)
        yield lambda done: bars.update(task, completed=done)


def check_output(path: Path) -> None:
    """Before any work: :class:`ConfigError` unless ``path`` can become a trace."""
    if path.suffix != ".npz":
        raise ConfigError("--output", str(path), "a file that ends in .npz")
    check_writable("--output", path)


def each(option: str, values: Sequence[Value] | None, count: int) -> list[Value | None]:
    """An option's values, one per sequence: none for all, one for all, or all of them."""
    if not values:
        return [None] * count
    if len(values) not in (1, count):
        raise ConfigError(option, f"{len(values)} times", f"given once or {count} times, once per "
                                                          "sequence")
    return [*values] * (count if len(values) == 1 else 1)


def labelled(trace: Trace, domains: list[str] | None, note: str | None) -> Trace:
    """``trace`` with the given domains and note, if any."""
    if note is not None:
        trace = replace(trace, metadata=trace.metadata | {"note": note})
    if not domains:
        return trace
    if not all(domains):
        raise ConfigError("--domain", "''", "a name")
    names = list(dict.fromkeys(domains))
    return replace(trace, metadata=trace.metadata | {"domains": names},
                   domain=np.array([names.index(name)
                                    for name in each("--domain", domains, trace.sequences)
                                    if name is not None]))


def store(trace: Trace, output: Path) -> None:
    """Write the trace and say what it holds."""
    try:
        save(trace, output)
    except OSError as error:
        raise ConfigError("--output", str(output),
                          f"a file that can be written ({error.strerror})") from None
    typer.echo(f"{output}: {trace.tokens:,} tokens in {trace.sequences:,} "
               f"sequence{'s' if trace.sequences > 1 else ''}, "
               f"{trace.layers} MoE layers, {trace.num_experts} experts, top-{trace.top_k}")
