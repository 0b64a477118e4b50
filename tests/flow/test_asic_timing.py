"""Timing of gates of a library: netlists whose delay is reckoned by hand, and OpenSTA."""

import json

import pytest

from stmoe_sim.synth import asic, asic_timing, buffering, library_timing, macros, opensta, tools
from stmoe_sim.synth.liberty import LibertyError, read_liberty
from stmoe_sim.synth.tools import ToolError

FEW = """library(few) { delay_model : table_lookup; time_unit : "1ns"; voltage_unit : "1V";
capacitive_load_unit (1,pf); nom_voltage : 1;
input_threshold_pct_rise : 50; input_threshold_pct_fall : 50; output_threshold_pct_rise : 50;
output_threshold_pct_fall : 50; slew_lower_threshold_pct_rise : 20;
slew_upper_threshold_pct_rise : 80; slew_lower_threshold_pct_fall : 20;
slew_upper_threshold_pct_fall : 80;
lu_table_template(turned) { variable_1 : input_net_transition;
variable_2 : total_output_net_capacitance; index_1 ("0, 1"); index_2 ("0, 1"); }
lu_table_template(load) { variable_1 : total_output_net_capacitance; index_1 ("0, 1"); }
lu_table_template(setup) { variable_1 : related_pin_transition;
variable_2 : constrained_pin_transition; index_1 ("0, 1"); index_2 ("0, 1"); }
cell (INV) {
pin(A) { direction : input; capacitance : 0.2; rise_capacitance : 0.2; fall_capacitance : 0.3; }
pin(Y) { direction : output; function : "!A"; timing() { related_pin : "A";
timing_sense : negative_unate;
cell_rise(turned) { values ("1, 2", "1.5, 2.5"); } cell_fall(turned) { values ("2, 3", "2, 3"); }
rise_transition(load) { values ("0, 2"); } fall_transition(load) { values ("0, 1"); } } } }
cell (DFF) { ff (IQ, IQN) { next_state : "D"; clocked_on : "C"; }
pin(C) { direction : input; clock : true; capacitance : 0.1; }
pin(D) { direction : input; capacitance : 0.1; timing() { related_pin : "C";
timing_type : setup_rising; rise_constraint(setup) { values ("0.5, 1", "7, 7"); }
fall_constraint(setup) { values ("0.25, 0.25", "7, 7"); } } }
pin(Q) { direction : output; function : "IQ"; timing() { related_pin : "C";
timing_type : rising_edge; timing_sense : non_unate;
cell_rise(load) { values ("1, 3"); } cell_fall(load) { values ("1, 2"); }
rise_transition(load) { values ("0, 1"); } fall_transition(load) { values ("0, 4"); } } } }
}
"""
WIRE = 0.05
# A register rises at 1 + 2 * 0.25, falls at 1 + 0.35, of the inverter's 0.2 and 0.3 pF and a wire;
# the inverter drives 0.1 pF and a wire, and sees transitions of 0.25 and 4 * 0.35 ns.
RISE = 1 + 0.35 + (1 + 0.15 + 0.5 * 1.4)  # out of a fall
FALL = 1 + 2 * 0.25 + (2 + 0.15)
BY_HAND = max(RISE + 0.5 + 0.5 * 2 * 0.15, FALL + 0.25)


def cell(kind, **nets):
    return {"type": kind, "connections": {pin: [bit] for pin, bit in nets.items()}}


def netlist():
    return {"ports": {"clk": {"direction": "input", "bits": [2]}},
            "netnames": {"from": {"bits": [3]}, "to": {"bits": [5]}},
            "cells": {"a": cell("DFF", C=2, D="0", Q=3), "i": cell("INV", A=3, Y=4),
                      "b": cell("DFF", C=2, D=4, Q=5)}}


def with_memory(clocked):
    """A RAM of 64 words of two bits behind a register, and a register behind the RAM."""
    made = netlist()
    widths = {"RD_ADDR": 6, "RD_DATA": 2, "WR_ADDR": 6, "WR_DATA": 2, "WR_EN": 2, "RD_EN": 1,
              "RD_ARST": 1, "RD_SRST": 1, "RD_CLK": 1, "WR_CLK": 1}
    nets = {name: [{"RD_ADDR": 3, "WR_CLK": 2, "RD_CLK": 2}.get(name, "0")] * width
            for name, width in widths.items()} | {"RD_DATA": [6, 7]}
    made["cells"]["store"] = {
        "type": "$mem_v2", "connections": nets, "parameters": {
            name: f"{value:b}" for name, value in {
                "SIZE": 64, "WIDTH": 2, "ABITS": 6, "RD_PORTS": 1, "WR_PORTS": 1,
                "RD_CLK_ENABLE": clocked}.items()}}
    made["cells"]["b"]["connections"]["D"] = [7]
    return made


@pytest.fixture
def library(tmp_path):
    path = tmp_path / "few.lib"
    path.write_text(FEW)
    return path


def worst(module, library, tmp_path):
    gates, text = macros.as_cells(module, 45, WIRE)
    (tmp_path / "macros.lib").write_text(text)
    cells = {**read_liberty(library).cells, **read_liberty(tmp_path / "macros.lib").cells}
    return library_timing.worst(gates, module, cells, WIRE), gates, cells


def test_a_path_takes_what_its_tables_say(library, tmp_path):
    (path,), _, _ = worst(netlist(), library, tmp_path)
    assert path.ns == pytest.approx(BY_HAND)
    assert (path.start, path.end, path.levels) == ("from", "to", 1)


def test_another_delay_and_another_load_are_noticed(library, tmp_path):
    library.write_text(FEW.replace('"1, 2", "1.5, 2.5"', '"1, 2", "2.5, 3.5"'))
    (path,), _, _ = worst(netlist(), library, tmp_path)
    assert path.ns == pytest.approx(RISE + 1.4 + 0.5 + 0.5 * 2 * 0.15)
    library.write_text(FEW)
    more = netlist()
    more["cells"]["load"] = cell("INV", A=4, Y=9)
    (path,), _, _ = worst(more, library, tmp_path)
    # The rise of the inverter drives 0.2 pF and a wire more: delay, and setup of what is slower.
    assert path.ns == pytest.approx(RISE + 0.25 + 0.5 + 0.5 * 2 * 0.4)


def test_paths_end_and_begin_at_memories(library, tmp_path):
    time = asic.sram_timing(64, 2, 45)
    paths, _, cells = worst(with_memory(1), library, tmp_path)
    by_end = {path.end: path for path in paths}
    kind = next(name for name in cells if name.startswith("ram"))
    assert kind == "ram0_64x2" and by_end["to"].start == "net 7"
    setup = 0.5 + 0.5 * by_slew(time, 0.1 + WIRE)
    assert by_end["to"].ns == pytest.approx(max(time["access"] + setup, time["access"] + 0.25))
    load = 6 * (time["pin_pf"] + WIRE) + 0.2 + WIRE  # six address bits, and the inverter
    assert by_end["store"].ns == pytest.approx(1 + 2 * load + time["setup"])


def test_a_read_without_a_clock_is_a_way_through(library, tmp_path):
    paths, _, _ = worst(with_memory(0), library, tmp_path)
    path = next(path for path in paths if path.end == "to")
    assert (path.start, path.levels) == ("from", 1)


def by_slew(time, load):
    (low, high), (first, last) = (list(map(float, time[name].split(", ")))
                                  for name in ("loads", "slews"))
    return first + (load - low) / (high - low) * (last - first)


def test_what_cannot_be_timed_is_said(library, tmp_path):
    unknown = netlist()
    unknown["cells"]["i"]["type"] = "BUF"
    with pytest.raises(LibertyError, match="i: the library has no cell BUF"):
        worst(unknown, library, tmp_path)
    library.write_text(FEW.replace("cell_fall(turned)", "other(turned)"))
    with pytest.raises(LibertyError, match="cell INV: no delay tables"):
        worst(netlist(), library, tmp_path)
    loop = netlist()
    loop["cells"]["i"]["connections"]["A"] = [4]
    library.write_text(FEW)
    with pytest.raises(ValueError, match="loop"):
        worst(loop, library, tmp_path)


def test_what_drives_many_is_buffered_if_the_library_can(library, tmp_path):
    assert asic.within(tmp_path / "none", library).constraints is None
    buffers = "".join(
        FEW[FEW.index("cell (INV)"):FEW.index("cell (DFF)")].replace("INV", name).replace(
            '"!A"', '"A"').replace("capacitance : 0.2", f"capacitance : {load}")
        for name, load in (("BUFX4", 0.3), ("BUFX2", 0.1)))
    library.write_text(FEW.replace("cell (DFF)", buffers + "cell (DFF)"))
    cells = asic.within(tmp_path, library)
    assert cells.constraints
    text = (tmp_path / "synth" / "asic" / cells.constraints.name).read_text()
    assert text == "set_driving_cell BUFX2\nset_load 400 [all_outputs]\n"
    assert any(f"-constr {cells.constraints}" in line for line in asic.script("unit", cells))


def test_nets_that_drive_more_than_they_may_get_buffers(library, tmp_path):
    text = FEW[FEW.index("cell (INV)"):FEW.index("cell (DFF)")].replace("INV", "BUF").replace(
        '"!A"', '"A"').replace("negative", "positive")
    text = text.replace("pin(Y) {", "pin(Y) { max_capacitance : 2;")
    library.write_text(FEW.replace("cell (DFF)", text + "cell (DFF)").replace(
        "pin(Q) {", "pin(Q) { max_capacitance : 1;"))
    wide = netlist()
    many = {f"r{n}": cell("DFF", C=2, D=3, Q=10 + n) for n in range(30)}
    wide["cells"] |= many
    cells = read_liberty(library).cells
    gates, _ = macros.as_cells(wide, 45, 0.0)
    made = buffering.buffered(gates, cells, 0.0)
    extra = [nets for _, kind, nets in made if kind == "BUF"]
    assert len(extra) == 4 and {nets["A"] for nets in extra} == {3}  # ten registers of 0.1 pF each
    for bit in {nets["Y"] for nets in extra} | {3}:
        load = sum(cells[kind].inputs[pin] for _, kind, nets in made for pin, net in nets.items()
                   if net == bit and pin in cells[kind].inputs)
        assert load <= 1 + 1e-9
    drives = {nets["Y"]: nets["A"] for nets in extra}
    for (name, kind, nets), (_, _, now) in zip(gates, made, strict=False):  # the same circuit
        assert {pin: drives.get(net, net) for pin, net in now.items()} == nets, (name, kind)
    small, _ = macros.as_cells(netlist(), 45, 0.0)
    assert buffering.buffered(small, cells, 0.0) == small


SAID = """PATH c0/Q c2/D 6.85 4
PATH c0/Q c2/D 7.85 2
PATH rst c0/D 9.5 2
"""


def fake_sta(tmp_path, monkeypatch, said):
    program = tmp_path / "sta"
    program.write_text('#!/bin/sh\n[ "$1" = -version ] && echo 9.9 && exit\n'
                       f"cat <<'E'\n{said}E\n")
    program.chmod(0o755)
    monkeypatch.setenv("STA", str(program))


def test_the_report_of_opensta_is_taken_instead(library, tmp_path, monkeypatch):
    (tmp_path / "netlist.json").write_text(json.dumps({"modules": {"harness": netlist()}}))
    monkeypatch.setattr(asic_timing, "WIRE_PF", WIRE * 4)  # at 45 nm

    def timing():
        return asic_timing.timing(tmp_path, library, 45, 10, "from", ["x"], lambda step: None)

    monkeypatch.setattr(tools.shutil, "which", lambda name: None)
    monkeypatch.delenv("STA", raising=False)
    own = timing()
    assert own["by"] == "estimate" and own["ns"] == round(BY_HAND, 2)
    fake_sta(tmp_path, monkeypatch, SAID)
    found = timing()
    assert (found["by"], found["ns"]) == ("OpenSTA 9.9", 3.15)
    assert found["estimate_ns"] == own["ns"] and found["paths"][0]["levels"] == 1
    assert found["estimate_differs_ns"] == pytest.approx(BY_HAND - 3.15)
    assert [(one["from"], one["to"]) for one in found["paths"]] == [("from", "to"), ("rst", "from")]
    verilog = (tmp_path / "gates.v").read_text()
    assert "INV c1 (.A(n3), .Y(n4));" in verilog and "DFF c0 (.C(clk), .D(1'b0)" in verilog
    fake_sta(tmp_path, monkeypatch, "Error: gates.v, line 1 syntax error.\n")
    with pytest.raises(ToolError, match=r"sta: Error: gates.v, line 1 .*; see .*sta\.log"):
        timing()
    monkeypatch.setenv("STA", str(tmp_path / "none"))
    with pytest.raises(ToolError, match="sta cannot be run"):
        timing()


if tools.available("sta"):
    @pytest.mark.parametrize("clocked", [0, 1])
    def test_opensta_says_the_same(clocked, library, tmp_path):
        module = with_memory(clocked)
        module["ports"]["x"] = {"direction": "input", "bits": [30]}
        module["netnames"]["x"] = {"bits": [30]}
        module["cells"]["c"] = cell("DFF", C=2, D=30, Q=31)
        own, gates, cells = worst(module, library, tmp_path)
        paths = opensta.worst(tmp_path, library, module, gates, cells, 10)
        assert {path.end: (path.start, path.levels) for path in paths} == {
            path.end: (path.start, path.levels) for path in own}
        for path, other in zip(paths, own, strict=True):
            assert path.ns == pytest.approx(other.ns, abs=1e-5)
