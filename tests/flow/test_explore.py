"""``stmoe explore``: sweep files, points and their figures, choosing, the command line."""

import json

import numpy as np
import pyarrow.parquet as pq
import pytest

from stmoe.config import AcceleratorConfig, ConfigError
from stmoe_golden.metrics import accuracy
from stmoe_golden.trace import save
from stmoe_sim.compare import compare
from stmoe_sim.energy import technology
from stmoe_sim.explore import choose, workers
from stmoe_sim.explore.evaluate import code_digest
from stmoe_sim.explore.run import bench
from stmoe_sim.explore.sweep import load_sweep
from stmoe_sim.rivals import RIVALS
from support.cli import refused
from support.sweeps import SMALL, SWEEP
from support.synthetic import synthetic


@pytest.mark.parametrize("text, words", [
    ("[grid]\nconfig.slotz = [1]\n", ["[grid]: config.slotz", "slots", "sweep.toml"]),
    ("[grid]\nslots = [1]\n", ["slots", "config", "memory"]),
    ("[grid]\nconfig.slots = 4\n", ["[grid]: config.slots", "list", "4"]),
    ("[grid]\nconfig.model.layers = [4]\n", ["config.model.layers", "known"]),
    ('[set]\npolicy.name = "magic"\n', ["[set]: policy.name", "magic", "pre-gated"]),
    ('[set]\ntrace.file = "none.npz"\n', ["trace.file", "none.npz"]),
    ("[set]\ntrace.tokens = 0\n", ["trace.tokens", "1", "0"]),
    ("[set]\nmemory.cas = -1\n", ["memory.cas", "-1"]),
    ('[set]\npolicy.worth = "yes"\n', ["policy.worth", "true"]),
    ("[random]\ncount = 3\n", ["count", "3"]),
    ("[random]\nconfig.slots = [2]\n", ["count"]),
    ("[random]\ncount = 2\nconfig.slots = {from = 9, to = 3}\n", ["config.slots", "from"]),
    ('[random]\ncount = 2\nconfig.slots = {from = 0, to = 3, scale = "log"}\n', ["log", "0"]),
    ("[random]\ncount = 2\nconfig.slots = {from = 2, to = 3, by = 1}\n", ["by", "step"]),
    ("[set]\nconfig.slots = 4\n[grid]\nconfig.slots = [4]\n", ["config.slots", "one place"]),
    ('[grid]\n"config.rows,config.lanes" = [[4, 8], [4]]\n', ["config.rows", "2 values"]),
    ("[grid]\nconfig.slots = [" + "4," * 400 + "]\nconfig.pes = [" + "2," * 400 + "]\n",
     ["160000", "100000"]),
    ("sweep = 1\n", ["sweep", "grid"]), ("[grid\n", ["TOML"]), ("name = 3\n", ["name", "3"]),
    ('name = "a/b"\n', ["name", "a/b"])])
def test_wrong_sweeps_are_refused(stmoe, tmp_path, text, words):
    path = tmp_path / "sweep.toml"
    path.write_text(text)
    refused(stmoe("explore", path, "-o", tmp_path / "out"), *words)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("options, words", [
    (["--jobs", "0"], ["--jobs", "0"]), (["--toml", "x.toml"], ["--toml", "--pick"]),
    (["--where", "speed>2"], ["--where", "speedup"]), (["--where", "slots<many"], ["number"]),
    (["--pick", "nothing"], ["--pick", "nothing"]),
    (["--pick", "best:slots"], ["best:", "slots", "speedup"]),
    (["--technology", "3nm"], ["technology", "3nm"]),
    (["--scheduler", "tcp://127.0.0.1:9"], ["--scheduler", "tcp://127.0.0.1:9"])])
def test_wrong_options_are_refused(stmoe, home, tmp_path, options, words):
    refused(stmoe("explore", home / "sweep.toml", "-o", tmp_path / "out", *options), *words)


def test_a_missing_package_is_named(stmoe, home, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    refused(stmoe("explore", home / "sweep.toml"), "stmoe[explore]", "pyarrow")


def test_points_meet_grid_and_draws(sweep_of):
    text = SMALL + ('[grid]\n"config.rows,config.lanes" = [[4, 8], [8, 8]]\n[random]\ncount = {}\n'
                    'seed = 5\nconfig.slots = {{from = 2, to = 200, scale = "log"}}\n'
                    'regime.bandwidth_scale = {{from = 0.5, to = 2.0, step = 0.5}}\n'
                    "config.pes = [1, 2]\n")
    few, many = sweep_of(text.format(10)), sweep_of(text.format(40))
    assert len(few.points) == 20 and 70 < len(many.points) <= 80  # some draws coincide
    assert {point.id for point in few.points} < {point.id for point in many.points}
    for point in many.points:
        values = point.values
        assert (values["config.rows"], values["config.lanes"]) in ((4, 8), (8, 8))
        assert 2 <= values["config.slots"] <= 200 and isinstance(values["config.slots"], int)
        assert values["regime.bandwidth_scale"] in (0.5, 1.0, 1.5, 2.0)
    assert set(many.varied) == {"config.rows", "config.slots", "regime.bandwidth_scale",
                                "config.pes"}
    low = sum(point.values["config.slots"] < 20 for point in many.points)
    assert 20 < low < 60  # half of them, on a logarithmic scale


def test_an_id_is_of_contents_not_of_places(home, tmp_path):
    (tmp_path / "t.npz").write_bytes((home / "t.npz").read_bytes())
    (tmp_path / "sweep.toml").write_text(SWEEP)
    here, there = (load_sweep(folder / "sweep.toml", "c").points for folder in (home, tmp_path))
    assert [point.id for point in here] == [point.id for point in there]
    other = load_sweep(home / "sweep.toml", "another model").points
    assert not {point.id for point in here} & {point.id for point in other}
    save(synthetic(seed=2, layers=3, experts=16, top_k=2, tokens=60, sequences=3),
         tmp_path / "t.npz")
    there = load_sweep(tmp_path / "sweep.toml", "c").points
    assert not {point.id for point in here} & {point.id for point in there}


def test_points_of_a_machine_follow_one_another(sweep_of):
    found = sweep_of(SMALL + '[grid]\npolicy.name = ["lru", "ours"]\nconfig.slots = [4, 8, 9]\n')
    assert [point.values["config.slots"] for point in found.points] == [4, 4, 8, 8, 9, 9]
    assert [len(batch) for batch in workers.batches(found.points)] == [2, 2, 2]


@pytest.fixture(scope="module")
def done(home):
    """The sweep of :data:`SWEEP`, evaluated in this process."""
    found = load_sweep(home / "sweep.toml", f"{code_digest()}-7nm")
    here = bench(found, technology("7nm"))
    return found, here, {point.id: here.evaluate(point) for point in found.points
                         if point.values["config.slots"] > 1}


def test_figures_are_those_of_compare(done):
    found, here, records = done
    point = next(one for one in found.points if one.values["config.slots"] == 12)
    theirs = {one["name"]: one for one in compare(
        here.case(point.values), [RIVALS[name] for name in ("on-demand", "ours", "oracle")],
        technology("7nm"))}
    for point in found.points:
        if point.values["config.slots"] == 12 and point.values["policy.name"] in theirs:
            one, other = records[point.id], theirs[point.values["policy.name"]]
            assert one["speedup"] == pytest.approx(other["speedup"])
            assert one["energy_mj"] == pytest.approx(other["energy_pj_per_token"] * 1e-9)
            assert one["mb_per_token"] == pytest.approx(other["bytes_per_token"] / 1e6)
            assert np.mean(one["coverage_by_layer"]) == pytest.approx(other["coverage"])
            causes = [value for name, value in one.items() if name.startswith("cause_")]
            assert sum(causes) == pytest.approx(one["cycles_per_token"])


def test_recall_is_that_of_its_definition(done):
    found, here, records = done
    point = next(one for one in found.points if one.values["policy.name"] == "linear"
                 and one.id in records)
    case = here.case(point.values)
    scores, threshold = case.scores("linear")
    counted = slice(case.window.warmup, None)
    named = [[(int(e), 0) for e in np.flatnonzero(scores[t, layer] >= threshold)]
             for t in range(len(scores)) for layer in (1, 2, 0)]  # of the next layer
    quality = accuracy(case.routing[counted], case.first[counted],
                       named[3 * case.window.warmup:], 16)
    assert records[point.id]["recall"] == pytest.approx(quality.recall)
    assert len(records[point.id]["recall_by_token"]) == 6
    oracle = next(records[one.id] for one in found.points if one.id in records
                  and one.values["policy.name"] == "oracle")
    assert oracle["recall"] == oracle["precision"] == 1 and oracle["oracle"]


def test_settings_of_a_policy_are_changed(sweep_of):
    found = sweep_of(SMALL + '[set.policy]\nname = "lru"\npredictor = "table"\nlimit = 1.5\n'
                             "[grid]\npolicy.threshold = [1, 99]\n")
    here = bench(found, technology("7nm"))
    some, none = (here.evaluate(point) for point in found.points)
    assert some["precision"] is not None and none["precision"] is None  # nothing reaches 99
    plain = sweep_of(SMALL + '[grid]\npolicy.name = ["lru"]\n').points[0]
    assert none["coverage"] <= here.evaluate(plain)["coverage"]


@pytest.mark.parametrize("text, words", [
    ("[set.regime]\nlink_gbps = 5\n", ["regime.link_gbps", "lpddr4-3200", "none"]),
    ('[set.regime]\npart = "none"\n', ["regime.link_gbps", "above 0"]),
    ("trace.skip = 1000\n", ["trace.skip", "at most"]),
    ('[set.policy]\nname = "fate"\n', ["policy.name", "fate", "lookahead"]),
    ('[set.policy]\nname = "lru"\nlimit = 2\n', ["policy.predictor", "lru"]),
    ("[set.config]\nrows = 5\n", ["rows", "power of two", "5"])])
def test_points_that_cannot_be_say_why(sweep_of, text, words):
    found = sweep_of(SMALL + text)
    line, = workers.evaluate(bench(found, technology("7nm")), found.points)
    assert all(word in line["error"] for word in words), line["error"]


def test_a_link_in_place_of_a_part(sweep_of):
    found = sweep_of(SMALL + '[set.regime]\npart = "none"\nlink_gbps = 0.4\nlink_ns = 500\n')
    here = bench(found, technology("7nm"))
    slow = here.evaluate(found.points[0])
    fast = here.evaluate(sweep_of(SMALL).points[0])
    assert slow["energy_mj"] is None and slow["link_cycles"] == pytest.approx(
        2 * fast["link_cycles"])
    assert slow["milliseconds"] > fast["milliseconds"]


# Choosing.

def _line(name, speedup, sram, energy, **more):
    return {"id": name, "speedup": speedup, "sram_mm2": sram, "energy_mj": energy, "area_mm2": sram,
            "error": None, "oracle": False, "trace.file": "t", **more}


def test_the_front_has_what_nothing_is_better_than():
    lines = [_line("a", 2.0, 10, 1.0), _line("b", 1.5, 5, 1.0), _line("c", 1.4, 6, 1.0),
             _line("d", 1.0, 9, 0.5), _line("e", 9.0, 1, 0.1, oracle=True),
             _line("f", 9.0, 1, 0.1, error="why"), _line("g", 1.0, 99, 9, **{"trace.file": "u"})]
    assert sorted(choose.front(lines)) == ["a", "b", "d", "g"]


def test_the_best_meets_the_conditions():
    lines = [_line("a", 2.0, 10, 1.0), _line("b", 1.5, 5, 1.0), _line("o", 9.0, 1, 1, oracle=True),
             _line("n", 1.9, 3, None)]
    met = choose.conditions(["sram_mm2<=6", "trace.file=t"], ["sram_mm2", "trace.file"])
    assert choose.pick("best:speedup", lines)["id"] == "a"
    assert choose.pick("best:speedup", [one for one in lines if met(one)])["id"] == "n"
    assert choose.pick("best:sram_mm2", lines)["id"] == "n"
    assert choose.pick("o", lines)["id"] == "o"
    for wrong, word in (("x", "id"), ("best:id", "speedup"), ("worst:speedup", "best:")):
        with pytest.raises(ConfigError, match=word):
            choose.check_pick(wrong, ["a"])
    with pytest.raises(ConfigError, match="slots"):
        choose.pick("f", [_line("f", None, None, None) | {"error": "slots must be 2"}])
    with pytest.raises(ConfigError, match="--where"):
        choose.pick("best:speedup", [])


# The command line, whole.

def test_a_sweep_from_file_to_configuration(stmoe, home, tmp_path):
    out, file = tmp_path / "out", tmp_path / "all.json"
    chosen, timeline = tmp_path / "chosen.toml", tmp_path / "token.json"
    asked = ["explore", home / "sweep.toml", "-o", out]
    code, text, err = stmoe(*asked, "--json", file, "--jobs", 2)
    assert code == 0, err
    found = json.loads(file.read_text())
    assert (found["points"][0]["id"] in text) == (found["points"][0]["id"] in found["front"])
    assert found["failed"] == 5 and text.count("has no figures: slots must be") == 5
    table = pq.read_table(out / "results.parquet")
    assert table.num_rows == 15 and set(table["config.slots"].to_pylist()) == {1, 6, 12}
    assert (out / "report.html").stat().st_size > 1e6
    before = (out / "results.parquet").read_bytes()

    code, text, err = stmoe(*asked, "--pick", "best:speedup", "--where", "config.slots=6",
                            "--toml", chosen, "--timeline", timeline)
    assert code == 0, err
    assert (out / "results.parquet").read_bytes() == before  # nothing was evaluated again
    config = AcceleratorConfig.from_toml(chosen.read_text())
    best = max((one for one in found["points"] if one["config.slots"] == 6 and not one["oracle"]),
               key=lambda one: one["speedup"])
    assert config.slots == 6 and config.name == f"point-{best['id']}" and best["id"] in text
    assert f"{config.hash:016x}" in text and "stmoe simulate" in chosen.read_text()
    spans = [one for one in json.loads(timeline.read_text())["traceEvents"] if one["ph"] == "X"]
    assert {one["name"] for one in spans if one["tid"] == 0} == {f"layer {i}" for i in range(3)}
    code, text, _ = stmoe("config", "show", "--config", chosen)
    assert code == 0 and "slots = 6" in text
