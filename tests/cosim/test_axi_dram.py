"""The simulated expert memory on its own: data, rules of AXI4, bandwidth, faults, back door."""

import json
import subprocess
from pathlib import Path

import numpy as np
import pytest

from stmoe_sim.memory_files import read_dump, write_words
from stmoe_sim.verilator import HDL, toolchain_env

WORDS, BYTES = 1024, 8
BENCH = Path(__file__).with_name("axi_dram_tb.sv")


@pytest.fixture(scope="module")
def binary(tmp_path_factory):
    """The test bench, compiled."""
    home = tmp_path_factory.mktemp("axi_dram")
    subprocess.run(
        ["verilator", "--binary", "--timing", "--top-module", "axi_dram_tb",
         "-Wno-fatal", "-Wno-lint", "-Wno-style", f"-I{HDL}", "-Mdir", str(home), "-o", "bench",
         "-O3", "-CFLAGS", "-std=c++20 -fcoroutines", str(BENCH), str(HDL / "axi_dram.sv")],
        env=toolchain_env(), check=True, capture_output=True)
    return home / "bench"


def play(binary, **settings):
    """What the bench reports of a run with these plusargs."""
    run = subprocess.run([str(binary), *(f"+{name}={value}" for name, value in settings.items())],
                         env=toolchain_env(), capture_output=True, text=True, timeout=120)
    lines = [line for line in run.stdout.splitlines() if line.startswith("{")]
    assert lines, run.stdout + run.stderr
    return json.loads(lines[-1])


@pytest.mark.parametrize("pause", [0, 150])
@pytest.mark.parametrize("stall", [0, 100])
@pytest.mark.parametrize("timing", [dict(ideal=1), dict(ideal=0, column_ps=4000)],
                         ids=["ideal", "dram"])
@pytest.mark.parametrize("reorder", [0, 1])
def test_what_is_written_is_read(binary, pause, stall, timing, reorder):
    found = play(binary, ops=3000, pause=pause, stall=stall, reorder=reorder, seed=pause + stall,
                 **timing)
    assert found["finished"] == 3000
    assert (found["violations"], found["mismatches"]) == (0, 0)
    assert found["write_beats"] > 8000 and found["beats"] > 8000


def test_reads_and_writes_share_the_bus(binary):
    """With 16-ns columns of 64 bytes, 12.8 cycles each, whichever way they go."""
    for timing in (dict(ideal=1), dict(ideal=0, column_ps=16000)):
        rate = {writes: play(binary, ops=3000, writes=writes, **timing)
                for writes in (0, 128)}
        columns = 12.8 / 8 if not timing["ideal"] else 1
        for found in rate.values():
            beats = found["beats"] + found["write_beats"]
            assert found["cycles"] >= columns * beats
        assert rate[128]["cycles"] < 1.3 * rate[0]["cycles"]


def test_faults_answer_as_often_as_asked_and_store_nothing(binary):
    found = play(binary, ops=2000, fault_count=7, fault_high=4095, write_fault_count=5,
                 write_fault_high=4095, stall=50)
    assert (found["bad_reads"], found["bad_writes"]) == (7, 5)
    assert (found["violations"], found["mismatches"]) == (0, 0)


@pytest.mark.parametrize(("bad", "bit"), [(1, 22), (2, 19), (3, 20), (4, 21), (5, 19)])
def test_a_broken_rule_is_noticed(binary, bad, bit):
    found = play(binary, ops=400, bad=bad, stall=100)
    assert found["violations"] & 1 << bit


def test_back_door(binary, tmp_path):
    rng = np.random.default_rng(1)
    image, rows = rng.bytes(100 * BYTES), rng.bytes(50 * BYTES)
    write_words(tmp_path / "image", image, BYTES)
    write_words(tmp_path / "rows", rows, BYTES)
    found = play(binary, ops=100, writes=0, image=tmp_path / "image", image_words=100,
                 rows=tmp_path / "rows", rows_at=900, rows_words=50, dump=tmp_path / "dump",
                 dump_at=90, dump_words=900)
    assert found["mismatches"] == 0
    memory = image + bytes(800 * BYTES) + rows + bytes(74 * BYTES)
    assert read_dump(tmp_path / "dump", BYTES) == memory[90 * BYTES:990 * BYTES]
