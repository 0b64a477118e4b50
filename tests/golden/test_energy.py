"""Energy from counters, against sums made by hand."""

import tomllib
from pathlib import Path

import pytest

from stmoe.config import Geometry, preset
from stmoe_golden.energy import ACTIONS, COMPONENTS, EnergyError, Technology, activity, energy

TABLES = Path(__file__).parents[2] / "sim/stmoe_sim/energy"
COUNTERS = dict(routed=10, shared_hit=1, shared_late=2, shared_missed=3, mac_words=1000,
                bank_reads=1001, bank_writes=500, side_reads=300, map_reads=40, table_reads=50,
                table_writes=20, score_adds=700, beats_link=8340, weight_reads=30, weight_writes=10,
                rows_added=20, row_beats_read=7, row_beats_written=5)
TINY = Geometry(preset("tiny"))


def load(name="45nm"):
    return Technology.load(TABLES / f"{name}.toml", TABLES / "memory.toml")


def test_energy_by_hand_45nm():
    # tiny: 64-byte words, 64 x 32 experts of 6672 bytes = 834 beats of 8, 16-byte parameter rows;
    # in memory with 14 beats of CRCs.
    g = TINY
    assert (g.content_beats, g.blob_beats, g.side_bytes, g.slot_bits) == (834, 848, 16, 7)
    found = energy(COUNTERS, TINY, load(), "lpddr4-3200")
    used = 10 + 1 + 2 + 3
    assert found["compute"] == pytest.approx(
        1000 * 64 * 0.3 + used * (3 * 32 + 64) * 3.2 + used * 32 * (10 * 16 / 64 + 3.1)
        + used * 64 * 3.2)
    assert found["buffer"] == pytest.approx(
        1001 * 8 * 10 + 500 * 10 + 300 * 2 * 10)
    assert found["manager"] == pytest.approx(40 * 10 * 9 / 64)
    weights = 8 * (1 + 10 * 32) * 320 / 8  # bytes, of rows of 320 bits: five macros
    access = 5 * 10 * (max(8192, weights / 5) / 8192) ** 0.5
    assert found["prediction"] == pytest.approx(
        70 * 10 * 4 * 7 / 64 + 700 * 0.03 + 40 * access + 30 * 32 * 0.1)
    assert found["memory"] == pytest.approx((8340 + 12) * 64 * 8.0)


def test_four_bits_are_half_the_buffer_and_scales():
    found = energy(COUNTERS, Geometry(TINY.config.replace(weight_group=32)), load(), "ddr4-3200")
    assert found["compute"] == energy(COUNTERS, TINY, load(), "ddr4-3200")["compute"]
    assert found["buffer"] == pytest.approx(1001 * (4 + 2) * 10 + 500 * 10 + 300 * 2 * 10)


def test_energy_by_hand_7nm_differs_where_the_logic_does():
    found = energy(COUNTERS, TINY, load("7nm"), "lpddr4-3200")
    assert found["manager"] == pytest.approx(40 * 7.5 * 9 / 64)
    assert found["memory"] == pytest.approx((8340 + 12) * 64 * 8.0)
    assert load("7nm").price("mac", TINY, "ddr4") == pytest.approx(0.1)


@pytest.mark.parametrize("name", COUNTERS)
def test_every_counter_that_is_read_matters(name):
    more = COUNTERS | {name: COUNTERS[name] + 1000}
    assert activity(more, TINY) != activity(COUNTERS, TINY)
    total = sum(energy(COUNTERS, TINY, load(), "ddr4-3200").values())
    assert sum(energy(more, TINY, load(), "ddr4-3200").values()) > total


@pytest.mark.parametrize(("bits", "size", "want"), [
    (64, 8192, 10), (64, 32768, 20), (64, 1 << 20, 100), (64, 512, 10), (64, 16384, 200 ** 0.5),
    (32, 8192, 5), (128, 65536, 40), (4096, 64 * 8192, 640),
    (64, 32 << 20, 500),
])
def test_sram_energy_follows_size_and_width(bits, size, want):
    assert load().sram_pj(bits, size) == pytest.approx(want)


@pytest.mark.parametrize(("memory", "want"), [
    ("ddr4-3200", 1300 / 64), ("DDR4-3200 x0.5", 1300 / 64), ("lpddr4-3200 x2", 8),
    ("lpddr5-6400", 7), ("hbm2-2000", 3.9), ("ideal", 0)])
def test_memories_are_found_by_family(memory, want):
    assert load().price("link_beat", TINY, memory) == want


def test_a_memory_without_an_entry_is_an_error():
    with pytest.raises(EnergyError, match=r"memory 'rldram3-2400' has no entry; known are ddr4"):
        energy(COUNTERS, TINY, load(), "rldram3-2400")


@pytest.mark.parametrize("action", [name for name in ACTIONS if name != "link_beat"])
def test_an_action_without_an_entry_is_an_error_that_names_it(action):
    table = load()
    del table.actions[action]
    with pytest.raises(EnergyError, match=f"action '{action}' has no entry"):
        energy(dict.fromkeys(COUNTERS, 0), TINY, table, "ddr4-3200")


def test_a_missing_counter_is_an_error():
    with pytest.raises(EnergyError, match="counter 'map_reads' is missing"):
        energy({k: v for k, v in COUNTERS.items() if k != "map_reads"}, TINY, load(), "ddr4")


@pytest.mark.parametrize("name", ["45nm", "7nm", "osu018"])
def test_every_entry_has_unit_source_and_derivation(name):
    table = load(name)
    assert set(table.actions) == set(ACTIONS) - {"link_beat"}
    for entry in (*table.actions.values(), *table.memories.values()):
        assert entry.unit and entry.source and entry.derivation
    assert set(COMPONENTS) == {"compute", "buffer", "manager", "prediction", "memory"}


MAC = '[action.mac]\npj = 0.3\nunit = "pJ"\nsource = "s"\nderivation = "d"\n'


@pytest.mark.parametrize(("text", "message"), [
    ("name = ", "Invalid value"), ("", "name is missing"),
    (MAC.replace("0.3", "-1"), r"action\.mac\.pj must be a number .* not -1"),
    (MAC.replace("0.3", "nan"), "must be a number"), (MAC.replace("0.3", '"x"'), "not 'x'"),
    (MAC.replace('"s"', '""'), r"mac\.source must be given"),
    (MAC.replace("derivation", "reason"), "unknown field 'reason'"),
    (MAC.replace("pj = 0.3\n", ""), "either pj or sram"), (MAC + "sram = true\n", "either pj or"),
    (MAC.replace("mac", "mca"), "no such action"), ("[actions]\n", "unknown table 'actions'"),
    ("[sram]\naccess_bits = 64\nsource = 's'\npoints = [[8, 1]]\n", "at least two"),
    ("[sram]\naccess_bits = 64\nsource = 's'\npoints = [[8, 1], [8, 2]]\n", "rise in bytes"),
    ("[sram]\naccess_bits = 32\nsource = 's'\npoints = [[8, 1], [9, 2]]\n", "access_bits = 64"),
    ("[memory.x]\npj_per_bit = 1\nunit = 'u'\nsource = 's'\n", "derivation must be given"),
])
def test_a_wrong_table_is_refused_with_the_entry(tmp_path, text, message):
    path = tmp_path / "t.toml"
    path.write_text(text)
    with pytest.raises(EnergyError, match=message):
        Technology.load(path)


def test_an_entry_given_twice_is_refused(tmp_path):
    path = tmp_path / "t.toml"
    path.write_text('name = "t"\n' + MAC)
    with pytest.raises(EnergyError, match=r"action\.mac is given twice"):
        Technology.load(path, TABLES / "45nm.toml")


def test_the_hand_sum_would_notice_a_wrong_price(tmp_path):
    text = (TABLES / "45nm.toml").read_text().replace("pj = 0.3\n", "pj = 0.31\n")
    assert tomllib.loads(text)["action"]["mac"]["pj"] == 0.31
    (tmp_path / "t.toml").write_text(text)
    wrong = Technology.load(tmp_path / "t.toml", TABLES / "memory.toml")
    with pytest.raises(AssertionError):
        assert energy(COUNTERS, TINY, wrong, "ddr4") == pytest.approx(
            energy(COUNTERS, TINY, load(), "ddr4"), rel=1e-6)
