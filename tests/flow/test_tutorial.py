"""The commands of docs/tutorial.md, run as they stand."""

import json
import re
import shlex
from pathlib import Path

import pytest
import typer

from stmoe.config import AcceleratorConfig
from stmoe_sim.cli.app import app

TEXT = (Path(__file__).parents[2] / "docs" / "tutorial.md").read_text()
LONG = "simulate", "synth"  # minutes each: measured by hand, here they have to parse
FENCES = re.findall(r"^```(\w*)\n(.*?)^```$", TEXT, re.M | re.S)
COMMANDS = [shlex.split(line) for kind, block in FENCES if kind == "sh"
            for line in block.splitlines()]
SWEEP, = (block for kind, block in FENCES if kind == "toml")
SHOWN = "".join(block for kind, block in FENCES if not kind)


def front(text):
    """Lines of a table of points without their names, which change with the model."""
    return [line.split()[1:] for line in text.splitlines() if re.match("[0-9a-f]{10} ", line)]


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tutorial")
    (folder / "sweep.toml").write_text(SWEEP)
    return folder


def test_every_command_runs(stmoe, home, monkeypatch):
    monkeypatch.chdir(home)
    printed = ""
    for program, *words in COMMANDS:
        assert program == "stmoe"
        if words[0] in LONG:
            typer.main.get_command(app).commands[words[0]].make_context(words[0], words[1:])
            config = words[words.index("--config") + 1]
            assert AcceleratorConfig.from_toml(Path(config).read_text()).slots == 16
        else:
            code, out, err = stmoe(*words)
            assert code == 0, (words, err)
            printed += out
    assert {words[1] for words in COMMANDS} == {"trace", "explore", "config", "generate", *LONG}
    told, now = front(SHOWN), {tuple(line[:3]): line for line in front(printed)}
    assert len(told) > 5
    for line in told:  # as in the document, but for what a better model changes
        for one, other in zip(line[3:], now[tuple(line[:3])][3:], strict=True):
            assert one == other == "%" or float(one) == pytest.approx(float(other), rel=0.05)
    points = {one["id"]: one for one in json.loads(Path("sweep.json").read_text())["points"]}
    name = AcceleratorConfig.from_toml(Path("point.toml").read_text()).name
    assert points[name.removeprefix("point-")]["policy.name"] == "ours"
    said = re.search(r"^# (stmoe simulate .*)$", Path("point.toml").read_text(), re.M)[1]
    asked = next(words for words in COMMANDS if words[1] == "simulate")
    assert shlex.split(said.replace("FILE", "point.toml").replace("TRACE", "fibonacci.npz")) == (
        asked[:asked.index("--json")])
    assert (Path("build/point") / "stmoe.v").stat().st_size > 100_000
