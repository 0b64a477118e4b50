"""Wrong usage of ``stmoe bringup`` and ``stmoe rehearse``, and a port that is not there."""

import json

import pytest

from support.cli import refused

PORT = ["bringup", "--port", "/dev/no-such-port"]


@pytest.mark.parametrize(("arguments", "words"), [
    ([*PORT, "--baud", "0"], ["--baud", "1 to 12000000", "0"]),
    ([*PORT, "--tokens", "0"], ["--tokens", "1 to"]),
    ([*PORT, "--timeout", "0"], ["--timeout", "0.01"]),
    ([*PORT, "--patience", "-1"], ["--patience", "0 to 3600"]),
    ([*PORT, "--policy", "lru,table"], ["--policy", "one policy"]),
    ([*PORT, "--policy", "combined"], ["combined", "look-ahead"]),
    ([*PORT, "--policy", "magic"], ["policy", "magic", "lru"]),
    ([*PORT, "--trace", "none.npz"], ["none.npz", "no such file"]),
    ([*PORT, "--json", "/"], ["--json", "not a folder"]),
    ([*PORT, "--json", "a", "--dump", "a"], ["json", "dump"]),
    (["rehearse", "--board", "de10"], ["--board", "de10", "ulx3s-85f"]),
    (["rehearse", "--mhz", "0.5"], ["--mhz", "1 to 400"]),
    (["rehearse", "--noise", "2"], ["--noise", "0 to 1", "2"]),
    (["rehearse", "--stuck", "7"], ["--stuck", "WORD:BIT"]),
    (["rehearse", "--stuck", "7:16"], ["--stuck", "0 to 15"]),
    (["rehearse", "--board", "ecpix5-85f", "--stuck", "7:1"], ["--stuck", "no SDRAM"]),
    (["bitstream", "--board", "de10"], ["--board", "de10", "ulx3s-85f"]),
    (["bitstream", "--board", "ulx3s-85f", "--mhz", "401"], ["--mhz", "0 to 400"]),
    (["bitstream", "--board", "ulx3s-85f", "--json", "/"], ["--json", "not a folder"]),
])
def test_wrong_usage_is_one_line(stmoe, tmp_path, monkeypatch, arguments, words):
    monkeypatch.chdir(tmp_path)
    refused(stmoe(*arguments), *words)
    assert not list(tmp_path.iterdir())


def test_a_port_that_is_not_there_says_what_to_check(stmoe, tmp_path):
    report = tmp_path / "up.json"
    code, out, _ = stmoe(*PORT, "--tokens", "1", "--json", report)
    assert code == 1
    assert "FAILED link" in out and "next: is the board plugged in" in out
    steps = json.loads(report.read_text())["steps"]
    assert [step["name"] for step in steps] == ["link"] and not steps[0]["passed"]
