"""``stmoe compare`` and ``stmoe validate``: what they refuse, and a comparison whole."""

import json

import pytest

from stmoe_golden.trace import save
from stmoe_sim.rivals import RIVALS
from support.cli import refused
from support.synthetic import synthetic


@pytest.fixture(scope="module")
def trace(tmp_path_factory):
    path = tmp_path_factory.mktemp("trace") / "t.npz"
    save(synthetic(layers=3, experts=16, top_k=2, tokens=60, sequences=3), path)
    return str(path)


@pytest.mark.parametrize("options, words", [
    (["--regime", "moon"], ["--regime", "moon", "edge"]),
    (["--rival", "magic"], ["rival", "magic", "pre-gated"]),
    (["--rival", "lru,lru"], ["rival", "different"]),
    (["--tokens", "0"], ["--tokens", "0"]),
    (["--tokens", "9", "--profile-passes", "0"], ["--profile-passes", "0", "1"]),
    (["--plot", "p.pdf"], ["--plot", ".png"]),
    (["--regime", "edge", "--tokens", "9"], ["trace", "widths", "gpt-oss-20b"]),
    (["--regime", "ecp5", "--tokens", "9", "--set", "slots=1"], ["slots", "2"]),
    (["--buffer", "3 apples"], ["--buffer", "3 apples", "KiB"]),
    (["--buffer", "1KiB"], ["--buffer", "1024", "65536"]),
    (["--buffer", "17GiB"], ["--buffer", "17179869184"]),
    (["--tokens", "9", "--memory", "tape"], ["memory", "tape", "flash"]),
    (["--context", "-1"], ["--context", "-1", "0"])])
def test_wrong_options_are_refused(stmoe, trace, options, words):
    refused(stmoe("compare", trace, *options), *words)


def test_wrong_points_are_refused(stmoe):
    refused(stmoe("validate", "--points", "0"), "--points", "0")
    refused(stmoe("validate", "--tokens", "1"), "--tokens", "1")
    refused(stmoe("validate", "--plot", "x.txt"), "--plot", ".png")
    refused(stmoe("validate", "--netlist", "9"), "--netlist", "9", "7")


def test_rivals_are_listed_with_their_sources(stmoe, trace):
    code, out, _ = stmoe("compare", trace, "--rival", "help")
    assert code == 0
    for name, rival in RIVALS.items():
        assert name in out and rival.source.split()[0] in out


def test_another_buffer_memory_and_context(stmoe, trace, tmp_path):
    found = []
    for options in ([], ["--buffer", "64KiB", "--memory", "flash", "--context", "4096"]):
        file = tmp_path / "out.json"
        code, _, err = stmoe("compare", trace, "--regime", "ecp5", "--tokens", "6", "--rival",
                             "lru", "--json", str(file), *options)
        assert code == 0, err
        found.append(json.loads(file.read_text()))
    assert (found[0]["slots"], found[1]["slots"]) == (16, 4)
    assert found[1]["attention_cycles"] > found[0]["attention_cycles"]
    cycles = [one["rivals"][0]["cycles"] for one in found]
    assert cycles[1] > 5 * cycles[0]


def test_rivals_predict_with_the_options_and_the_profile_that_are_asked_for(stmoe, trace, tmp_path):
    plain, small, often = ([], ["--set", "linear.features=[[1, 0]]", "--set", "linear.leaders=[]"],
                           ["--profile-passes", "3"])
    found = []
    for options in (plain, small, often):
        file = tmp_path / "out.json"
        code, out, err = stmoe("compare", trace, "--regime", "ecp5", "--tokens", "20", "--rival",
                               "linear,st-moe-published", "--json", str(file), *options)
        assert code == 0, err
        assert (", 3 times over" in out.replace("\n", " ")) == (options is often)
        found.append(json.loads(file.read_text()))
    learned, table = ([one["rivals"][at]["cycles_per_token"] for one in found] for at in (0, 1))
    assert len(set(learned)) == 3, "a smaller predictor, or one that learned more, is another one"
    assert len(set(table)) == 1, "the published table is counted, however often"
    assert [one["profile_passes"] for one in found] == [1, 1, 3]


def test_rivals_side_by_side(stmoe, trace, tmp_path):
    file, plot = tmp_path / "out.json", tmp_path / "out.png"
    code, out, err = stmoe("compare", trace, "--regime", "ecp5", "--tokens", "12", "--json",
                           str(file), "--plot", str(plot))
    assert code == 0, err
    found = {one["name"]: one for one in json.loads(file.read_text())["rivals"]}
    assert set(found) == set(RIVALS) - {"fate"}  # the trace has no look-ahead
    assert found["on-demand"]["speedup"] == 1 and found["on-demand"]["coverage"] == 0
    assert found["oracle"]["share_of_oracle"] == pytest.approx(1)
    assert found["adap-gating"]["bytes_per_token"] <= found["lru"]["bytes_per_token"]
    assert found["ours-whole"]["cycles"] >= found["ours"]["cycles"]
    assert found["on-demand-whole"]["cycles"] >= found["on-demand"]["cycles"]
    assert found["replication"]["cycles"] == found["static"]["cycles"]
    for one in found.values():
        assert sum(one["causes"].values()) == pytest.approx(one["cycles_per_token"])
        assert one["name"] in out
    assert plot.read_bytes().startswith(b"\x89PNG")
