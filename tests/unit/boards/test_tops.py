"""Tops of boards: pins, clocks, and that their presets fit; PLL settings."""

import gc
import re
import warnings

import pytest
from amaranth.hdl import UnusedElaboratable

from stmoe.boards.tops import board, boards
from stmoe.boards.tops.pll import pll_settings
from stmoe.boards.tops.top import BoardTop
from stmoe.config import ConfigError, Geometry, preset
from stmoe_sim.synth.bitstream import nextpnr_part

ALL = sorted(boards())


@pytest.fixture(scope="module")
def plans():
    """Per board the files that its platform makes of the top."""
    found = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UnusedElaboratable)  # the inside is only looked at
        for name, one in boards().items():
            inside = one.inside(Geometry(preset(one.preset)))
            plan = one.platform().prepare(BoardTop(one, inside, one.clock_hz), "top")
            found[name] = {file: text if isinstance(text, str) else text.decode()
                           for file, text in plan.files.items() if file.startswith("top.")}
            del inside, plan
            gc.collect()
    return found


@pytest.mark.parametrize("name", ALL)
def test_pins_are_where_the_board_has_them(plans, name):
    one, lpf = board(name), plans[name]["top.lpf"]
    sites = re.findall(r'LOCATE COMP "(\S+)" SITE "(\S+)"', lpf)
    assert len({site for _, site in sites}) == len(sites)
    wanted = 1 + 2 + 3 + (one.platform().default_rst is not None)  # clock, UART, LEDs, reset
    if one.sdram is not None:
        wanted += 6 + 2 + one.sdram.row_bits + 2 + 16  # clk, cke, cs, ras, cas, we; ba; a; dqm; dq
    assert len(sites) == wanted
    assert re.search(r'FREQUENCY PORT "\S+" \d', lpf)
    module = plans[name]["top.il"].rpartition("attribute \\top 1")[2].partition("\nend\n")[0]
    used = set(re.findall(r"wire width \d+ (?:input|output|inout) \d+ +\\(\S+)", module))
    assert {re.sub(r"\[\d+\]$", "", port) for port, _ in sites} == used


@pytest.mark.parametrize("name", ALL)
def test_the_pll_makes_the_clock_and_a_quarter_of_a_cycle(plans, name):
    one = board(name)
    cell = re.search(r"cell \\EHXPLLL .*?\n  end\n", plans[name]["top.il"], re.S)[0]
    value = {key: int(number, 0) for key, number in re.findall(
        r"parameter (?:signed )?\\(\w+) (\d+)\n", cell)}
    source = int(one.platform().default_clk_frequency)
    assert source / value["CLKI_DIV"] * value["CLKFB_DIV"] == one.clock_hz
    assert 400e6 <= one.clock_hz * value["CLKOP_DIV"] <= 800e6
    assert value["CLKOS_DIV"] == value["CLKOP_DIV"]
    assert 4 * (value["CLKOS_CPHASE"] - value["CLKOP_CPHASE"]) == value["CLKOP_DIV"]


def test_a_clock_that_no_pll_makes_is_named_with_its_neighbours():
    assert pll_settings(25_000_000, 37_500_000).feedback == 3
    with pytest.raises(ConfigError, match=r"clock_hz must be what a PLL makes of 25 MHz, as .*"
                                          r"37500000, .*, not 40000000"):
        pll_settings(25_000_000, 40_000_000)


def test_experts_that_do_not_fit_a_board_are_named():
    with pytest.raises(ConfigError, match=r"at most 33,554,432 bytes, the memory of ulx3s-85f"):
        board("ulx3s-85f").inside(Geometry(preset("server")))
    with pytest.raises(ConfigError, match=r"--board must be one of .*ulx3s-85f.*, not 'de10'"):
        board("de10")


def test_parts_are_told_to_nextpnr():
    assert nextpnr_part("LFE5U-85F", "BG381", "6") == [
        "--85k", "--package", "CABGA381", "--speed", "6"]
    assert nextpnr_part("LFE5UM5G-85F", "BG554", "8")[0] == "--um5g-85k"
    assert nextpnr_part("LFE5UM-45F", "MG285", "7")[:3] == ["--um-45k", "--package", "CSFBGA285"]
