"""``stmoe explore --scheduler``: a real Dask scheduler and two real workers, on loopback."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from stmoe_golden.trace import save
from stmoe_sim.energy import technology
from stmoe_sim.explore import run as runs
from stmoe_sim.explore.sweep import load_sweep
from stmoe_sim.explore.workers import SchedulerLost, batches, cluster
from support.benches import Noting
from support.cli import refused
from support.synthetic import synthetic

TESTS = Path(__file__).parents[1]
SWEEP = """
name = "spread"
[set]
trace.file = "t.npz"
trace.tokens = 12
trace.warmup = 2
[grid]
config.slots = [4, 6, 8, 10, 12, 14, 16, 18, 20, 1]
policy.name = ["lru", "ewma", "linear", "ours"]
"""


class Cluster:
    """Processes of a scheduler and of workers, and its address."""

    def __init__(self, folder):
        self.file, self.folder = folder / "scheduler.json", folder
        self.environment = os.environ | {
            "PYTHONPATH": str(TESTS), "DASK_DISTRIBUTED__SCHEDULER__WORKER_TTL": "10s"}
        self.processes = []
        self.scheduler = self.start("scheduler", "--port", "0")
        self.wait(self.file.exists)
        self.address = json.loads(self.file.read_text())["address"]
        self.workers = [self.start("worker", "--nthreads", "1", "--no-nanny") for _ in range(2)]

    def start(self, role, *options):
        process = subprocess.Popen(
            [sys.executable, "-m", "dask", role, "--no-dashboard", "--host", "127.0.0.1",
             "--scheduler-file", self.file, *options], env=self.environment, cwd=self.folder,
            stdout=subprocess.DEVNULL, stderr=(self.folder / f"{role}.log").open("a"))
        self.processes.append(process)
        return process

    def wait(self, true, seconds=90):
        end = time.monotonic() + seconds
        while not true():
            assert time.monotonic() < end, "the cluster does not come up"
            assert all(process.poll() is None for process in self.processes)
            time.sleep(0.1)

    def ready(self):
        from distributed import Client
        with Client(self.address, set_as_default=False) as client:
            client.wait_for_workers(2, timeout=90)

    def end(self):
        for process in self.processes:
            process.kill()
        for process in self.processes:
            process.wait()


@pytest.fixture
def dask(tmp_path):
    found = Cluster(tmp_path)
    try:
        found.ready()
        yield found
    finally:
        found.end()


@pytest.fixture
def sweep(tmp_path):
    save(synthetic(layers=3, experts=16, top_k=2, tokens=60, sequences=3), tmp_path / "t.npz")
    (tmp_path / "sweep.toml").write_text(SWEEP)
    return tmp_path / "sweep.toml"


def test_a_worker_killed_in_mid_sweep_costs_nothing(stmoe, dask, sweep, tmp_path, monkeypatch):
    notes, out = tmp_path / "notes", tmp_path / "out"
    notes.mkdir()

    def noted():
        return [path.name.partition("-") for path in notes.iterdir()]

    def killing(*arguments):  # once both have done something
        for part in cluster(*arguments):
            yield part
            if len({pid for pid, *_ in noted()}) == 2 and dask.workers[0].poll() is None:
                dask.workers[0].send_signal(signal.SIGKILL)
    monkeypatch.setattr(runs, "cluster", killing)
    plain = runs.bench
    monkeypatch.setattr(runs, "bench", lambda of, prices: Noting(
        plain(of, prices).traces, prices, folder=str(notes)))
    code, _, err = stmoe("explore", sweep, "-o", out, "--scheduler", dask.address)
    assert code == 0, err
    assert dask.workers[0].wait(10) == -signal.SIGKILL and dask.workers[1].poll() is None
    points = load_sweep(sweep, "c").points
    lines = pq.read_table(out / "results.parquet").to_pylist()
    assert len(lines) == len(points) == len({line["id"] for line in lines})
    assert {line["config.slots"] for line in lines if line["error"]} == {1}
    first, second = (str(process.pid) for process in dask.workers)
    by = {pid: {name for of, _, name in noted() if of == pid} for pid in (first, second)}
    assert by[first] and by[second] and len(by[first] | by[second]) == 36
    assert dask.scheduler.poll() is None  # it is not ours: it stays


def test_other_versions_and_empty_clusters_are_refused(stmoe, dask, sweep, tmp_path, monkeypatch):
    monkeypatch.setattr(runs, "code_digest", lambda: "of another version")
    refused(stmoe("explore", sweep, "-o", tmp_path / "out", "--scheduler", dask.address),
            "--scheduler", "this version")
    for worker in dask.workers:
        worker.terminate()
        worker.wait(30)
    refused(stmoe("explore", sweep, "-o", tmp_path / "out", "--scheduler", dask.address),
            "--scheduler", "workers")


def test_a_scheduler_that_goes_away_is_told(dask, sweep):
    found = load_sweep(sweep, "c")
    with pytest.raises(SchedulerLost, match="went away"):
        here = runs.bench(found, technology("7nm"))
        for part in cluster(batches(found.points), here, dask.address, ""):
            assert part
            if dask.scheduler.poll() is None:
                dask.scheduler.kill()
