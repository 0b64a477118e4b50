"""A sweep from its points to its results."""

import contextlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from stmoe_golden.energy import Technology
from stmoe_golden.trace import load

from .columns import row, schema
from .evaluate import Bench, code_digest
from .store import Store
from .sweep import Sweep
from .workers import DIED, Records, batches, cluster, local

__all__ = ["bench", "run"]


def bench(sweep: Sweep, technology: Technology) -> Bench:
    """What points of ``sweep`` are evaluated with."""
    return Bench({name: load(path) for name, path in sweep.traces.items()}, technology)


def run(sweep: Sweep, folder: Path, technology: Technology, *, jobs: int = 2,
        scheduler: str | None = None,
        done: Callable[[int, int, int], None] = lambda points, of, failed: None,
        ) -> list[dict[str, Any]]:
    """Lines of all points of ``sweep``, in its order; those in ``folder`` are not evaluated again,
    but for those whose process died. ``done`` is told points, of how many, and without figures."""
    with Store(folder, schema(sweep.points)) as store:
        points = {point.id: point for point in sweep.points}
        kept = [store.lines[name] for name in points if name in store.lines]
        fresh = {line["id"] for line in kept if line["error"] != DIED}
        todo = batches(point for name, point in points.items() if name not in fresh)
        failed = sum(line["error"] is not None for line in kept if line["id"] in fresh)
        count = len(fresh)
        done(count, len(points), failed)
        found: Iterable[Records] = ()
        if todo and scheduler is None:
            found = local(todo, bench(sweep, technology), jobs)
        elif todo and scheduler is not None:
            found = cluster(todo, bench(sweep, technology), scheduler, code_digest())
        with contextlib.ExitStack() as stack:
            if hasattr(found, "close"):
                stack.callback(found.close)
            for records in found:
                store.add([row(points[one["id"]], one, store.schema) for one in records])
                count += len(records)
                failed += sum(one["error"] is not None for one in records)
                done(count, len(points), failed)
        return [store.lines[name] for name in points]
