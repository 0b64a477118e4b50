"""The prefetch DMA's AXI port against cocotbext-axi, which is not ours, buses narrow and wide."""

import json
import os
import random
import zlib

import pytest
from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from cocotb_tools.check_results import get_results
from cocotb_tools.runner import get_runner

from stmoe.emit import emit_verilog
from stmoe.prefetch.dma import PrefetchDma
from stmoe_sim.verilator import toolchain_env
from support.dma_bench import geometry

EXPERTS = 8


class NamedDma(wiring.Component):
    """The DMA with AXI signals as the specification names them; layer 0, base 0."""

    def __init__(self, g, shift=0):
        self.g, self.shift = g, shift
        orders = {f"{kind}_{name}": member for kind in ("demand", "prefetch") for name, member in {
            "valid": In(1), "ready": Out(1), "slot": In(g.slot_bits),
            "expert": In(g.expert_bits)}.items()}
        width = g.config.axi_data_bits
        super().__init__({
            **orders, "fill_valid": Out(1), "fill_slot": Out(g.slot_bits),
            "fill_beat": Out(g.beat_bits), "fill_data": Out(width), "status_valid": Out(1),
            "status_slot": Out(g.slot_bits), "status_kind": Out(2),
            "blob_beats": In(g.beat_bits), "stride": In(32),
            "m_axi_arvalid": Out(1), "m_axi_arready": In(1),
            "m_axi_araddr": Out(g.config.axi_addr_bits), "m_axi_arid": Out(g.id_bits),
            "m_axi_arlen": Out(8), "m_axi_arsize": Out(3), "m_axi_arburst": Out(2),
            "m_axi_rvalid": In(1), "m_axi_rready": Out(1), "m_axi_rdata": In(width),
            "m_axi_rid": In(g.id_bits), "m_axi_rresp": In(2), "m_axi_rlast": In(1)})

    def elaborate(self, platform):
        m = Module()
        m.submodules.dma = dma = PrefetchDma(self.g)
        for kind in ("demand", "prefetch"):
            port = getattr(dma, kind)
            m.d.comb += [port.valid.eq(getattr(self, f"{kind}_valid")),
                         getattr(self, f"{kind}_ready").eq(port.ready),
                         port.payload.slot.eq(getattr(self, f"{kind}_slot")),
                         port.payload.expert.eq(getattr(self, f"{kind}_expert"))]
        ar, r, fill = dma.axi.ar, dma.axi.r, dma.fill
        m.d.comb += [
            self.fill_valid.eq(fill.valid),
            *(getattr(self, f"fill_{name}").eq(fill.payload[name])
              for name in ("slot", "beat", "data")),
            self.status_valid.eq(dma.status.valid), dma.status.ready.eq(1),
            *(getattr(self, f"status_{name}").eq(dma.status.payload[name])
              for name in ("slot", "kind")),
            dma.shape.blob_beats.eq(self.blob_beats), dma.shape.stride.eq(self.stride),
            dma.shape.experts.eq(EXPERTS),
            self.m_axi_arvalid.eq(ar.valid), ar.ready.eq(self.m_axi_arready),
            *(getattr(self, f"m_axi_ar{name}").eq(ar.payload[name] + self.shift * (name == "addr"))
              for name in ("addr", "id", "len", "size", "burst")),
            r.valid.eq(self.m_axi_rvalid), self.m_axi_rready.eq(r.ready),
            *(r.payload[name].eq(getattr(self, f"m_axi_r{name}"))
              for name in ("data", "id", "resp", "last"))]
        return m


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


def failed(tmp_path, monkeypatch, g, *, seed=1, shift=0, pause=0.3, count=12,
           runs=(False, True)):
    """Runs with the answers in order and in any that failed, of those that were asked for."""
    for name, value in toolchain_env().items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("MAKEFLAGS", "CFG_CXXFLAGS_PCH_I=-include CFG_LDLIBS_THREADS=-pthread")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([os.path.dirname(os.path.dirname(__file__)),
                                                      os.environ.get("PYTHONPATH", "")]))
    (tmp_path / "stmoe.v").write_text(emit_verilog(g.config, top=lambda _: NamedDma(g, shift)))
    runner = get_runner("verilator")
    runner.build(sources=[tmp_path / "stmoe.v"], hdl_toplevel="stmoe", build_dir=tmp_path / "sim",
                 build_args=["-Wno-fatal", "-Wno-lint", "-Wno-style"], always=True,
                 log_file=tmp_path / "build.log")
    rng, bad = random.Random(seed), []
    slots = rng.sample(range(g.slots), min(g.slots, count))
    job = {"seed": seed, "blob_beats": g.blob_beats, "stride": g.stride, "bytes": g.axi_bytes,
           "tile_beats": g.tile_beats if g.config.integrity else 0, "pause": pause,
           "image": image_of(g, rng).hex(),
           "orders": [[rng.choice(("demand", "prefetch")), rng.randrange(EXPERTS), slot]
                      for slot in slots]}
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
    (32, {}), (128, {"burst_beats": 16}), (512, {"outstanding": 8, "burst_beats": 64}),
    (64, {"outstanding": 1, "burst_beats": 1, "integrity": False})])
def test_experts_land_whole_at_every_width(tmp_path, monkeypatch, bits, more):
    g = geometry(**{"axi_data_bits": bits, "rows": 8, "integrity": True} | more)
    assert failed(tmp_path, monkeypatch, g, count=2 if g.config.outstanding == 1 else 12) == []


def test_a_wrong_address_is_noticed(tmp_path, monkeypatch):
    g = geometry(axi_data_bits=64, rows=8, integrity=False)
    assert failed(tmp_path, monkeypatch, g, shift=8, runs=(False,)) == [False]
