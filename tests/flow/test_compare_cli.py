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
    (["--plot", "p.pdf"], ["--plot", ".png"]),
    (["--regime", "edge", "--tokens", "9"], ["trace", "widths", "gpt-oss-20b"]),
    (["--regime", "ecp5", "--tokens", "9", "--set", "slots=1"], ["slots", "2"])])
def test_wrong_options_are_refused(stmoe, trace, options, words):
    refused(stmoe("compare", trace, *options), *words)


def test_wrong_points_are_refused(stmoe):
    refused(stmoe("validate", "--points", "0"), "--points", "0")
    refused(stmoe("validate", "--tokens", "1"), "--tokens", "1")
    refused(stmoe("validate", "--plot", "x.txt"), "--plot", ".png")


def test_rivals_are_listed_with_their_sources(stmoe, trace):
    code, out, _ = stmoe("compare", trace, "--rival", "help")
    assert code == 0
    for name, rival in RIVALS.items():
        assert name in out and rival.source.split()[0] in out


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
    for one in found.values():
        assert sum(one["causes"].values()) == pytest.approx(one["cycles_per_token"])
        assert one["name"] in out
    assert plot.read_bytes().startswith(b"\x89PNG")
