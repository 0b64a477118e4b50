"""The host's software, as it is, against a whole board simulated to its UART pins, through a
pseudo-terminal: it comes up, and each fault is found and named."""

import json
import threading
import time

import pytest

from stmoe.config import Geometry
from stmoe_sim.host.bringup import bring_up
from stmoe_sim.host.device import Device
from stmoe_sim.host.link import Link
from stmoe_sim.host.transport import SerialTransport
from stmoe_sim.host.workload import random_workload
from stmoe_sim.job import prediction_unit
from stmoe_sim.policies import POLICIES
from stmoe_sim.rehearsal.line import Faults, SimulatedBoard
from support.rehearsal import CONFIG, SETTINGS, build


@pytest.fixture(scope="module")
def binary(cache):
    return build(cache)


def connect(board, config=CONFIG, **options):
    transport = SerialTransport(str(board.port), SETTINGS.baud)
    return Device(Link(transport, **{"timeout": 1.0, "patience": 60.0} | options), config)


def rehearse(binary, tmp_path, *, config=CONFIG, policy="table", tokens=3, workload=None,
             test_bytes=1024, faults=None, **options):
    """The outcome of a bring-up, and the board that it was on."""
    with SimulatedBoard(binary, SETTINGS, tmp_path / "board", faults) as board:
        outcome = bring_up(
            lambda: connect(board, config, **options),
            workload or random_workload(config, tokens, 1), POLICIES[policy],
            unit=prediction_unit(Geometry(config), POLICIES[policy]), test_bytes=test_bytes,
            retention=0.01)
    return outcome, board


def test_a_board_comes_up(binary, tmp_path):
    outcome, _ = rehearse(binary, tmp_path)
    assert outcome.passed, outcome.steps[-1]
    assert [step.name for step in outcome.steps] == [
        "link", "identify", "registers", "memory", "load", "expert", "replay"]
    assert outcome.measured["results_equal"] == 6
    assert outcome.measured["line_efficiency"] >= 0.9
    assert outcome.counters["layers_done"] == 6 and outcome.counters["tokens"] == 3
    assert outcome.measured["link"]["repeated"] == 0


def test_a_board_comes_up_over_a_bad_line_whose_cable_is_pulled(binary, tmp_path):
    outcome, board = rehearse(
        binary, tmp_path, tokens=2,
        faults=Faults(noise=0.0001, drop=0.0001, pull_after=9000))
    assert outcome.passed, outcome.steps[-1]
    assert outcome.counters["tokens"] == 2  # no TOKEN twice
    link = outcome.measured["link"]
    assert board.harmed > 2 and link["repeated"] > 0
    assert board.pulled == link["reopened"] == 1


def test_another_bitstream_is_named(binary, tmp_path):
    outcome, _ = rehearse(binary, tmp_path, config=CONFIG.replace(slots=6))
    (step,) = outcome.steps
    assert not step.passed and step.name == "link"
    assert f"{CONFIG.hash:016x}" in step.found and "load the bitstream" in step.check


@pytest.mark.parametrize(("word", "bit"), [(0, 5), (97, 40)])
def test_a_stuck_bit_of_memory_is_named(binary, tmp_path, word, bit):
    outcome, _ = rehearse(binary, tmp_path, faults=Faults(stuck=(word, 1 << bit, 1 << bit)))
    step = outcome.steps[-1]
    assert step.name == "memory" and not step.passed
    assert f"byte 0x{8 * word + bit // 8:x} holds" in step.found
    assert f"bit {bit % 8} read as 1" in step.found


def test_a_stuck_bit_beyond_what_was_tested_is_found_when_experts_are_loaded(binary, tmp_path):
    outcome, _ = rehearse(binary, tmp_path, faults=Faults(stuck=(300, 255, 0)))
    step = outcome.steps[-1]
    assert step.name == "load" and "byte 0x960 holds" in step.found
    assert "--test-bytes" in step.check


def test_a_silent_board_is_named(binary, tmp_path):
    outcome, board = rehearse(binary, tmp_path, faults=Faults(silent=True), patience=2.0)
    (step,) = outcome.steps
    assert board.received > 0 and not step.passed
    assert step.found.endswith("the board is silent") and "heartbeat" in step.check


def test_a_wrong_result_is_named(binary, tmp_path):
    """The comparison can fail: golden is given another expert than lies in memory."""
    workload = random_workload(CONFIG, 1, 1)
    load, golden = workload.blobs(), random_workload(CONFIG, 1, 2)
    object.__setattr__(golden, "blobs", lambda: load)
    outcome, _ = rehearse(binary, tmp_path, workload=golden)
    step = outcome.steps[-1]
    assert step.name == "expert" and "golden" in step.found and "timing" in step.check


def test_the_command_line_brings_a_board_up(binary, tmp_path, stmoe):
    given = tmp_path / "board.toml"
    given.write_text(CONFIG.to_toml())
    with SimulatedBoard(binary, SETTINGS, tmp_path / "board") as board:
        code, out, err = stmoe(
            "bringup", "--port", board.port, "--config", given, "--tokens", 2, "--test-bytes", 512,
            "--retention", 0, "--timeout", 1, "--patience", 60, "--json", tmp_path / "up.json",
            "--dump", tmp_path / "dump.json")
    assert code == 0, out + err
    report = json.loads((tmp_path / "up.json").read_text())
    assert report["passed"] and report["counters"]["tokens"] == 2
    assert json.loads((tmp_path / "dump.json").read_text()) == report["counters"]
    assert "all 4 results equal golden" in out and "tokens per second" in out


def test_the_command_line_fails_where_a_step_does(binary, tmp_path, stmoe):
    with SimulatedBoard(binary, SETTINGS, tmp_path / "board") as board:
        code, out, _ = stmoe("bringup", "--port", board.port, "--preset", "edge", "--timeout", 1)
    assert code == 1 and "FAILED link" in out and "next: load the bitstream" in out


def test_rehearse_gives_a_port_that_a_host_finds(binary, cache, tmp_path, stmoe):
    given = tmp_path / "board.toml"
    given.write_text(CONFIG.to_toml())
    found = []

    def host():
        port = cache / "board.tty"
        end = time.monotonic() + 60
        while not port.exists() and time.monotonic() < end:
            time.sleep(0.05)
        link = Link(SerialTransport(str(port), SETTINGS.baud), timeout=1.0, patience=20.0)
        found.append(Device(link, CONFIG).read("id"))
        link.close()
    other = threading.Thread(target=host)
    other.start()
    code, out, err = stmoe("rehearse", "--config", given, "--build", cache, "--memory-bytes",
                           SETTINGS.memory_bytes, "--seconds", 8)
    other.join()
    assert code == 0, out + err
    assert found == [0x53544D45] and "bytes from the host" in out
