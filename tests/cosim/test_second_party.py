"""The prefetch DMA's AXI port against cocotbext-axi, which is not ours, buses narrow and wide."""

import json
import os
import random
import zlib

import pytest
from cocotb_tools.check_results import get_results
from cocotb_tools.runner import get_runner

from stmoe.emit import emit_verilog
from stmoe_sim.flat_dma import FlatDma
from stmoe_sim.verilator import toolchain_env
from support.dma_bench import geometry

EXPERTS = 8  # of the bench's geometry, but for the shared one


def image_of(g, rng):
    """Experts one behind the other, at random, tiles closed with their CRCs."""
    size, tile = g.axi_bytes, g.tile_beats
    image = bytearray(rng.randbytes(EXPERTS * g.stride))
    for expert in range(EXPERTS):
        first = 0
        for beat in range(g.blob_beats if g.config.integrity else 0):
            if (beat + 1) % tile == 0 or beat + 1 == g.blob_beats:
                at = expert * g.stride + beat * size
                piece = image[expert * g.stride + first * size:at]
                image[at:at + size] = zlib.crc32(piece).to_bytes(4, "little") + bytes(size - 4)
                first = beat + 1
    return bytes(image)


def failed(tmp_path, monkeypatch, g, *, seed=1, shift=0, pause=0.3, count=12, errors=0.0,
           lasting=-1, runs=(False, True)):
    """Runs with the answers in order and in any that failed, of those that were asked for.

    ``shift``: bytes by which experts are read apart too far. ``errors``: share of bursts answered
    in any order with an error, as often as retries make good. ``lasting``: expert whose first burst
    always is.
    """
    for name, value in toolchain_env().items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("MAKEFLAGS", "CFG_CXXFLAGS_PCH_I=-include CFG_LDLIBS_THREADS=-pthread")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([os.path.dirname(os.path.dirname(__file__)),
                                                      os.environ.get("PYTHONPATH", "")]))
    (tmp_path / "stmoe.v").write_text(emit_verilog(g.config, top=lambda _: FlatDma(g)))
    runner = get_runner("verilator")
    runner.build(sources=[tmp_path / "stmoe.v"], hdl_toplevel="stmoe", build_dir=tmp_path / "sim",
                 build_args=["-Wno-fatal", "-Wno-lint", "-Wno-style"], always=True,
                 log_file=tmp_path / "build.log")
    rng, bad = random.Random(seed), []
    slots = rng.sample(range(g.slots), min(g.slots, count))
    job = {"seed": seed, "blob_beats": g.blob_beats, "stride": g.stride, "bytes": g.axi_bytes,
           "tile_beats": g.tile_beats if g.config.integrity else 0, "pause": pause,
           "image": image_of(g, rng).hex(), "shift": shift, "errors": errors,
           "lasting": lasting, "retries": g.config.retries,
           "orders": [[rng.choice(("demand", "prefetch")), rng.randrange(EXPERTS), slot]
                      for slot in slots]}
    if lasting >= 0:
        job["orders"][0][1] = lasting
    for any_order in runs:
        path = tmp_path / f"job-{any_order}.json"
        path.write_text(json.dumps(job | {"any_order": any_order}))
        try:
            results = runner.test(
                hdl_toplevel="stmoe", test_module="support.second_party",
                build_dir=tmp_path / "sim", test_dir=tmp_path,
                extra_env={"STMOE_JOB": str(path), "COCOTB_LOG_LEVEL": "WARNING"},
                log_file=tmp_path / f"run-{any_order}.log",
                results_xml=str(tmp_path / f"results-{any_order}.xml"))
        except SystemExit:  # the test's result, not the runner's
            assert "AssertionError" in (tmp_path / f"run-{any_order}.log").read_text()
            bad.append(any_order)
            continue
        tests, wrong = get_results(results)
        assert tests == 1 and wrong == 0
    return bad


@pytest.mark.parametrize("bits, more", [
    (32, {}), (128, {"burst_beats": 16}), (256, {"outstanding": 8, "burst_beats": 8}),
    (512, {"outstanding": 8, "burst_beats": 64}),
    (64, {"outstanding": 1, "burst_beats": 1, "integrity": False})])
def test_experts_land_whole_at_every_width(tmp_path, monkeypatch, bits, more):
    g = geometry(**{"axi_data_bits": bits, "rows": 8, "integrity": True} | more)
    assert failed(tmp_path, monkeypatch, g, count=2 if g.config.outstanding == 1 else 12) == []


def test_error_responses_with_many_outstanding_are_made_good_or_reported(tmp_path, monkeypatch):
    g = geometry(axi_data_bits=64, rows=8, outstanding=8, burst_beats=16, integrity=True)
    assert failed(tmp_path, monkeypatch, g, errors=0.2, lasting=3, runs=(True,)) == []


def test_a_wrong_address_is_noticed(tmp_path, monkeypatch):
    g = geometry(axi_data_bits=64, rows=8, integrity=False)
    assert failed(tmp_path, monkeypatch, g, shift=8, runs=(False,)) == [False]
