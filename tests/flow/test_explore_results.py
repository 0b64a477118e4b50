"""Results of ``stmoe explore`` that last: stopped sweeps, files, processes that die."""

import multiprocessing
import os
import signal

import pyarrow.parquet as pq
import pytest

from stmoe.config import ConfigError
from stmoe_sim.energy import technology
from stmoe_sim.explore import store, workers
from stmoe_sim.explore.columns import schema
from stmoe_sim.explore.run import bench, run
from stmoe_sim.explore.sweep import load_sweep
from support.benches import DEADLY, Deadly
from support.sweeps import SMALL


def test_a_stopped_sweep_goes_on(home, tmp_path, monkeypatch):
    found = load_sweep(home / "sweep.toml", "c")

    def stop(count, of, failed):
        if count > 4:
            raise KeyboardInterrupt
    with pytest.raises(KeyboardInterrupt):
        run(found, tmp_path, technology("7nm"), jobs=1, done=stop)
    kept = pq.read_table(tmp_path / store.RESULTS).to_pylist()
    assert 4 < len(kept) < len(found.points)
    assert not list((tmp_path / "parts").iterdir())
    asked = []

    def spied(todo, here, jobs):
        asked.extend(point.id for batch in todo for point in batch)
        return (workers.evaluate(here, batch) for batch in todo)
    monkeypatch.setattr("stmoe_sim.explore.run.local", spied)
    lines = run(found, tmp_path, technology("7nm"))
    assert sorted([*asked, *(line["id"] for line in kept)]) == sorted(p.id for p in found.points)
    assert [line["id"] for line in lines] == [point.id for point in found.points]
    assert sum(line["error"] is not None for line in lines) == 5


def test_an_interrupted_write_leaves_what_was_there(sweep_of, tmp_path, monkeypatch):
    points = sweep_of(SMALL + "[grid]\nconfig.slots = [4, 8]\n").points
    lines = [{"id": point.id, "config.slots": 4, "error": None} for point in points]
    with store.Store(tmp_path, schema(points)) as kept:
        kept.add(lines[:1])
    before = (tmp_path / store.RESULTS).read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr("os.replace", lambda *paths: (_ for _ in ()).throw(KeyboardInterrupt()))
        with pytest.raises(KeyboardInterrupt), store.Store(tmp_path, schema(points)) as kept:
            kept.add(lines[1:])
    assert (tmp_path / store.RESULTS).read_bytes() == before
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["lock", "parts", store.RESULTS]


def test_parts_of_a_killed_sweep_are_found_and_gathered(sweep_of, tmp_path):
    points = sweep_of(SMALL + "[grid]\nconfig.slots = [4, 8]\n").points
    lines = [{"id": point.id, "config.slots": 4, "error": None} for point in points]
    killed = store.Store(tmp_path, schema(points)).__enter__()
    for line in lines:
        killed.add([line])
        killed.flush()
    assert len(list((tmp_path / "parts").iterdir())) == 2
    with pytest.raises(ConfigError, match="no other run"):
        store.Store(tmp_path, schema(points)).__enter__()
    killed._lock.close()  # as when its process ends
    wider = sweep_of(SMALL + '[grid]\nregime.part = ["ideal"]\n')
    with store.Store(tmp_path, schema(wider.points)) as kept:
        assert set(kept.lines) == {line["id"] for line in lines}
        kept.add([{"id": "new", "regime.part": "ideal", "error": "why"}])
    table = pq.read_table(tmp_path / store.RESULTS)
    assert table.num_rows == 3 and table["config.slots"].to_pylist() == [4, 4, None]
    (tmp_path / store.RESULTS).write_bytes(b"PAR1")
    with pytest.raises(ConfigError, match="Parquet"):
        store.Store(tmp_path, schema(points)).__enter__()


def test_a_process_that_dies_costs_its_point_alone(sweep_of, home):
    found = sweep_of(SMALL + f"[grid]\nconfig.slots = [4, {DEADLY}, 8]\n"
                             'policy.name = ["lru", "ours"]\n')
    here = Deadly(bench(found, technology("7nm")).traces, technology("7nm"))
    lines = [line for part in workers.local(workers.batches(found.points), here, 2)
             for line in part]
    assert sorted(line["id"] for line in lines) == sorted(point.id for point in found.points)
    deadly = {point.id for point in found.points if point.values["config.slots"] == DEADLY}
    assert {line["id"] for line in lines if line["error"]} == deadly
    assert {line["error"] for line in lines} == {None, workers.DIED}


def test_a_process_that_is_killed_costs_nothing(sweep_of):
    found = sweep_of(SMALL + "[grid]\nconfig.slots = [4, 6, 8, 10, 12]\n")
    lines, killed = [], 0
    for part in workers.local(workers.batches(found.points), bench(found, technology("7nm")), 2):
        lines += part
        if not killed:
            killed = multiprocessing.active_children()[0].pid
            os.kill(killed, signal.SIGKILL)
    assert killed and sorted(line["id"] for line in lines) == sorted(p.id for p in found.points)
    assert all(line["error"] is None for line in lines)


def test_what_died_is_tried_again(sweep_of, tmp_path):
    found = sweep_of(SMALL + "[grid]\nconfig.slots = [4, 1]\n")
    with store.Store(tmp_path, schema(found.points)) as kept:
        kept.add([{"id": point.id, "error": workers.DIED} for point in found.points])
    lines = run(found, tmp_path, technology("7nm"), jobs=1)
    assert lines[0]["error"] is None and "slots" in lines[1]["error"]


def test_workers_of_another_version_are_refused(sweep_of):
    found = sweep_of(SMALL)
    with pytest.raises(ConfigError, match="this version"):
        workers.evaluate(bench(found, technology("7nm")), found.points, "another")
