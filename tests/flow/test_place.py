"""Place and route when the static placer comes to no end; tools end with the command."""

import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from stmoe_sim.synth.place import ROUTED, SPREAD, place_and_route
from stmoe_sim.synth.tools import ToolError

FAKE = """
import itertools, sys
arguments = sys.argv[1:]
if "--compress" in arguments:
    open(arguments[-1], "w").close()
elif "static" in arguments:
    mhz = arguments[arguments.index("--freq") + 1]
    for step in itertools.count(1) if mhz == "7" else range(1, {enough}):
        print(f"Info: iter={{step}} steplen=1.01 a=1.2", flush=True)
    if mhz in ("10", "11", "12"):
        print("Info: Routing..")
        print("Info: Routing 3000 arcs.")
        for step in itertools.count(1) if mhz == "12" else [1, 2]:
            print(f"Info: {{1000 * step:10}} |     2879      16120 |  232   768 |     1459|"
                  f"       0.64       7.79|", flush=True)
    if mhz == "11":
        open("harness.config", "w").close()
        open("timing.json", "w").write("{{}}")
    sys.exit(mhz in ("9", "10", "11"))
else:
    print("Info: heap it was")
"""


@pytest.fixture
def placed(tmp_path, monkeypatch):
    """What the log says, of a tool that never ends at 7 MHz, fails at 9, while routing at 10 and
    when all is written at 11; at 12 it routes without end."""
    tool = tmp_path / "fake.py"
    tool.write_text(FAKE.format(enough=SPREAD))
    command = shlex.join([sys.executable, str(tool)])
    monkeypatch.setenv("NEXTPNR_ECP5", command)
    monkeypatch.setenv("ECPPACK", command)

    def run(mhz, placer="static"):
        place_and_route(tmp_path, Path("netlist.json"), ["--85k"], mhz, 1, placer, steps.append,
                        Path("pins.lpf"))
        assert (tmp_path / "harness.bit").exists()
        return (tmp_path / "nextpnr.log").read_text()

    steps: list[str] = []
    run.steps, run.home = steps, tmp_path
    return run


def test_a_design_that_is_not_spread_is_placed_by_the_default_placer(placed):
    assert "heap it was" in placed(7)
    kept = (placed.home / "nextpnr-static.log").read_text().splitlines()
    assert len(kept) == SPREAD
    assert any("default one" in step for step in placed.steps)


def test_so_is_one_that_the_static_placer_dies_of(placed):
    assert "heap it was" in placed(9)


def test_what_is_placed_and_not_routed_is_not_placed_again(placed):
    with pytest.raises(ToolError, match="nextpnr-ecp5 failed"):
        placed(10)


def test_a_design_that_is_spread_in_time_stays_with_the_static_placer(placed):
    assert placed(8).count("iter=") == SPREAD - 1
    assert not (placed.home / "nextpnr-static.log").exists()


def test_what_is_routed_again_and_again_is_given_up(placed):
    with pytest.raises(ToolError, match="1459 of 3000 arcs are left after 61000"):
        placed(12)
    assert (placed.home / "nextpnr.log").read_text().count("|\n") == ROUTED * 3 + 1
    assert "routing: 1459 arcs left" in placed.steps


def test_a_fault_on_the_way_out_is_none(placed):
    assert placed(11).count("iter=") == SPREAD - 1


def test_a_placer_that_fails_is_named(placed, monkeypatch):
    monkeypatch.setenv("NEXTPNR_ECP5", "false")
    with pytest.raises(ToolError, match="nextpnr-ecp5 failed"):
        placed(8)


def test_a_tool_ends_with_the_command(tmp_path, monkeypatch):
    tool = tmp_path / "endless.py"
    tool.write_text("import os, pathlib, sys, time\n"
                    f"pathlib.Path({str(tmp_path / 'pid')!r}).write_text(str(os.getpid()))\n"
                    "time.sleep(600)\n")
    monkeypatch.setenv("YOSYS", shlex.join([sys.executable, str(tool)]))
    command = subprocess.Popen([
        sys.executable, "-m", "stmoe_sim.cli", "synth", "--preset", "board-small", "--no-place",
        "--build", str(tmp_path / "build")], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not (tmp_path / "pid").exists() or not (tmp_path / "pid").read_text():
        assert command.poll() is None and time.monotonic() < deadline
        time.sleep(0.1)
    pid = int((tmp_path / "pid").read_text())
    command.terminate()
    assert command.wait(60) == 128 + signal.SIGTERM
    while Path(f"/proc/{pid}").exists():
        assert time.monotonic() < deadline
        time.sleep(0.1)
