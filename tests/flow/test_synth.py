"""Synthesis: what is found in components whose parts are known, and what is refused."""

import json
import shlex
import shutil
from collections import Counter
from pathlib import Path

import pytest
from amaranth.hdl import Module, Signal, signed
from amaranth.lib import memory, wiring
from amaranth.lib.wiring import In, Out

from stmoe.buffer.bank import BankMemory
from stmoe.config import PRESETS
from stmoe.emit.netlist import build_rtlil
from stmoe.sharing import share
from stmoe_sim.synth import asic, flow, gates, place, targets, tools
from stmoe_sim.synth.estimate import estimate
from stmoe_sim.synth.harness import ports
from stmoe_sim.synth.synthesis import synthesise
from stmoe_sim.synth.tools import ToolError
from stmoe_sim.synth.units import instance_counts, split_units, stub, without_zeros
from support.cli import refused

WORDS, WIDTH = 64, 8


class Product(wiring.Component):
    """A registered product of 8 by 8 bits."""

    def __init__(self):
        super().__init__({"a": In(8), "b": In(8), "y": Out(16)})

    def elaborate(self, platform):
        m = Module()
        m.d.sync += self.y.eq(self.a * self.b)
        return m


class Known(wiring.Component):
    """Two products, a bank, a RAM, a register file, a ROM, and a product with a constant."""

    def __init__(self):
        super().__init__({"a": In(8), "b": In(8), "at": In(6), "en": In(1), "y": Out(40)})

    def elaborate(self, platform):
        m = Module()
        product = 0
        for index in range(2):
            unit = share(m, f"unit{index}", platform, Product)
            m.d.comb += [unit.a.eq(self.a), unit.b.eq(self.b + index)]
            product ^= unit.y
        bank = share(m, "bank", platform, BankMemory, 32, 128, 8)
        m.d.comb += [bank.read_en.eq(1), bank.read_addr.eq(self.at), bank.write_en.eq(self.en),
                     bank.write_addr.eq(self.at), bank.write_data.eq(self.a)]
        outputs = []
        for name, depth, init in (("ram", WORDS, []), ("file", 8, []),
                                  ("rom", WORDS, [37 * i % 256 for i in range(WORDS)])):
            m.submodules[name] = store = memory.Memory(shape=WIDTH, depth=depth, init=init)
            read = store.read_port()
            m.d.comb += [read.addr.eq(self.at), read.en.eq(1)]
            outputs.append(read.data)
            if name != "rom":
                write = store.write_port()
                m.d.comb += [write.addr.eq(self.at), write.data.eq(self.a), write.en.eq(self.en)]
        once = Signal(16)
        m.d.sync += once.eq(self.b * 11)
        ram, rf, rom = outputs
        m.d.comb += self.y.eq(product ^ bank.read_data ^ ram ^ (rf << 3) ^ (rom << 5) ^ once)
        return m


@pytest.fixture(scope="module")
def known():
    return split_units(build_rtlil(Known()))


def made(units, target, script, cache):
    return synthesise(units, target, script, cache, lambda done, of, step: None)


def ecp5(unit):
    return targets.script("ecp5", unit)


@pytest.fixture(scope="module")
def on_ecp5(known, cache):
    return made(known, "ecp5", ecp5, cache)


def test_what_occurs_often_is_a_unit_of_its_own(known):
    assert {unit.path for unit in known.values()} == {"top", "bank", "Product"}
    assert instance_counts(known)["stmoe.Product"] == 2
    assert known["stmoe"].text.count("attribute \\blackbox 1") == 2


def test_known_parts_are_counted_as_often_as_they_occur(known, cache):
    figures = gates.Figures()
    for block in made(known, "generic", gates.generic_script, cache):
        home = block.result.home
        figures.add(gates.count(block.result.cells, (home / "memories.il").read_text(),
                                (home / "multipliers.il").read_text()), block.times)
    assert figures.multipliers == Counter({"8x8": 2})  # that by a constant is no multiplier
    assert figures.sram == WORDS * WIDTH + 128 * 32
    assert figures.registers == 8 * WIDTH
    row = figures.row()
    # Products 32, the product by a constant 12, and a register behind the ROM.
    assert 32 + 12 <= row["flip_flops"] <= 32 + 12 + WIDTH
    # An array multiplier of 8 by 8 is 64 ANDs and 56 adders of some 9 NAND2: both are there.
    assert 2 * 300 < row["nand2"] < 2 * 800 + 1200
    assert row["area"] == pytest.approx(sum(
        value for key, value in row.items() if key.startswith("area_")))


def test_ecp5_uses_its_multipliers_and_block_rams(on_ecp5):
    found = {block.unit.path: targets.resources("ecp5", block.result.cells) for block in on_ecp5}
    assert found["Product"]["dsp"] == 1 and found["Product"]["bram"] == 0
    assert found["bank"] == {"lut": 0, "ff": 0, "dsp": 0, "bram": 1}  # no logic for collisions
    assert found["top"]["lut"] > 0


def test_signed_ports_are_ports():
    unit = wiring.Component({"a": In(signed(5)), "y": Out(signed(3)), "z": Out(1)})
    unit.elaborate = lambda platform: Module()
    text = build_rtlil(unit)
    assert sorted(ports(stub(text[text.rindex("attribute \\top 1"):]))) == [
        ("a", "input", 5), ("y", "output", 3), ("z", "output", 1)]


def test_units_that_are_there_are_not_made_again(known, on_ecp5, cache, monkeypatch):
    monkeypatch.setattr("stmoe_sim.synth.tools.tool_command", lambda tool: ["false"])
    again = made(known, "ecp5", ecp5, cache)
    assert [block.result for block in again] == [block.result for block in on_ecp5]
    shutil.rmtree(on_ecp5[0].result.home)
    with pytest.raises(ToolError, match=r"yosys failed: no message; see .*yosys\.log"):
        made(known, "ecp5", ecp5, cache)


def test_a_unit_that_abc9_dies_of_is_given_it_another_way(known, on_ecp5, tmp_path, monkeypatch):
    real, steps = shlex.join(tools.tool_command("yosys")), []
    monkeypatch.setattr("stmoe_sim.synth.tools.tool_command", lambda tool: [
        "sh", "-c", f'grep -q -e -dff unit.ys && exec {real} "$@"', "sh"])
    block, = synthesise(known, "ecp5", ecp5, tmp_path, lambda done, of, step: steps.append(step),
                        lambda unit: unit.path.endswith("Product"))
    assert any(step.endswith("passed through abc9") for step in steps)
    usual, = (block for block in on_ecp5 if block.unit.path.endswith("Product"))
    assert block.result.cells == usual.result.cells


def test_known_parts_become_a_bitstream(known, cache):
    blocks = made(known, "ecp5", ecp5, cache)
    asked = Counter[str]()
    for block in blocks:
        for name, count in targets.resources("ecp5", block.result.cells).items():
            asked[name] += block.times * count
    report = flow.place_units("known", targets.part("LFE5U-25F", "ecp5"), 50, 1, known, blocks,
                              asked, cache)
    assert report["fmax_mhz"] > 50
    assert report["used"]["MULT18X18D"]["used"] == asked["dsp"] >= 2
    assert report["used"]["DP16KD"]["used"] == asked["bram"]
    with open(report["bitstream"], "rb") as bitstream:
        assert b"LFE5U-25F" in bitstream.read(200)
    path = report["critical_path"]
    assert path["ns"] == pytest.approx(1000 / report["fmax_mhz"], rel=0.02)
    assert sum(path["blocks"].values()) == pytest.approx(path["ns"], abs=0.01)
    netlist = Path(report["bitstream"]).parents[1] / "netlist.json"
    assert estimate(netlist, "harness")["ns"] == pytest.approx(path["ns"], rel=0.3)


GATES = {"INV": (2, "!A"), "BUF": (4, "A"), "NAND": (3, "!(A B)"), "NOR": (3.5, "!(A+B)"),
         "AND": (5, "A B"), "OR": (5.5, "A+B"), "XOR": (7, "A^B")}  # area, function


def library():
    """A liberty file of our own with few cells."""
    def pins(function):
        return "".join(f"pin({pin}) {{ direction : input; capacitance : 0.01; }}\n"
                       for pin in "AB" if pin in function)
    cells = "".join(
        f"cell({name}) {{ area : {area};\n{pins(function)}"
        f'pin(Y) {{ direction : output; function : "{function}"; }} }}\n'
        for name, (area, function) in GATES.items())
    return f"""library(few) {{ time_unit : "1ns"; capacitive_load_unit (1,pf);
{cells}
cell(DFF) {{ area : 11; ff(IQ, IQN) {{ clocked_on : "CK"; next_state : "D"; }}
pin(D) {{ direction : input; }} pin(CK) {{ direction : input; clock : true; }}
pin(Q) {{ direction : output; function : "IQ"; }} }} }}
"""


def test_a_library_gives_areas_and_keeps_memories_as_macros(known, cache, tmp_path):
    (tmp_path / "few.lib").write_text(library())
    cells = asic.within(cache, tmp_path / "few.lib")
    rows = {}
    for block in made(known, "asic", lambda unit: asic.script(unit, cells), cache):
        counted = block.result.cells
        row = asic.row(block.result, (block.result.home / "memories.il").read_text(), 45)
        assert row["area_cells"] == pytest.approx(11 * counted.get("DFF", 0) + sum(
            area * counted.get(name, 0) for name, (area, _) in GATES.items()))
        rows[block.unit.path] = row
    assert rows["bank"]["sram_bits"] == 128 * 32 and rows["bank"]["cells"] == 0
    top = rows["top"]  # the RAM as a macro, the register file as flip-flops
    assert top["macros"] == 1 and top["area_sram"] == pytest.approx(WORDS * WIDTH * 0.6)
    assert top["area_cells"] > 11 * 8 * WIDTH


def test_macros_follow_the_published_points():
    assert asic.macro(1024, 64, 45)["pj"] == pytest.approx(6.1)  # CACTI: 8 KiB
    assert asic.macro(4096, 64, 45)["pj"] == pytest.approx(17.0)
    assert asic.macro(1024, 64, 90)["area"] == pytest.approx(4 * 1024 * 64 * 0.6)


def test_cells_that_count_as_nothing_are_an_error():
    with pytest.raises(ValueError, match="cell EHXPLLL counts as no resource"):
        targets.resources("ecp5", {"LUT4": 3, "EHXPLLL": 1})
    with pytest.raises(ValueError, match=r"\$_DLATCH_P_"):
        gates.Figures(cells=Counter({"$_DLATCH_P_": 1})).row()


def test_a_memory_of_many_ports_is_a_register_file():
    figures = gates.Figures()
    figures.memory(words=1024, width=8, reads=1, writes=1)
    figures.memory(words=1024, width=2, reads=2, writes=1)
    assert (figures.sram, figures.registers) == (8192, 2048)


def test_only_zeros_are_dropped_from_initial_contents():
    cell = ("  cell $meminit_v2 $1\n    parameter \\WORDS 2\n    connect \\ADDR 1'0\n"
            "    connect \\DATA 4'{}\n    connect \\EN 2'11\n  end\n")
    ones, zeros = cell.format("0100"), cell.format("0000")
    assert without_zeros("a\n" + ones + zeros + "b\n") == "a\n" + ones + "b\n"


def test_a_critical_path_is_told_by_block():
    def hop(kind, delay, start, end):
        return {"type": kind, "delay": delay, "from": {"cell": start}, "to": {"cell": end}}
    path = [hop("clk-to-q", 0.5, "stmoe.dma.reader.a_FF", "stmoe.dma.reader.a_FF"),
            hop("routing", 1.0, "stmoe.dma.reader.a_FF", "stmoe.manager.b_LUT4"),
            hop("logic", 0.2, "stmoe.manager.b_LUT4", "stmoe.manager.b_LUT4"),
            hop("setup", 0.3, "stmoe.manager.b_LUT4", "so_FF")]
    found = place.critical_path(path, "stmoe", {"dma", "reader", "manager"})
    assert found["blocks"] == {"dma.reader": 1.5, "manager": 0.2, "harness": 0.3}
    assert (found["ns"], found["routing_ns"], found["levels"]) == (2.0, 1.0, 1)


def test_an_opensta_that_cannot_be_run_is_said_at_once(stmoe, tmp_path, monkeypatch):
    monkeypatch.setenv("STA", str(tmp_path / "none"))
    (tmp_path / "few.lib").write_text(library())
    code, out, err = stmoe("synth", "--target", "asic", "--estimate", "--liberty",
                           str(tmp_path / "few.lib"), "--build", str(tmp_path / "build"))
    assert (code, out) == (1, "") and "sta cannot be run" in err
    assert not (tmp_path / "build").exists()


def test_what_cannot_fit_is_said_at_once(stmoe, tmp_path):
    code, out, err = stmoe("synth", "--preset", "server", "--build", str(tmp_path))
    least = flow.least(PRESETS["server"])
    assert (code, out) == (1, "")
    for text in (f"{least['dsp']:,} DSPs asked for, 156 there",
                 f"{least['bram_bits']:,} bits of block RAM asked for, 3,833,856 there"):
        assert text in err
    assert not list(tmp_path.iterdir())


def test_a_total_beyond_the_part_names_the_resource():
    part = targets.part("LFE5U-25F", "ecp5")
    flow.check_fit({"lut": 24288, "dsp": 28}, part, "exact")
    with pytest.raises(flow.Unfit, match=r"^x does not fit LFE5U-25F: 29 DSPs asked .* 28 there$"):
        flow.check_fit({"lut": 24288, "dsp": 29}, part, "x")


def test_wrong_options_are_refused(stmoe, tmp_path):
    refused(stmoe("synth", "--target", "virtex"), "--target", "virtex", "ecp5")
    refused(stmoe("synth", "--part", "XC7"), "--part", "XC7", "LFE5U-85F")
    refused(stmoe("synth", "--liberty", "x.lib"), "--liberty", "--target ecp5")
    refused(stmoe("synth", "--target", "asic", "--liberty", str(tmp_path / "no.lib")), "--liberty",
            "readable")
    refused(stmoe("synth", "--target", "gowin", "--place"), "--place", "gowin")
    refused(stmoe("synth", "--target", "gowin", "--estimate"), "--estimate", "ecp5 and asic")
    refused(stmoe("synth", "--place", "--block", "dma", "--block", "csr"), "--place", "dma, csr")
    refused(stmoe("synth", "--mhz", "5000"), "--mhz", "4000")
    refused(stmoe("synth", "--mhz", "50", "--no-place"), "--mhz", "nothing is placed")
    refused(stmoe("synth", "--nm", "45"), "--nm", "--target ecp5")


def test_parts_are_whole():
    for name, part in targets.parts().items():
        assert part.target in targets.FAMILIES and part.lut and part.bram, name
    json.dumps([part.nextpnr for part in targets.parts().values()])
