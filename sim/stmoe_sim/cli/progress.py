"""Progress on standard error, gone once the work is done."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
)

__all__ = ["Stages", "bars", "stages", "steps"]


class Stages(Protocol):
    """How far a stage is: ``done`` of ``of``, or of what :func:`stages` was told."""

    def __call__(self, stage: str, done: int, of: int | None = None) -> None: ...


def bars() -> Progress:
    """Bars with what is done, of how much, for how long; a context manager."""
    return Progress(TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(),
                    TimeElapsedColumn(), console=Console(stderr=True), transient=True)


@contextmanager
def stages(total: int | None = None) -> Iterator[Stages]:
    """A bar per stage, each from when it is first heard of; may be told from several threads."""
    tasks: dict[str, TaskID] = {}
    lock = threading.Lock()
    with bars() as shown:
        def progress(stage: str, done: int, of: int | None = None) -> None:
            with lock:
                if stage not in tasks:
                    tasks[stage] = shown.add_task(stage, total=total if of is None else of)
                shown.update(tasks[stage], completed=done)
        yield progress


@contextmanager
def steps() -> Iterator[Callable[[int, int, str], None]]:
    """One bar that is told (done, of, step); of 0 steps it only says which."""
    with bars() as shown:
        task = shown.add_task("", total=None)

        def progress(done: int, of: int, step: str) -> None:
            shown.update(task, description=step[:60], completed=done, total=of or None)
        yield progress
