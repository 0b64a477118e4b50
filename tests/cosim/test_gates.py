"""Netlists after synthesis replay a trace as RTL does, and a changed gate in them is found."""

import dataclasses
import re

import pytest

from stmoe.config import ConfigError, preset
from stmoe_golden.trace import decode_slice
from stmoe_sim import replay as replaying
from stmoe_sim import verilator
from stmoe_sim.energy import technology
from stmoe_sim.image import Experts, write_image
from stmoe_sim.memory import memory
from stmoe_sim.policies import parse_policies
from stmoe_sim.replay import Replay, SimulationError, fit, hold_against_rtl, run
from stmoe_sim.simulate import simulate
from stmoe_sim.synth.netlist import GateNetlist, parse_gates
from support.synthetic import synthetic

TRACE = synthetic(seed=3, layers=2, experts=4, top_k=2, tokens=24, sequences=3)
CONFIG = fit(preset("tiny").replace(
    pes=1, rows=2, lanes=4, slots=4, model_d_model=16, model_d_ff=8, max_d_ff=8, prefetch_round=4,
    router_layers=1, axi_data_bits=32, axi_addr_bits=26, tile_bytes=256, outstanding=2,
    burst_beats=16, linear_lexical=16, linear_pair=16, linear_previous=16, linear_leaders=(),
    linear_features=((0, 1), (1, 0))), TRACE)
BLOCKS = "storage,WordColumn,DotRow,sequencer"  # in which every kind of cell occurs
CELLS = {"ecp5": {"LUT4", "PFUMX", "CCU2C", "TRELLIS_FF", "TRELLIS_DPR16X4", "stmoe_DP16KD",
                  "stmoe_MULT18X18D"},
         "generic": {r"\$_NAND_", r"\$_NOT_", r"\$_XOR_", r"\$_MUX_", r"\$_DFF_P_"}}
INSTANCE = (r"^  {kind} +(?:#\(\n    \.INIT\(16'h(?P<init>\w+)\)\n  \) )?\S+ +(?:/\*.*\*/ )?"
            r"\(\n(?P<pins>(?:(?!  \);).*\n)*)    \.{out}\((?P<net>[^\n]*)\)\n  \);\n")


def with_a_switch(netlist, target):
    """The netlist with one LUT or gate of a row of multipliers twice, as it is and changed;
    +broken chooses."""
    kind, other = {"ecp5": ("LUT4", None), "generic": (r"\$_NAND_", r"\$_NOR_")}[target]
    module = re.search(r"^module \\stmoe\.DotRow .*?^endmodule\n", netlist, re.M | re.S)
    out = "Z" if target == "ecp5" else "Y"
    gates = list(re.finditer(INSTANCE.format(kind=re.escape(kind), out=out), module[0], re.M))
    gate = gates[len(gates) // 2]
    init = gate["init"]
    types = ([f"LUT4 #(.INIT(16'h{init}))", f"LUT4 #(.INIT(16'h{int(init, 16) ^ 0xffff:04x}))"]
             if init else [f"{kind} ", f"{other} "])
    pins = gate["pins"]
    pair = "".join(f"  wire switch_{i};\n  {of} gate_{i} ({pins} .{out}(switch_{i}));\n"
                   for i, of in enumerate(types))
    text = (pair + "  reg broken; initial broken = $test$plusargs(\"broken\");\n"
            f"  assign {gate['net']} = broken ? switch_1 : switch_0;\n")
    changed = module[0].replace(gate[0], text)
    assert changed != module[0]
    return netlist.replace(module[0], changed)


@pytest.mark.parametrize("target", CELLS)
def test_gates_replay_as_rtl_does_and_a_changed_one_is_found(cache, monkeypatch, target):
    made = verilator.gate_netlist
    found = {}

    def switched(*arguments):
        netlist = made(*arguments)
        found["cells"] = set(re.findall(r"^  (\S+) +(?:#\(|\S+ +(?:/\*.*\*/ )?\()",
                                        netlist.verilog, re.M))
        return dataclasses.replace(netlist, verilog=with_a_switch(netlist.verilog, target))

    monkeypatch.setattr(verilator, "gate_netlist", switched)
    replay = Replay(config=CONFIG, window=decode_slice(TRACE, 8, warmup=2), seed=5, cache=cache,
                    memory=memory("lpddr4-3200"), attention_cycles=100,
                    gates=parse_gates(f"{target}:{BLOCKS}"))
    experts, (policy,) = Experts(replay.geometry, replay.seed), parse_policies("st-moe")
    parts = {"simulator": replay.simulator(), "experts": experts,
             "image": write_image(experts, cache), "stimulus": replay.stimulus()}
    assert found["cells"] >= CELLS[target], CELLS[target] - found["cells"]
    outcome = run(replay, policy, **parts)
    assert outcome.verdict.mismatches == []
    assert outcome.verdict.compared["results"] == 20 and outcome.verdict.compared["events"] > 20
    usual = replaying.memory_plusargs
    with monkeypatch.context() as changed:
        changed.setattr(replaying, "memory_plusargs",
                        lambda *arguments: [*usual(*arguments), "+broken"])
        try:
            assert run(replay, policy, **parts).verdict.mismatches
        except SimulationError as hung:
            assert "watchdog" in str(hung)
    # The verb's way, with the same binary as RTL, which would take as long to build again, and has
    # a back door to what predictors hold.
    monkeypatch.setattr(replaying, "check_learned", lambda *_: None)
    monkeypatch.setattr(Replay, "simulator", lambda self, **_: parts["simulator"])
    report = simulate(replay, [policy], technology=technology(), preset="tiny", jobs=1)
    record, = report["policies"]
    assert report["gates"] == f"{target}:{BLOCKS}" and not record["mismatches"]
    assert record["compared"]["events of RTL"] == record["compared"]["events"]
    hold_against_rtl(outcome, outcome)
    assert outcome.verdict.mismatches == []
    late = [[cycle + 1, *rest] for cycle, *rest in outcome.golden["events"]]
    hold_against_rtl(outcome, dataclasses.replace(
        outcome, golden=outcome.golden | {"events": late},
        all_counters=outcome.all_counters | {"cycles_total": 0}))
    assert [text.split()[0] for text in outcome.verdict.mismatches] == ["event", "counter"]


def test_modules_of_gates_take_the_place_of_those_of_rtl():
    rtl = "(* top *)\nmodule stmoe(a);\nendmodule\nmodule \\stmoe.x (a);\n  rtl\nendmodule\n"
    both = GateNetlist("module \\stmoe.x (a);\n  gates\nendmodule\n", ()).in_place_of(rtl)
    assert both.count("module \\stmoe.x ") == 1 and "gates" in both and "rtl" not in both
    assert "module stmoe(a);" in both


def test_gates_are_named_as_synthesis_names_them():
    assert parse_gates("ecp5:dma,csr").blocks == ("dma", "csr")
    assert str(parse_gates("generic")) == "generic"
    with pytest.raises(ConfigError, match="ecp5, generic"):
        parse_gates("asic")
