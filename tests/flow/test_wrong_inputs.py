"""Wrong inputs that no verb's own test has: one line, exit 2, nothing written, nothing started."""

import json
import os
import re
from pathlib import Path

import numpy as np
import pytest

CONFIG = ("[model]\nlayers = 3\nexperts = 4\ntop_k = 2\nd_model = 64\nd_ff = 32\n")
LONG = "x" * 300


@pytest.fixture(autouse=True)
def files(tmp_path, monkeypatch):
    """A folder with wrong files, and simulators that must not be reached."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(1)
    binary = rng.integers(128, 256, 400).astype(np.uint8).tobytes()
    experts = np.argsort(rng.random((40, 2, 32)))[..., :2]
    everything = {
        "binary": binary, "binary.toml": binary, "binary.csv": binary, "binary.npz": b"PK" + binary,
        "list.toml": b"model = 3\n", "empty.toml": b"", "nul.toml": b"slots = 3\0\n",
        "part.toml": b"[model]\nlayers = 3\n", "typo.toml": b"slotz = 3\n" + CONFIG.encode(),
        "float.toml": b"slots = 3.5\n" + CONFIG.encode(),
        "date.toml": b"slots = 2020-01-01\n" + CONFIG.encode(), "deep.json": b"[" * 100_000}
    for name, content in everything.items():
        Path(name).write_bytes(content)
    Path("folder").mkdir()
    np.savez("good.npz", experts=experts, offsets=[0, 40])
    np.savez("topk.npz", experts=np.argsort(rng.random((40, 2, 32)))[..., :20], offsets=[0, 40])
    np.savez("layers.npz", experts=np.argsort(rng.random((40, 300, 8)))[..., :2], offsets=[0, 40])
    np.savez("objects.npz", experts=np.array([{}]), offsets=[0, 1])
    Path("half.npz").write_bytes(Path("good.npz").read_bytes()[:300])

    def reached(*_, **__):
        raise AssertionError("a wrong input was run")
    for place in ("stmoe.emit.generate", "stmoe_sim.simulate.simulate", "stmoe_sim.chat.Host.open"):
        monkeypatch.setattr(place, reached)


@pytest.fixture
def refused(stmoe, tmp_path):
    """Run; the one line of the refusal must hold all ``words``."""
    def run(arguments, words):
        before = sorted(tmp_path.rglob("*"))
        code, out, err = stmoe(*arguments)
        assert (code, out) == (2, ""), err
        assert re.fullmatch(r"stmoe: error: [^\n]+\n", err), err
        assert all(word in err for word in words), err
        assert sorted(tmp_path.rglob("*")) == before
    return run


@pytest.mark.parametrize(("arguments", "words"), [
    (["--config", "folder"], ["folder", "readable"]),
    (["--config", "binary.toml"], ["binary.toml", "UTF-8"]),
    (["--config", "nul.toml"], ["nul.toml", "well-formed", "line 1"]),
    (["--config", "empty.toml"], ["empty.toml: model", "table"]),
    (["--config", "list.toml"], ["list.toml: model", "table", "3"]),
    (["--config", "part.toml"], ["part.toml: model.experts", "given"]),
    (["--config", "typo.toml"], ["typo.toml: slotz", "known field", "slots"]),
    (["--config", "float.toml"], ["float.toml: slots", "2 to 4096", "3.5"]),
    (["--config", "date.toml"], ["date.toml: slots", "2020"]),
    (["--config", LONG], ["--config", "name too long"]),
    (["--preset", ""], ["preset", "tiny, edge, board, board-small, server"]),
    (["--set", "slots=-4"], ["slots", "2 to 4096", "-4"]),
    (["--set", "slots=2\nrows=8"], ["slots", "integer"]),
    (["--set", "axi_addr_bits=16"], ["axi_addr_bits", "at least 24", "16"]),
    (["--set", "max_d_ff=4096", "--set", "slots=2", "--set", "model.d_ff=16", "--set",
      "tile_bytes=4096", "--set", "axi_data_bits=512"], ["d_ff", "2 banks", "32 bus beats"]),
    (["--set", "model.shared_experts=8", "--set", "model.shared_d_ff=65536"],
     ["model.shared_d_ff", "255", "65536"]),
    (["--set", "model.d_model=16384", "--set", "model.d_ff=16384", "--set", "max_d_ff=0",
      "--set", "axi_data_bits=32"], ["d_ff", "16777215", "16384"]),
])
def test_configurations(refused, arguments, words):
    refused(["config", "check", *arguments], words)


@pytest.mark.parametrize(("path", "words"), [
    ("binary", ["binary", "a folder"]), ("binary/x", ["binary/x", "a folder"]),
    (LONG, ["--output", "name too long"])])
def test_folders_to_generate_into(refused, path, words):
    refused(["generate", "-o", path], words)


@pytest.mark.parametrize(("arguments", "words"), [
    (["--trace", "folder"], ["folder", "not a file"]),
    (["--trace", LONG], [LONG, "name too long"]),
    (["--trace", "binary"], ["binary", "not a text file"]),
    (["--trace", "binary.npz"], ["binary.npz", "not a readable"]),
    (["--trace", "half.npz"], ["half.npz", "not a readable"]),
    (["--trace", "objects.npz"], ["objects.npz", "not a readable"]),
    (["--trace", "topk.npz", "-n", "4"], ["model.top_k", "1 to 16", "20"]),
    (["--trace", "layers.npz", "-n", "4"], ["model.layers", "1 to 256", "300"]),
    (["--trace", "good.npz"], ["good", "1 to 32", "64"]),
    (["--trace", "good.npz", "-n", "4", "--warmup", "40"], ["good", "warm-up", "0 to 31", "40"]),
    (["--trace", "good.npz", "-n", "4", "--profile-tokens", "40"], ["good", "0 to 39", "40"]),
    (["--tokens", "-4"], ["--tokens", "1 to", "-4"]),
    (["--warmup", "-1"], ["--warmup", "0 to", "-1"]),
    (["--seed", "-1"], ["--seed", "0 to", "-1"]), (["--stall", "255"], ["--stall", "230", "255"]),
    (["--jobs", "0"], ["--jobs", "1 to 64", "0"]),
    (["--attention-cycles", "-1"], ["--attention-cycles", "0 to", "-1"]),
    (["--routing", "chip"], ["--routing", "host", "'chip'"]),
    (["--d-ff", "128"], ["--d-ff", "1 to 64", "128"]),
    (["--d-ff", "64"], ["--d-ff", "32, as the project's own model", "64"]),
    (["--d-ff", "40", "--trace", "good.npz", "-n", "4"], ["d_ff", "multiple of lanes = 16", "40"]),
    (["--routing", "hardware", "--trace", "good.npz", "-n", "4"],
     ["--routing", "host with --trace good.npz"]),
    (["--policy", "combined"], ["policy", "'combined'", "linear.lookahead = false"]),
    (["--policy", "combined", "--set", "linear.lookahead=true"],
     ["policy", "'combined'", "--routing hardware"]),
    (["--routing", "hardware", "--set", "router_layers=2"],
     ["router_layers", "8, every layer", "2"]),
    (["--policy", "lru,oracle"], ["policy", "on-demand", "'oracle'"]),
    (["--policy", "lru,lru"], ["policy", "different", "'lru,lru'"]),
    (["--memory", "ddr9"], ["memory", "ddr4-3200", "'ddr9'"]),
    (["--memory", "ideal", "--bandwidth-scale", "0.5"], ["bandwidth-scale", "ideal", "0.5"]),
    (["--bandwidth-scale", "nan"], ["bandwidth-scale", "0.001 to 1000", "nan"]),
    (["--technology", "3nm"], ["technology", "45nm, 7nm", "'3nm'"]),
    (["--technology", "absent.toml"], ["technology", "absent.toml"]),
    (["--technology", "binary.toml"], ["binary.toml"]),
    (["--technology", "typo.toml"], ["typo.toml", "slotz"]),
    (["--gates", "asic"], ["--gates", "ecp5", "generic", "'asic'"]),
    (["--json", "folder"], ["--json", "folder", "a file"]),
    (["--json", "binary/x.json"], ["--json", "binary/x.json", "can be written"]),
    (["--html", LONG], ["--html", "name too long"]),
    (["--json", "a", "--html", "./a"], ["--html", "another file than --json"]),
    (["--json", "a", "--timeline", "a"], ["--timeline", "another file than --json"]),
    (["--json", "a.json", "--build", "binary"], ["--build", "a folder", "binary"]),
    (["--set", "predictor=none"], ["policy", "'table'", "predictor = none"]),
    (["--set", "model.d_model=64"], ["model.d_model", "left out or 128", "own trace", "64"]),
    (["--trace", "good.npz", "-n", "4", "--set", "model.experts=64"],
     ["model.experts", "left out or 32", "good.npz", "64"]),
])
def test_replays(refused, arguments, words):
    refused(["simulate", *arguments], words)


@pytest.mark.parametrize(("arguments", "words"), [
    (["--prompt", "\udcff"], ["--prompt", "UTF-8"]),
    (["--build", "binary"], ["--build", "a folder", "binary"]),
    (["--set", "model.d_ff=64"], ["model.d_ff", "left out or 32", "64"]),
    (["--json", LONG], ["--json", "name too long"]),
    (["--policy", "combined", "--set", "linear.lookahead=true", "--routing", "host"],
     ["policy", "'combined'", "--routing hardware"]),
])
def test_conversations(refused, arguments, words):
    refused(["chat", *arguments], words)


@pytest.mark.parametrize(("arguments", "words"), [
    (["info", "good.npz", "--json", "a.png", "--plot", "a.png"], ["--plot", "than --json"]),
    (["info", "good.npz", "--phase", "warm"], ["--phase", "one of decode, prefill", "'warm'"]),
    (["import", "deep.json", "--experts", "8", "-o", "x.npz"], ["deep.json", "no readable JSON"]),
    (["record", "--prompt", "\udcff", "-o", "x.npz"], ["--prompt", "UTF-8"]),
    (["record", "--prompt", "a", "-o", "binary/x.npz"], ["--output", "can be written"]),
])
def test_traces(refused, arguments, words):
    refused(["trace", *arguments], words)


def test_what_cannot_be_opened_is_named(refused, monkeypatch):
    """Files of other users: as root there are none, so the refusal is made up."""
    def closed(path, *_, **__):
        raise PermissionError(13, "Permission denied", str(path))
    monkeypatch.setattr(Path, "open", closed)
    refused(["trace", "info", "good.npz"], ["good.npz", "Permission denied"])


def test_pipes_and_links_are_written_to_and_never_replaced(stmoe):
    os.mkfifo("pipe")
    Path("target").write_text("old")
    Path("link").symlink_to("target")
    end = os.open("pipe", os.O_RDONLY | os.O_NONBLOCK)
    for name in ("pipe", "link"):
        assert stmoe("trace", "info", "good.npz", "--json", name)[0] == 0
    assert json.loads(os.read(end, 1 << 16)) == json.loads(Path("target").read_text())
    os.close(end)
    assert Path("pipe").is_fifo() and Path("link").is_symlink()


def test_a_full_disk_is_no_traceback(stmoe, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device", "build/x")
    monkeypatch.setattr("stmoe_sim.simulate.simulate", full)
    code, _, err = stmoe("simulate", "--trace", "good.npz", "-n", "4")
    assert code == 1 and err.endswith("stmoe: error: build/x: No space left on device\n"), err


def test_a_full_disk_is_named_by_the_file(stmoe):
    if not Path("/dev/full").is_char_device():
        pytest.skip("there is no /dev/full")
    Path("full").symlink_to("/dev/full")
    code, _, err = stmoe("trace", "info", "good.npz", "--json", "full")
    assert code == 1 and err == "stmoe: error: full: No space left on device\n"
