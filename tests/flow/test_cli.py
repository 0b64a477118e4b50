import json
import re

import pytest

from stmoe.config import PRESETS, AcceleratorConfig
from stmoe_sim.cli.options import load_config, parse_overrides


def test_show_prints_toml_that_check_accepts(stmoe, tmp_path):
    code, text, _ = stmoe("config", "show", "--preset", "edge", "--set", "slots=24")
    assert code == 0
    config = AcceleratorConfig.from_toml(text)
    assert config == PRESETS["edge"].replace(slots=24)
    path = tmp_path / "own.toml"
    path.write_text(text)
    code, text, _ = stmoe("config", "check", "--config", path)
    assert code == 0 and f"{config.hash:016x}" in text


def test_json_outputs(stmoe):
    shown = json.loads(stmoe("config", "show", "--json")[1])
    assert shown["hash"] == f"{PRESETS['tiny'].hash:016x}"
    assert shown["config"] == PRESETS["tiny"].to_dict()
    assert set(json.loads(stmoe("config", "list", "--json")[1])) == set(PRESETS)
    assert json.loads(stmoe("config", "check", "--json")[1])["legal"] is True
    assert all(name in stmoe("config", "list")[1] for name in PRESETS)


@pytest.mark.parametrize(("arguments", "words"), [
    (["--preset", "huge"], ["preset", "'huge'", "tiny, edge, board, board-small, server"]),
    (["--set", "slots=1"], ["slots", "from 2 to 4096", "not 1"]),
    (["--set", "slots=many"], ["slots", "integer", "'many'"]),
    (["--set", "model.d_ff=33"], ["model.d_ff", "multiple of lanes = 16", "33"]),
    (["--set", "model.colour=1"], ["model.colour", "known field"]),
    (["--set", "colour=1"], ["colour", "known field", "slots"]),
    (["--set", "model_d_ff=64"], ["model_d_ff", "model.d_ff=64"]),
    (["--set", "slots"], ["--set", "FIELD=VALUE", "'slots'"]),
    (["--set", "slots=8", "--set", "slots=9"], ["--set", "once"]),
    (["--set", "slots=2", "--set", "max_d_ff=128", "--set", "model.d_ff=16", "--set",
      "tile_bytes=4096", "--set", "axi_data_bits=512"],
     ["d_ff", "two experts", "half of it, 32 bus beats", "64, to stream", "128"]),
    (["--config", "absent.toml"], ["--config", "absent.toml", "No such file"]),
    (["--preset", "tiny", "--config", "x.toml"], ["--preset and --config", "one of the two"]),
])
def test_wrong_input_gives_one_message_and_exit_2(stmoe, arguments, words):
    for verb in (["config", "check"], ["config", "show"], ["generate", "-o", "unused"]):
        code, out, err = stmoe(*verb, *arguments)
        assert (code, out) == (2, "")
        assert re.fullmatch(r"stmoe: error: [^\n]+\n", err), err
        assert all(word in err for word in words), err


@pytest.mark.parametrize("arguments", [
    ["frobnicate"], ["config", "list", "--colour"], ["generate"]])
def test_wrong_usage_exits_2(stmoe, arguments):
    code, _, err = stmoe(*arguments)
    assert code == 2 and "Traceback" not in err


def test_broken_toml_and_binary_file(stmoe, tmp_path):
    path = tmp_path / "broken.toml"
    path.write_text("slots = = 3")
    code, _, err = stmoe("config", "check", "-c", path)
    assert code == 2 and "TOML must be well-formed" in err
    path.write_bytes(b"\xff\xfe\x00")
    code, _, err = stmoe("config", "check", "-c", path)
    assert code == 2 and "UTF-8" in err


def test_generate_refuses_a_file_as_folder(stmoe, tmp_path):
    path = tmp_path / "file"
    path.write_text("")
    code, _, err = stmoe("generate", "-o", path)
    assert code == 2 and "--output must be a folder" in err


def test_version(stmoe):
    assert stmoe("--version")[1] == stmoe("version")[1] == "stmoe 0.1.0\n"


def test_overrides_parse_as_toml_values():
    assert parse_overrides(["slots=8", "model.d_ff = 64", "predictor=none", "name=5"]) == {
        "slots": 8, "model_d_ff": 64, "predictor": "none", "name": "5"}
    assert load_config("tiny", None, ["predictor=none"]).predictor == "none"


def test_a_defect_keeps_its_traceback(monkeypatch, stmoe):
    def broken(*_):
        raise ValueError("a defect")
    monkeypatch.setattr("stmoe_sim.cli.config.load_config", broken)
    with pytest.raises(ValueError, match="a defect"):
        stmoe("config", "check")
