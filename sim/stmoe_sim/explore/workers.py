"""Who evaluates points: processes of this machine, or an existing Dask cluster."""

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from typing import Any

from stmoe.config import ConfigError

from .evaluate import Bench, evaluate
from .sweep import Point

__all__ = ["DIED", "SchedulerLost", "batches", "cluster", "local"]

DIED = "the process that evaluated it died"
BATCH = 4  # points of one machine that a worker takes at a time
Records = list[dict[str, Any]]


class SchedulerLost(RuntimeError):
    """The cluster went away; what was evaluated is kept."""


def batches(points: Iterable[Point]) -> list[tuple[Point, ...]]:
    """Points that share a machine, a few at a time, in order."""
    found: list[tuple[Point, ...]] = []
    for point in points:
        if found and len(found[-1]) < BATCH and found[-1][0].machine == point.machine:
            found[-1] += (point,)
        else:
            found.append((point,))
    return found


def _died(points: Iterable[Point]) -> Records:
    return [{"id": point.id, "error": DIED, "seconds": None} for point in points]


_bench: Bench | None = None  # of this process


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)  # it was killed: nobody will ask for anything


def _begin(bench: Bench) -> None:
    global _bench
    _bench = bench
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # of a terminal, to all: the parent ends us
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _here(points: Sequence[Point]) -> Records:
    assert _bench is not None
    return evaluate(_bench, points)


def local(todo: Sequence[tuple[Point, ...]], bench: Bench, jobs: int) -> Iterator[Records]:
    """Records of ``todo`` as they come, from ``jobs`` processes that stay warm.

    The first batch is alone, so that the model is compiled once. When a process dies, what was
    being evaluated is tried again point by point; one that dies once more has that as its error.
    """
    context = multiprocessing.get_context("spawn")

    def pool(processes: int) -> ProcessPoolExecutor:
        return ProcessPoolExecutor(processes, context, _begin, (bench,))
    waiting, suspects = deque(todo), deque[tuple[Point, ...]]()
    running: dict[Future[Records], tuple[Point, ...]] = {}
    executor, first = pool(jobs), True
    try:
        while waiting or running or suspects:
            alone = bool(suspects) and not running
            room = 1 if first or suspects else 2 * jobs
            while len(running) < room and (alone or (waiting and not suspects)):
                batch = suspects.popleft() if alone else waiting.popleft()
                running[executor.submit(_here, batch)] = batch
                if alone:
                    break
            done, _ = wait(running, return_when=FIRST_COMPLETED)
            broken = False
            for future in done:
                batch = running.pop(future)
                try:
                    yield future.result()
                    first = False
                except BrokenProcessPool:
                    broken = True
                    if alone:
                        yield _died(batch)
                    else:
                        suspects.extend((point,) for point in batch)
            if broken:
                suspects.extend((point,) for batch in running.values() for point in batch)
                running.clear()
                executor.shutdown(wait=False, cancel_futures=True)
                executor = pool(jobs)
    finally:
        executor.shutdown(wait=False, cancel_futures=True)


_benches: dict[str, Bench] = {}  # of a worker of a cluster, by what it is for
_one_at_a_time = threading.Lock()  # whose threads would share its caches


def _remote(points: Sequence[Point], bench: Bench, key: str, code: str) -> Records:
    with _one_at_a_time:
        if key not in _benches:
            _benches.clear()
            _benches[key] = bench
        return evaluate(_benches[key], points, code)


def cluster(todo: Sequence[tuple[Point, ...]], bench: Bench, address: str,
            code: str) -> Iterator[Records]:
    """Records of ``todo`` as they come, from the workers of the Dask scheduler at ``address``.

    Traces go with the work: workers need this version of stmoe, and no files. What a worker had
    when it died goes to the others; a batch that kills several has that as its error.
    """
    try:
        from distributed import Client, KilledWorker, as_completed
    except ImportError:
        raise ConfigError("--scheduler", address, "left out, or: pip install 'stmoe[dask]'"
                          ) from None
    try:
        client = Client(address, timeout=5, set_as_default=False)
    except (OSError, ValueError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ConfigError("--scheduler", address,
                          f"the address of a Dask scheduler, as tcp://127.0.0.1:8786 ({reason})"
                          ) from None
    with client:
        if not client.scheduler_info()["workers"]:
            raise ConfigError("--scheduler", address, "one that has workers")
        key = f"{os.getpid()}-{id(bench)}"
        shared = client.scatter(bench, broadcast=True, hash=False)
        asked = {client.submit(_remote, batch, shared, key, code, pure=False): batch
                 for batch in todo}
        for future in as_completed(list(asked), loop=client.loop):
            batch = asked.pop(future)
            try:
                yield future.result()
            except KilledWorker:
                yield _died(batch)
            except ConfigError:
                raise
            except Exception as error:
                if future.status == "error":
                    raise
                raise SchedulerLost(f"the scheduler at {address} went away, {len(asked) + 1} "
                                    f"batches before the end ({type(error).__name__}); what was "
                                    "evaluated is kept") from None
            finally:
                future.release()
