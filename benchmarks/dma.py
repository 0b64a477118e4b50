#!/usr/bin/env python3
"""How well the prefetch DMA uses its link, and how soon a demand is served while it prefetches.

The DMA of a preset alone, in Verilator, on the simulated expert memory. Use of the link: beats per
cycle from the first beat to the last of experts on demand, one after the other, beside what the
same memory gives to a manager that only asks for the same bursts (its own loss). First beat: cycles
from a demand to its first beat, with nothing else under way and under full prefetch load; the
difference is to be at most a burst.
"""

import argparse
import json
import subprocess
import zlib
from pathlib import Path
from typing import Any

from rich.console import Console

from stmoe.config import AcceleratorConfig, Geometry, preset
from stmoe.emit import emit_verilog
from stmoe_sim.flat_dma import FlatDma
from stmoe_sim.memory import memory
from stmoe_sim.report.terminal import table
from stmoe_sim.verilator import HDL, toolchain_env

BENCH = Path(__file__).with_name("dma_tb.sv")
KIBIBYTES = (1, 4, 16, 64)
EXPERTS = 32  # different ones, one behind the other in memory
CONFIGS = {
    "64": (preset("tiny").replace(model_d_model=256, model_d_ff=128, max_d_ff=0),
           ("ideal", "lpddr4-3200")),
    "512": (preset("server"), ("ideal", "hbm2-2000"))}


class Expert:
    """An expert of ``kibibytes`` of content: its place in memory, and CRCs of zeros."""

    def __init__(self, g: Geometry, kibibytes: int):
        content = kibibytes * 1024 // g.axi_bytes
        room = g.tile_beats - g.config.integrity
        self.content, self.tiles = content, -(-content // room)
        self.beats = content + self.tiles * g.config.integrity
        self.stride = -(-self.beats * g.axi_bytes // g.alignment) * g.alignment
        self.crcs = [zlib.crc32(bytes(beats * g.axi_bytes))
                     for beats in (room, content - (self.tiles - 1) * room)]


def build(config: AcceleratorConfig, home: Path) -> Path:
    """The test bench around the DMA of ``config``, compiled if its sources are new."""
    g = Geometry(config)
    home.mkdir(parents=True, exist_ok=True)
    words = EXPERTS * Expert(g, max(KIBIBYTES)).stride // g.axi_bytes
    parameters = {
        "DATA_BITS": config.axi_data_bits, "ADDR_BITS": config.axi_addr_bits,
        "ID_BITS": g.id_bits, "SLOT_BITS": g.slot_bits, "EXPERT_BITS": g.expert_bits,
        "BEAT_BITS": g.beat_bits, "MEM_WORDS": words, "EXPERTS": EXPERTS,
        "TILE_BEATS": g.tile_beats, "BURST_BEATS": config.burst_beats,
        "OUTSTANDING": config.outstanding}
    netlist = emit_verilog(config, top=FlatDma)
    sources = [BENCH, *sorted(HDL.glob("*.sv*"))]
    stamp = f"{parameters}{netlist}{[path.read_text() for path in sources]}"
    binary, stamped = home / "bench", home / "stamp"
    if binary.exists() and stamped.exists() and stamped.read_text() == stamp:
        return binary
    (home / "stmoe.v").write_text(netlist)
    run = subprocess.run(
        ["verilator", "--binary", "--timing", "--top-module", "dma_tb", "-Wno-fatal", "-Wno-lint",
         "-Wno-style", f"-I{HDL}", "-Mdir", str(home), "-o", "bench", "-O3",
         "-CFLAGS", "-std=c++20 -fcoroutines -O2",
         "-MAKEFLAGS", "CFG_CXXFLAGS_PCH_I=-include CFG_LDLIBS_THREADS=-pthread",
         *(f"-G{name}={value}" for name, value in parameters.items()),
         str(BENCH), str(HDL / "axi_dram.sv"), str(home / "stmoe.v")],
        env=toolchain_env(), capture_output=True, text=True)
    if run.returncode:
        raise SystemExit(f"verilator failed:\n{run.stdout[-2000:]}{run.stderr[-2000:]}")
    stamped.write_text(stamp)
    return binary


def play(binary: Path, g: Geometry, part: str, expert: Expert, **more: int) -> dict[str, Any]:
    """What the bench reports; SystemExit if it is not as it should be."""
    settings = memory(part).ports(g.config.clock_mhz) | more | {
        "blob_beats": expert.beats, "stride": expert.stride, "sealed": int(g.config.integrity)}
    words = [f"+{name}={value}" for name, value in settings.items()]
    words += [f"+crc_{name}={crc:x}" for name, crc in zip(("full", "last"), expert.crcs,
                                                           strict=True)]
    run = subprocess.run([str(binary.resolve()), *words], env=toolchain_env(), capture_output=True,
                         text=True)
    lines = [line for line in run.stdout.splitlines() if line.startswith("{")]
    if not lines:
        raise SystemExit(f"no result: {run.stdout}{run.stderr}")
    found = json.loads(lines[-1])
    if found.get("hung") or found["wrong"] or found["violations"]:
        raise SystemExit(f"{part}, {expert.beats} beats: {found}")
    return found


def measure(name: str, cache: Path) -> list[dict[str, Any]]:
    """Rows of a bus width."""
    config, parts = CONFIGS[name]
    g = Geometry(config)
    binary = build(config, cache / "dma" / name)
    rows = []
    for part in parts:
        for size in KIBIBYTES:
            expert = Expert(g, size)
            orders = max(64, 2048 // size)
            dma, plain = (play(binary, g, part, expert, mode=mode, orders=orders)
                          for mode in (0, 1))
            alone, loaded = (play(binary, g, part, expert, mode=2, orders=200, load=load)
                             for load in (0, 1))
            use = dma["beats"] / dma["cycles"]
            rows.append({
                "bits": config.axi_data_bits, "memory": part, "kibibytes": size, "link": use,
                "memory_gives": plain["beats"] / plain["cycles"],
                "content": use * expert.content / expert.beats,
                "first_alone": alone["mean"], "first_alone_worst": alone["worst"],
                "first_loaded": loaded["mean"], "first_loaded_worst": loaded["worst"],
                "load": loaded["beats"] / loaded["cycles"], "burst": g.tile_beats})
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--width", action="append", choices=list(CONFIGS), default=[])
    parser.add_argument("--build", type=Path, default=Path("build"))
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    rows = [row for name in options.width or CONFIGS for row in measure(name, options.build)]
    Console(width=140).print(table(
        "The DMA and its link; first beat of a demand in cycles",
        ["bus", "memory", "expert", "link", "memory gives", "content", "first, alone", "worst",
         "first, prefetching", "worst", "link then"],
        [[f"{row['bits']} bit", row["memory"], f"{row['kibibytes']} KiB",
          *(f"{100 * row[key]:.1f} %" for key in ("link", "memory_gives", "content")),
          str(row["first_alone"]), str(row["first_alone_worst"]), str(row["first_loaded"]),
          str(row["first_loaded_worst"]), f"{100 * row['load']:.1f} %"] for row in rows]))
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
