"""Rivals side by side in the timing model: what ``stmoe compare`` prints and plots."""

import time
from collections import defaultdict
from collections.abc import Callable
from typing import Any

from stmoe_golden.energy import Technology
from stmoe_golden.metrics import usage
from stmoe_golden.timing.model import Timing, simulate
from stmoe_golden.timing.stimulus import Stimulus

from .rivals import RIVALS, Case, Rival

__all__ = ["BASE", "ORACLES", "compare", "measure"]

BASE, ORACLES = "on-demand", ("oracle", "clairvoyant")


def measure(rival: Rival, case: Case, technology: Technology,
            log: int = 0) -> tuple[dict[str, Any], Timing, Stimulus]:
    """The record of ``rival``, what the model said and what it was fed with; ``log``: most events
    that are kept."""
    settings, stimulus = rival.at(case)
    started = time.process_time()
    scene, window = case.scene, case.window
    found = simulate(scene.geometry, settings, scene.memory, stimulus, warmup=window.warmup,
                     log=log)
    seconds = time.process_time() - started
    counters: dict[str, int] = defaultdict(int, found.counters)
    cost = usage(scene.geometry, counters, window.tokens, scene.priced(technology),
                 scene.regime.energy or "ideal")
    per_second = scene.config.clock_mhz * 1e6
    record = {
        "name": rival.name, "source": rival.source, "summary": rival.summary,
        "output": rival.output, **cost,
        "milliseconds": 1e3 * cost["cycles_per_token"] / per_second,
        "bytes_per_token": counters["beats_link"] * scene.geometry.axi_bytes / window.tokens,
        "causes": {cause: cycles / window.tokens for cause, cycles in found.causes.items()},
        "counters": found.counters, "seconds": seconds}
    return record, found, stimulus


def compare(case: Case, rivals: list[Rival], technology: Technology,
            done: Callable[[str], None] = lambda name: None) -> list[dict[str, Any]]:
    """A record for each of ``rivals`` that the trace allows, with its gain over on-demand loading
    and its share of what the oracles save. Energy is None where the link's is not known."""
    records: dict[str, dict[str, Any]] = {}
    wanted = {rival.name: rival for rival in rivals if rival.possible(case)}
    for name in (BASE, *ORACLES, *wanted):
        if name not in records:
            records[name] = measure(RIVALS[name], case, technology)[0]
            done(name)
    base = records[BASE]["cycles_per_token"]
    for record in records.values():
        saved = base - record["cycles_per_token"]
        record["speedup"] = base / record["cycles_per_token"]
        for oracle in ORACLES:
            most = base - records[oracle]["cycles_per_token"]
            record[f"share_of_{oracle}"] = saved / most if most > 0 else None
        if case.scene.regime.energy is None:
            record["energy_pj_per_token"] = None
        energy = record["energy_pj_per_token"]
        record["edp"] = None if energy is None else energy * 1e-12 * record["milliseconds"] * 1e-3
    return [records[name] for name in wanted]
