"""Resources of the presets' frequent blocks on ECP5 are those of docs/resources.json."""

import json
from pathlib import Path

import pytest

from stmoe.config import ConfigError, preset
from stmoe_sim.synth import targets
from stmoe_sim.synth.compare import differences, kept_table
from stmoe_sim.synth.synthesis import netlist_units, synthesise

KEPT = Path(__file__).parents[2] / "docs" / "resources.json"
# Those that multiply and store, and one of control: seconds each. Others are compared by hand.
FREQUENT = {
    "edge": {"storage", "WordColumn", "BankMemory_1", "DotRow", "Requantiser", "Requantiser_1",
             "SiluTable", "sequencer"},
    "tiny": {"BankMemory", "BankMemory_1", "DotRow", "SiluTable"},
    "board": {"storage", "WordColumn", "BankMemory_1", "DotRow"},
    "board-small": {"storage", "WordColumn", "DotRow"}}


@pytest.fixture(scope="module")
def units(cache):
    return netlist_units(preset("edge"), cache, lambda step: None)


def rows(units, cache, script, wanted):
    blocks = synthesise(units, "ecp5", script, cache, lambda done, of, step: None,
                        lambda unit: unit.path in wanted)
    return [{"block": block.unit.path, "count": block.times,
             **targets.resources("ecp5", block.result.cells)} for block in blocks]


def ecp5(unit):
    return targets.script("ecp5", unit)


@pytest.mark.parametrize("name", FREQUENT)
def test_frequent_blocks_take_what_is_kept(name, cache):
    made = netlist_units(preset(name), cache, lambda step: None)
    found = rows(made, cache, ecp5, FREQUENT[name])
    assert {row["block"] for row in found} == FREQUENT[name]
    assert differences(found, kept_table(KEPT, "ecp5", name)) == []


def test_lost_inference_is_noticed(units, cache):
    def without_dsp(unit):
        return [line.replace("synth_ecp5", "synth_ecp5 -nodsp -nobram") for line in ecp5(unit)]
    kept = kept_table(KEPT, "ecp5", "edge")
    lost = differences(rows(units, cache, without_dsp, {"DotRow", "SiluTable"}), kept)
    assert any("DotRow: 16 dsp were inferred, now 0: multipliers are made of" in line
               for line in lost)
    assert any("SiluTable: 1 bram were inferred, now 0: memories are made" in line
               for line in lost)


def test_logic_for_collisions_is_noticed(units, cache):
    bank = next(unit for unit in units.values() if unit.path == "BankMemory_1")
    strict = bank.text.replace("COLLISION_X_MASK 1'1", "COLLISION_X_MASK 1'0")
    assert strict != bank.text
    found = rows({bank.name: type(bank)(bank.name, strict, {}, bank.path)}, cache, ecp5,
                 {"BankMemory_1"})
    kept = {"BankMemory_1": {**kept_table(KEPT, "ecp5", "edge")["BankMemory_1"], "count": 1}}
    assert any("lut before, now" in line for line in differences(found, kept))


def test_two_per_cent_are_the_limit():
    kept = {"x": {"count": 2, "lut": 1000, "ff": 100, "dsp": 3, "bram": 1}}
    same = {"block": "x", "count": 2, "lut": 1020, "ff": 98, "dsp": 3, "bram": 1}
    assert differences([same], kept) == []
    for change, word in (({"lut": 1021}, "2 %"), ({"ff": 97}, "2 %"), ({"dsp": 4}, "3 dsp before"),
                         ({"dsp": 2}, "inferred"), ({"count": 1}, "count"),
                         ({"block": "y"}, "not in the table")):
        assert [word in line for line in differences([same | change], kept)] == [True], change


def test_wrong_tables_are_refused(tmp_path):
    for text in ("{", "[]", json.dumps({"ecp5": {"tiny": {}}})):
        (tmp_path / "kept.json").write_text(text)
        with pytest.raises(ConfigError, match="--compare"):
            kept_table(tmp_path / "kept.json", "ecp5", "edge")
