"""The host's software, as it is, against a whole board simulated to its UART pins, through a
pseudo-terminal: it comes up, and each fault is found and named."""

import _thread
import dataclasses
import json
import threading
import time

import numpy as np
import pytest

from stmoe.config import Geometry
from stmoe_golden.model.engine import GoldenEngine
from stmoe_golden.model.storage import save_model
from stmoe_sim.host.bringup import bring_up
from stmoe_sim.host.device import Device
from stmoe_sim.host.engine import BoardEngine
from stmoe_sim.host.link import Link
from stmoe_sim.host.transport import SerialTransport
from stmoe_sim.host.workload import random_workload
from stmoe_sim.job import prediction_unit
from stmoe_sim.policies import POLICIES
from stmoe_sim.rehearsal.line import Faults, SimulatedBoard
from support.rehearsal import BOARD, CONFIG, build
from support.toy_model import toy_model


@pytest.fixture(scope="module")
def binary(cache):
    return build(cache)


def connect(board, config=CONFIG, **options):
    transport = SerialTransport(str(board.port), BOARD.baud)
    # A busy machine may take seconds for a window of long writes.
    return Device(Link(transport, **{"timeout": 10.0, "patience": 60.0} | options), config)


def rehearse(binary, tmp_path, *, config=CONFIG, policy="table", tokens=3, workload=None,
             test_bytes=1024, faults=None, **options):
    """The outcome of a bring-up, and the board that it was on."""
    with SimulatedBoard(binary, BOARD, tmp_path / "board", faults) as board:
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
        binary, tmp_path, tokens=2, timeout=1.0,
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


@pytest.mark.parametrize(("word", "bit"), [(0, 5), (390, 8)])
def test_a_stuck_bit_of_memory_is_named(binary, tmp_path, word, bit):
    outcome, _ = rehearse(binary, tmp_path, faults=Faults(stuck=(word, 1 << bit, 1 << bit)))
    step = outcome.steps[-1]
    assert step.name == "memory" and not step.passed
    assert f"byte 0x{2 * word + bit // 8:x} holds" in step.found
    assert f"bit {bit % 8} read as 1" in step.found


def test_a_stuck_bit_beyond_what_was_tested_is_found_when_experts_are_loaded(binary, tmp_path):
    outcome, _ = rehearse(binary, tmp_path, faults=Faults(stuck=(1200, 255, 0)))
    step = outcome.steps[-1]
    assert step.name == "load" and "byte 0x960 holds" in step.found
    assert "--test-bytes" in step.check


BROKEN = {"tRCD": {"rcd": 90}, "tRP": {"rp": 90}, "tRAS": {"ras": 900}, "tRC": {"rc": 900},
          "tRFC": {"rfc": 130}, "tMRD": {"mrd": 90_000}, "tREFI": {"refresh": 900},
          "POWER-UP": {"power_up": 900_000}, "INITIALISATION": {"refreshes": 9},
          "MODE": {"clock_least": 50}, "tWR": {"wr": 900}}


@pytest.mark.parametrize("rule", BROKEN)
def test_a_slower_part_than_the_bitstream_is_made_for_is_named(binary, tmp_path, rule):
    with SimulatedBoard(binary, BOARD, tmp_path / "board", Faults(part=BROKEN[rule])) as board:
        def host():  # left to itself when the simulator has ended
            bring_up(lambda: connect(board), random_workload(CONFIG, 1, 1), POLICIES["table"],
                     unit=prediction_unit(Geometry(CONFIG), POLICIES["table"]), test_bytes=512)
        threading.Thread(target=host, daemon=True).start()
        assert board.process.wait(300) == 3
    assert board.said.startswith(f"sdram: {rule}: ")


def test_a_silent_board_is_named(binary, tmp_path):
    outcome, board = rehearse(binary, tmp_path, faults=Faults(silent=True), timeout=1.0,
                              patience=2.0)
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
    with SimulatedBoard(binary, BOARD, tmp_path / "board") as board:
        code, out, err = stmoe(
            "bringup", "--port", board.port, "--config", given, "--tokens", 2, "--test-bytes", 512,
            "--retention", 0, "--timeout", 10, "--patience", 60, "--json", tmp_path / "up.json",
            "--dump", tmp_path / "dump.json")
    assert code == 0, out + err
    report = json.loads((tmp_path / "up.json").read_text())
    assert report["passed"] and report["counters"]["tokens"] == 2
    assert json.loads((tmp_path / "dump.json").read_text()) == report["counters"]
    assert "all 4 results equal golden" in out and "tokens per second" in out


def test_the_command_line_fails_where_a_step_does(binary, tmp_path, stmoe):
    with SimulatedBoard(binary, BOARD, tmp_path / "board") as board:
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
        try:
            link = Link(SerialTransport(str(port), BOARD.baud), timeout=1.0, patience=40.0)
            found.append(Device(link, CONFIG).read("id"))
            link.close()
        finally:
            _thread.interrupt_main()  # as Ctrl-C
    other = threading.Thread(target=host)
    other.start()
    code, out, err = stmoe("rehearse", "--config", given, "--build", cache, "--mhz", 25,
                           "--seconds", 60)
    other.join()
    assert code == 0, out + err
    assert found == [0x53544D45] and "bytes from the host" in out


TALK = ["--prompt", "one two", "--tokens", 3, "--past-end"]


@pytest.fixture(scope="module")
def model():
    return toy_model(layers=2, experts=4, top_k=2)


@pytest.mark.parametrize("routing", ["hardware", "host"])
def test_a_model_talks_through_a_board_as_in_golden(binary, model, tmp_path, stmoe, routing):
    given, file, report = tmp_path / "b.toml", tmp_path / "toy.safetensors", tmp_path / "chat.json"
    given.write_text(CONFIG.to_toml())
    save_model(model, file)
    common = ["chat", "--config", given, "--model", file, "--routing", routing, "--policy", "table",
              *TALK, "--json", report]
    with SimulatedBoard(binary, BOARD, tmp_path / "board") as board:
        code, out, err = stmoe(*common, "--engine", "board", "--port", board.port, "--timeout", 10)
    assert code == 0, out + err
    found = json.loads(report.read_text())
    assert found["mismatches"] == 0 and found["compared"]["results"] >= 2 * 4
    assert found["cycles_per_token"] > 0 and found["energy_pj_per_token"] is None
    assert stmoe(*common, "--engine", "golden")[0] == 0
    assert json.loads(report.read_text())["text"] == found["text"]


def test_a_wrong_weight_in_golden_is_seen_on_a_board(binary, model, tmp_path):
    with SimulatedBoard(binary, BOARD, tmp_path / "board") as board:
        engine = BoardEngine(connect(board), model, policy=POLICIES["lru"], unit=None)
        engine.golden = GoldenEngine(dataclasses.replace(model, down=model.down + 1))
        engine.begin_token(1, True)
        engine.layer(0, np.ones(32, np.float32))
        found = engine.finish().mismatches
    assert found and "token 0, layer 0" in found[0]
