"""Energy from toggles of gates: a library and netlists small enough to reckon by hand."""

import importlib.util
import sys
from pathlib import Path

import pytest

from stmoe.emit.netlist import build_rtlil
from stmoe_sim.synth.activity import Netlist, energy_pj, simulate
from stmoe_sim.synth.liberty import LibertyError, Table, read_liberty

LIBRARY = """\
/* two cells */
library(small) {
  time_unit : "1ns"; voltage_unit : "1V"; capacitive_load_unit (1,pf);
  nom_voltage : 2.0;
  cell (NAND) {
    pin(A) { direction : input; capacitance : 0.01; }
    pin(B) { direction : input; capacitance : 0.02; }
    pin(Y) { direction : output; function : "(!(A B))";
      internal_power() { related_pin : "A";
        rise_power(t) { index_1 ("0.0, 0.1"); index_2 ("0.1, 0.2");
          values ("0.1, 0.3", \\
                  "0.2, 0.4"); }
        fall_power(t) { index_1 ("0.0, 0.1"); index_2 ("0.1, 0.2");
          values ("0.3, 0.5", "0.4, 0.6"); } } }
  }
  cell (DFF) {
    ff (Q0, Q1) { next_state : "D"; clocked_on : "C"; }
    pin(C) { direction : input; capacitance : 0.03;
      internal_power() { rise_power(s) { index_1 ("0.1, 0.2"); values ("0.05, 0.15"); }
                         fall_power(s) { index_1 ("0.1, 0.2"); values ("0.07, 0.17"); } } }
    pin(D) { direction : input; capacitance : 0.04; }
    pin(Q) { direction : output; function : "Q0"; }
  }
}
"""
TOGGLER = {  # Q is D of the cycle before, D is not (A and Q)
    "ports": {"a": {"direction": "input", "bits": [2]}, "q": {"direction": "output", "bits": [4]}},
    "cells": {
        "gate": {"type": "NAND", "connections": {"A": [2], "B": [4], "Y": [3]}},
        "state": {"type": "DFF", "connections": {"C": [9], "D": [3], "Q": [4]}}}}


@pytest.fixture
def library(tmp_path):
    path = tmp_path / "small.lib"
    path.write_text(LIBRARY)
    return read_liberty(path)


def test_a_library_is_read(library):
    nand, flip_flop = library.cells["NAND"], library.cells["DFF"]
    assert library.volts == 2 and nand.inputs == {"A": 0.01, "B": 0.02}
    assert (flip_flop.next_state, flip_flop.clock, flip_flop.states) == ("D", "C", ("Q0", "Q1"))
    assert nand.transition("Y", 0.05, 0.15) == pytest.approx((0.25 + 0.45) / 2)
    assert flip_flop.transition("C", 0, 0.1) == pytest.approx(0.06)


def test_units_of_a_library_are_followed(library, tmp_path):
    path = tmp_path / "femto.lib"
    path.write_text(LIBRARY.replace("(1,pf)", "(10,ff)").replace("1ns", "1ps"))
    nand, usual = read_liberty(path).cells["NAND"], library.cells["NAND"]
    assert nand.inputs["B"] == pytest.approx(0.01 * usual.inputs["B"])
    assert nand.transition("Y", 0.0005, 0.00015) == pytest.approx(
        0.01 * usual.transition("Y", 0.05, 0.15))


def test_tables_go_on_beyond_their_points():
    table = Table((0.0, 0.1), (1.0, 2.0), ((1.0, 2.0), (3.0, 4.0)))
    assert table.at(0.2, 1.0) == pytest.approx(5.0) and table.at(0.0, 0.0) == pytest.approx(0.0)


def test_toggles_and_energy_are_those_reckoned_by_hand(library):
    netlist = Netlist(TOGGLER, library)
    # One stream has a = 1, so that the state alternates, the other 0: D stays 1, and Q after it.
    found = simulate(netlist, [{"a": [1, 0]}] * 6, skip=2)
    assert [cycle["q"] for cycle in found.outputs[:4]] == [[0, 0], [1, 1], [0, 1], [1, 1]]
    assert found.cycles == 2 * 4 and found.toggles == {3: 4, 4: 4}
    energy = energy_pj(netlist, found, library, slew_ns=0.1)
    assert energy["load"] == pytest.approx((4 * 0.04 + 4 * 0.02) * 2**2 / 2 / 8)
    assert energy["internal"] == pytest.approx(4 * (0.2 + 0.04 / 0.1 * 0.1) / 8)
    assert energy["clock"] == pytest.approx(2 * (0.06 + 0.03 * 2**2 / 2))


@pytest.mark.parametrize("function, truth", [
    ("(!((A+B) C))", lambda a, b, c: not ((a or b) and c)),
    ("((A^B)^C)", lambda a, b, c: a ^ b ^ c),
    ("(((A B)+(B C))+(C A))", lambda a, b, c: a + b + c > 1),
    ("(!((C A) + (!C B)))", lambda a, b, c: not (a if c else b)),
    ("A'*(B|!C)", lambda a, b, c: not a and (b or not c))])
def test_functions_of_liberty_are_understood(library, function, truth, tmp_path):
    text = LIBRARY.replace("(!(A B))", function).replace(
        "pin(B)", "pin(C) { direction : input; capacitance : 0.01; }\n    pin(B)")
    path = tmp_path / "other.lib"
    path.write_text(text)
    netlist = Netlist({
        "ports": {"x": {"direction": "input", "bits": [2, 3, 4]},
                  "y": {"direction": "output", "bits": [5]}},
        "cells": {"gate": {"type": "NAND", "connections": {
            "A": [2], "B": [3], "C": [4], "Y": [5]}}}}, read_liberty(path))
    found = simulate(netlist, [{"x": list(range(8))}])
    assert found.outputs[0]["y"] == [int(truth(x & 1, x >> 1 & 1, x >> 2)) for x in range(8)]


def test_a_loop_of_gates_and_other_units_are_refused(library, tmp_path):
    loop = {"ports": {}, "cells": {
        name: {"type": "NAND", "connections": {"A": [a], "B": ["1"], "Y": [y]}}
        for name, a, y in (("one", 2, 3), ("two", 3, 2))}}
    with pytest.raises(ValueError, match="loop"):
        Netlist(loop, library)
    path = tmp_path / "micro.lib"
    path.write_text(LIBRARY.replace("(1,pf)", "(1,uf)"))
    with pytest.raises(LibertyError, match="capacitive_load_unit"):
        read_liberty(path)


@pytest.mark.parametrize("case", ["mac", "requantise", "weight_add"])
def test_gates_that_compute_something_else_are_noticed(case):
    path = Path(__file__).parents[2] / "benchmarks" / "gate_energy.py"
    spec = importlib.util.spec_from_file_location("gate_energy", path)
    bench = importlib.util.module_from_spec(spec)
    sys.modules["gate_energy"] = bench
    spec.loader.exec_module(bench)
    made = getattr(bench, case)(2)
    build_rtlil(made.unit)
    silent = [{name: [0, 0] for name in ("sums", "result", "scores")}] * len(made.stimulus)
    assert not made.right(silent)
