"""``stmoe bitstream`` from pins to a file, of a board with next to nothing inside."""

import json

import pytest
from amaranth.hdl import Module, Signal
from amaranth.lib import wiring

import stmoe.boards.tops
from stmoe.boards.core import board_pins
from stmoe.boards.tops import Board, board
from stmoe_sim.synth.tools import ToolError


class Inside(wiring.Component):
    """Echoes its line; its LEDs depend on a chain of ``steps`` products in one cycle."""

    def __init__(self, steps):
        self.steps = steps
        super().__init__(board_pins())

    def elaborate(self, platform):
        m = Module()
        count, mixed = Signal(17), Signal(17)
        m.d.sync += [self.tx.eq(self.rx), count.eq(count + self.rx)]
        value = count
        for _ in range(self.steps):
            value = ((value * value) >> 3)[:17] ^ count
        m.d.sync += mixed.eq(value)
        m.d.comb += [self.heartbeat.eq(mixed[16]), self.busy.eq(mixed.xor()),
                     self.error.eq(mixed[3]), self.active.eq(0)]
        return m


class Small(Board):
    """A board with that inside."""

    def inside(self, geometry, clock_hz=0):
        return Inside(1 if self.name == "met" else 12)


@pytest.fixture(autouse=True)
def small(monkeypatch):
    real = board("icepi-zero")
    fields = {name: getattr(real, name) for name in Board.__dataclass_fields__} | {"sdram": None}
    known = {name: Small(**fields | {"name": name}) for name in ("met", "missed")}
    monkeypatch.setattr(stmoe.boards.tops, "boards", lambda: known)


@pytest.fixture(scope="module")
def build(tmp_path_factory):
    return tmp_path_factory.mktemp("build")


@pytest.mark.parametrize(("name", "code"), [("met", 0), ("missed", 1)])
def test_a_bitstream_is_made_and_its_timing_judged(stmoe, build, tmp_path, monkeypatch, name, code):
    report = tmp_path / "report.json"
    arguments = ("bitstream", "--board", name, "--build", build, "--json", report)
    found, out, err = stmoe(*arguments)
    assert found == code, out + err
    made = json.loads(report.read_text())
    assert made["timing_met"] == (code == 0) == (made["place"]["fmax_mhz"] >= 40)
    with open(made["place"]["bitstream"], "rb") as bitstream:
        assert b"LFE5U-25F" in bitstream.read(200)
    assert "Routing" in open(made["log"]).read()
    assert ("TIMING NOT MET" in err) == (code == 1)
    assert made["place"]["used"]["TRELLIS_IO"]["used"] == 6
    assert made["place"]["used"]["EHXPLLL"]["used"] == 1
    monkeypatch.setattr("stmoe_sim.synth.tools.tool_command", lambda tool: ["false"])
    assert stmoe(*arguments)[0] == code  # nothing is made again
    assert json.loads(report.read_text()) == made


def test_boards_that_are_not_installed_are_named(stmoe, build, monkeypatch):
    def missing():
        raise ModuleNotFoundError(name="amaranth_boards")
    known = stmoe_boards()
    object.__setattr__(known["met"], "platform", missing)
    code, _, err = stmoe("bitstream", "--board", "met", "--build", build)
    assert code == 1 and "pip install 'stmoe[boards]'" in err
    assert issubclass(ToolError, RuntimeError)


def stmoe_boards():
    return stmoe.boards.tops.boards()
