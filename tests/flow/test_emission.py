import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pyslang
import pytest
from amaranth.hdl import Cat, Module
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from stmoe.bus.registers import register_map
from stmoe.config import PRESETS, Geometry
from stmoe.emit import LintError, Sidecar, generate, lint
from stmoe.emit.netlist import (
    build_netlist,
    drop_empty_wires,
    loop_uniform_memories,
    settle_constants,
)
from stmoe.sharing import share
from stmoe.top import Accelerator
from stmoe_sim.verilator import toolchain_env

EDGE = PRESETS["edge"]


@pytest.fixture(scope="module")
def emitted(tmp_path_factory):
    out = tmp_path_factory.mktemp("emitted")
    return out, generate(EDGE, out)


class Memories(wiring.Component):
    """RAMs of zeros and of another value, a table, and a table that starts with zeros."""

    a: In(4)
    d: In(8)
    w: In(1)
    q: Out(32)

    def elaborate(self, platform):
        m = Module()
        for index, init in enumerate(([], [1, 2, 3], [0] * 8 + [7], [90] * 16)):
            memory = Memory(shape=8, depth=16, init=init)
            m.submodules[("ram", "rom", "tail", "even")[index]] = memory
            read = memory.read_port()
            m.d.comb += [read.addr.eq(self.a), self.q.word_select(index, 8).eq(read.data)]
            if not init:
                write = memory.write_port()
                m.d.comb += [write.addr.eq(self.a), write.data.eq(self.d), write.en.eq(self.w)]
        return m


def test_everything_promised_is_written(emitted):
    out, sidecar = emitted
    for name in [*sidecar.files.values(), "stmoe.json"]:
        assert (out / name).stat().st_size, name
    assert Sidecar.from_json((out / "stmoe.json").read_text()) == sidecar
    assert "module stmoe(" in (out / "stmoe.v").read_text()
    assert f"STMOE__HASH_LO__VALUE_reset {EDGE.hash & 0xffffffff:#x}" in (
        out / "stmoe.h").read_text()
    assert "get_ports clk" in (out / "stmoe.sdc").read_text()


def test_sidecar_describes_the_netlist(emitted):
    out, _ = emitted
    data = json.loads((out / "stmoe.json").read_text())
    assert data["hash"] == f"{EDGE.hash:016x}" and data["config"] == EDGE.to_dict()
    assert data["registers"] == register_map(Geometry(EDGE))
    verilog = (out / "stmoe.v").read_text()
    for port in data["ports"]:
        size = f"[{port['width'] - 1}:0] " if port["width"] > 1 else ""
        assert f"  {port['direction']} {size}{port['name']};" in verilog, port
    assert "stmoe.csr.bank.count_cycles_total" in data["signals"]
    assert data["signals"]["stmoe.csr.front.write_word"] == 10
    assert "absent" not in data["tools"].values()


def test_same_input_same_bytes_in_another_process(emitted, tmp_path):
    out, _ = emitted
    script = ("import sys; from pathlib import Path; from stmoe.config import PRESETS; "
              "from stmoe.emit import generate; "
              "generate(PRESETS['edge'], Path(sys.argv[1]))")
    subprocess.run([sys.executable, "-c", script, str(tmp_path)], check=True,
                   env={**os.environ, "PYTHONHASHSEED": "77"}, cwd=tmp_path)
    names = sorted(path.relative_to(out) for path in out.rglob("*") if path.is_file())
    assert names == sorted(p.relative_to(tmp_path) for p in tmp_path.rglob("*") if p.is_file())
    for name in names:
        assert (out / name).read_bytes() == (tmp_path / name).read_bytes(), name


def test_no_path_of_this_machine_is_written(emitted):
    out, _ = emitted
    home = str(Path(__file__).parents[2]).encode()
    for path in out.rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            assert home not in content and str(out).encode() not in content, path


def test_another_configuration_gives_other_bytes(emitted, tmp_path):
    out, _ = emitted
    generate(EDGE.replace(slots=8), tmp_path)
    for name in ("stmoe.v", "stmoe.json", "stmoe.h"):
        assert (out / name).read_bytes() != (tmp_path / name).read_bytes(), name


def test_lint_is_clean_and_can_fail(emitted):
    out, _ = emitted
    verilog = (out / "stmoe.v").read_text()
    lint(verilog)
    latch = ("\nmodule broken(input a, input b, output reg q);\n"
             "always @* if (a) q = b;\nendmodule\n")
    with pytest.raises(LintError, match="LATCH"):
        lint(latch, top="broken")


@pytest.mark.parametrize("changes", [
    {}, {"predictor": "none", "router_layers": 0, "slots": 3, "max_d_ff": 128},
    {"banks_per_slot": 4, "max_d_ff": 64}, {"weight_group": 32},
    {"max_tokens": 16, "pes": 1, "model_shared_experts": 1, "model_shared_d_ff": 32},
    {"pes": 1, "axi_data_bits": 32, "model_top_k": 1, "model_shared_experts": 1,
     "model_shared_d_ff": 32, "outstanding": 1},
    {"pes": 1, "rows": 4, "lanes": 4, "axi_data_bits": 128, "model_layers": 1, "model_experts": 2,
     "model_top_k": 1, "model_d_model": 16, "model_d_ff": 8, "max_d_ff": 0, "prefetch_round": 1,
     "router_layers": 1, "slots": 2, "banks_per_slot": 16, "outstanding": 1, "retries": 0,
     "max_tokens": 2}, {"max_tokens": 8, "pes": 4, "split_groups": True}])
def test_every_kind_of_netlist_is_lint_clean(changes):
    config = PRESETS["tiny"].replace(**{"slots": 6} | changes)
    lint(build_netlist(Accelerator(Geometry(config))).verilog)


def test_only_memories_of_one_value_lose_their_lines():
    netlist = build_netlist(Memories(), "stmoe")
    assert netlist.verilog.count("initial for (") == 2
    assert "initial for (ram$row = 0; ram$row < 16; ram$row = ram$row + 1) ram[ram$row] = 8'h00;" \
        in netlist.verilog
    assert "even$row < 16; even$row = even$row + 1) even[even$row] = 8'h5a;" in netlist.verilog
    assert "rom[0] = 8'h01;" in netlist.verilog
    assert "tail[8] = 8'h07;" in netlist.verilog
    lint(netlist.verilog)


class Doubler(wiring.Component):
    def __init__(self, bits):
        self.bits = bits
        super().__init__({"a": In(bits), "q": Out(bits + 1)})

    def elaborate(self, platform):
        m = Module()
        m.d.sync += self.q.eq(self.a << 1)
        return m


class Doublers(wiring.Component):
    """Three equal components and a different one."""

    a: In(8)
    q: Out(9 * 3 + 5)

    def elaborate(self, platform):
        m = Module()
        outputs = []
        for index, bits in enumerate((8, 8, 4, 8)):
            unit = share(m, f"unit_{index}", platform, Doubler, bits)
            m.d.comb += unit.a.eq(self.a)
            outputs.append(unit.q)
        m.d.comb += self.q.eq(Cat(*outputs))
        return m


def test_equal_components_become_one_module():
    netlist = build_netlist(Doublers(), "top")
    for text, word in ((netlist.verilog, r"module \\"), (netlist.rtlil, r"module \\")):
        assert len(re.findall(word + r"top\.Doubler", text)) == 2
        assert len(re.findall(r"\\top\.Doubler(_1)? +(unit_|\\unit_)", text)) == 4
    assert netlist.signals["top.Doubler.q"] == 9 and netlist.signals["top.Doubler_1.q"] == 5
    lint(netlist.verilog, top="top")


def test_banks_are_written_by_hand(emitted):
    out, _ = emitted
    verilog = (out / "stmoe.v").read_text()
    assert verilog.count("verilator unroll_disable") == 2  # weight words and parameter rows
    assert verilog.count("module \\stmoe.BankMemory") == 2


def test_wires_without_a_bit_are_left_out():
    text = "  wire [-1:0] early;\n  wire [1:0] late;\n  wire [-1:0] \\a.b ;\n  assign late = 0;\n"
    assert drop_empty_wires(text) == "  wire [1:0] late;\n  assign late = 0;\n"


def test_escaped_names_stay_escaped():
    rows = "".join(f"    \\m$1 [{row}] = 8'h00;\n" for row in range(4))
    text = loop_uniform_memories(f"  initial begin\n{rows}  end\n")
    assert text == ("  integer \\m$1$row ;\n  initial for (\\m$1$row  = 0; \\m$1$row  < 4; "
                    "\\m$1$row  = \\m$1$row  + 1) \\m$1 [\\m$1$row ] = 8'h00;\n")


@pytest.mark.parametrize("rows", [
    "    m[0] = 8'h00;\n    m[1] = 8'h00;\n    m[2] = 8'h00;\n    m[3] = 8'h01;\n",
    "    m[0] = 8'h00;\n    m[1] = 8'h00;\n    m[2] = 8'h00;\n    n[3] = 8'h00;\n",
    "    m[1] = 8'h00;\n    m[2] = 8'h00;\n    m[3] = 8'h00;\n    m[4] = 8'h00;\n",
])
def test_other_initial_blocks_stay(rows):
    text = f"  initial begin\n{rows}  end\n"
    assert loop_uniform_memories(text) == text


def test_fusesoc_reads_the_core_file(emitted):
    out, sidecar = emitted
    from fusesoc.capi2.coreparser import Core2Parser
    from fusesoc.core import Core
    core = Core(Core2Parser(), str(out / "stmoe.core"))
    assert core.name.name == "stmoe-edge"
    files = {file["name"] for file in core.get_files({"tool": "vivado", "is_toplevel": True})}
    assert {"stmoe.v", "stmoe.xdc"} <= files
    lint_flags = {"tool": "verilator", "is_toplevel": True, "target": "lint"}
    assert "waivers.vlt" in {file["name"] for file in core.get_files(lint_flags)}
    assert core.get_toplevel(lint_flags) == sidecar.top


def test_fusesoc_lints_the_core(emitted, tmp_path):
    out, _ = emitted
    env = toolchain_env()
    run = ["-m", "fusesoc.main", "--cores-root", str(out), "run", "--build-root", str(tmp_path),
           "--target"]
    done = subprocess.run([sys.executable, *run, "lint", "stmoe-edge"], cwd=tmp_path, env=env,
                          capture_output=True, text=True)
    assert not done.returncode, done.stderr
    assert list(tmp_path.rglob("stmoe*.vc"))
    for tool, file in (("vivado", "stmoe.xdc"), ("quartus", "stmoe.sdc"), ("libero", "stmoe.sdc")):
        done = subprocess.run([sys.executable, *run, tool, "--setup", "stmoe-edge"], cwd=tmp_path,
                              env=env, capture_output=True, text=True)
        assert not done.returncode, done.stderr
        scripts = [path.read_text() for path in tmp_path.rglob("*.tcl") if tool in str(path)]
        assert any(file in text for text in scripts), tool


def slang_errors(verilog):
    """Errors of a second front end, with its parser and elaboration of its own."""
    compilation = pyslang.ast.Compilation()
    compilation.addSyntaxTree(pyslang.syntax.SyntaxTree.fromText(verilog))
    return [str(one.code) for one in compilation.getAllDiagnostics() if one.isError()]


def test_a_second_front_end_has_no_error(emitted):
    out, _ = emitted
    text = (out / "stmoe.v").read_text()
    assert slang_errors(text) == []
    broken = text.replace("rw_addr_collision = \"no\", ", "rw_addr_collision = ", 1)
    assert broken != text and slang_errors(broken)


def test_banks_leave_collisions_open(emitted):
    """Otherwise an FPGA puts logic beside each block RAM, in either form of the netlist."""
    out, _ = emitted
    assert (out / "stmoe.v").read_text().count('rw_addr_collision = "no"') == 2
    modules = (out / "stmoe.il").read_text().split("\nmodule \\")
    free = {text.split()[0] for text in modules if "COLLISION_X_MASK 1'1\n" in text}
    assert {"stmoe.BankMemory", "stmoe.BankMemory_1"} <= free
    assert free == {text.split()[0] for text in modules if "attribute \\no_rw_check 1\n" in text}


def test_librelane_is_given_files_that_are_there(emitted):
    out, _ = emitted
    flow = json.loads((out / "librelane.json").read_text())
    named = [*flow["VERILOG_FILES"], flow["PNR_SDC_FILE"], flow["SIGNOFF_SDC_FILE"]]
    assert all((out / name.removeprefix("dir::")).exists() for name in named)
    assert flow["CLOCK_PERIOD"] == 1000 / EDGE.clock_mhz


def test_c_header_compiles(emitted, tmp_path):
    out, _ = emitted
    entry = register_map(Geometry(EDGE))["tokens_lo"]["address"]
    source = tmp_path / "probe.cc"
    source.write_text('#include <cstddef>\n#include "stmoe.h"\n'
                      f"static_assert(offsetof(stmoe_t, tokens) == {entry}, \"\");\n")
    subprocess.run(["g++", "-fsyntax-only", f"-I{out}", str(source)], check=True)


def test_parts_that_are_constant_get_their_value():
    text = "  always @*\n    x[1:0] = 2'h2;\n  always @*\n    x[2] = y;\n"
    found = settle_constants(text)
    assert "  always @*\n    x[2] = y;\n" in found
    assert "  reg settle$1 = 0;\n  always @* begin\n    if (settle$1) begin end\n" in found
