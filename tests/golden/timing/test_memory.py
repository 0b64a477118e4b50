"""Bursts of the modelled memory, followed column by column or in closed form."""

import numpy as np
import pytest

from stmoe_golden.timing import memory as modelled
from stmoe_golden.timing.state import CONFIG, SCALARS, Arrays, record, records

LPDDR4 = {"column": 10_000, "cas": 17_500, "rcd": 18_000, "rp": 18_000, "ras": 42_000,
          "rrd": 10_000, "faw": 40_000, "refresh_interval": 390_000, "refresh": 280_000}


def machine(**changes):
    """Configuration, state and arrays of a memory alone."""
    g, s = record(CONFIG), record(SCALARS)
    for name, value in ({"clk": 1250, "latency": 20_000, "banks": 8, "row_bytes": 2048,
                         "axi_bytes": 8, "column_bytes": 64,
                         "mem_outstanding": 16} | LPDDR4 | changes).items():
        g[name] = value
    s["next_refresh"] = 1_000_000
    return g[0], s[0], Arrays(bank=records("bank", 16), reads=np.zeros(256, np.int64))


def bursts(g, s, a, seed, count=60):
    """First and last cycle of random bursts within 4 KiB."""
    rng, cycle, found = np.random.default_rng(seed), 0, []
    for _ in range(count):
        cycle += int(rng.integers(1, 400))
        beats = int(rng.integers(1, 257))
        at = int(rng.integers(0, 1 << 20)) * 4096 + int(
            rng.integers(0, (4096 - beats * 8) // 8 + 1)) * 8
        found.append(modelled.access(cycle, at, beats, g, s, a))
    return found


@pytest.mark.parametrize("changes", [
    {}, {"column": 300, "clk": 1000}, {"refresh_interval": 0}, {"ideal": 1}, {"row_bytes": 256}])
def test_columns_lumped_together_are_those_one_by_one(monkeypatch, changes):
    lumped = bursts(*machine(**changes), seed=1)
    monkeypatch.setattr(modelled, "access", modelled.access.py_func)
    monkeypatch.setitem(modelled.access.__globals__, "more_columns", lambda *_: 0)
    single = bursts(*machine(**changes), seed=1)
    if changes.get("ideal"):  # has no rows to lump columns of
        assert lumped[0] == single[0]
    else:
        assert lumped == single


def test_a_beat_a_cycle_and_none_before_its_latency():
    g, s, a = machine(ideal=1)
    first, last = modelled.access(100, 0, 64, g, s, a)
    assert first == 101 + 20_000 // 1250 and last == first + 63


def test_reads_beyond_the_most_outstanding_wait():
    g, s, a = machine(mem_outstanding=2)
    for at in range(2):
        assert modelled.taken(10, g, s, a)
        a.reads[at] = modelled.access(10, 512 * at, 64, g, s, a)[1]
        s.read_tail += 1
    assert not modelled.taken(11, g, s, a)
    assert modelled.taken(int(a.reads[0]) + 1, g, s, a)
