"""What accompanies the netlist: C header, register pages, files of other flows."""

import json
import re
import tempfile
from pathlib import Path

from peakrdl_cheader.exporter import CHeaderExporter
from peakrdl_html import HTMLExporter

from ..bus.registers import compile_registers
from ..config import AcceleratorConfig, Geometry

__all__ = ["c_header", "core_file", "librelane_config", "register_pages"]


def c_header(geometry: Geometry) -> str:
    """Addresses, masks, reset values and a struct of all registers, in C."""
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "stmoe.h"
        CHeaderExporter().export(compile_registers(geometry), str(path))
        return path.read_text()


def register_pages(geometry: Geometry, out: Path) -> None:
    """Write the HTML pages of the registers into ``out``."""
    # The exporter puts the time of day into links, against stale caches; the hash does as well.
    exporter = HTMLExporter(generate_source_links=False,
                            user_context={"build_ts": f"{geometry.config.hash:016x}"})
    exporter.export(compile_registers(geometry), str(out), title="stmoe registers")
    for font in (out / "fonts").rglob("*"):
        if font.suffix in (".eot", ".ttf", ".svg", ".woff"):  # the pages ask for .woff2 too
            font.unlink()


def core_file(config: AcceleratorConfig, version: str) -> str:
    """FuseSoC core (CAPI=2) of the emitted files."""
    name = re.sub(r"[^A-Za-z0-9_]+", "_", config.name) or "custom"
    return f"""\
CAPI=2:
name: "::stmoe-{name}:{version}"
description: "Mixture-of-Experts accelerator, configuration {config.hash:016x}"

filesets:
  rtl:
    files:
      - stmoe.v: {{file_type: verilogSource}}
  waivers:
    files:
      - waivers.vlt: {{file_type: vlt}}
  vivado:
    files:
      - stmoe.xdc: {{file_type: xdc}}
  sdc:
    files:
      - stmoe.sdc: {{file_type: SDC}}
  software:
    files:
      - stmoe.h: {{file_type: user}}

targets:
  default: &default
    filesets: [rtl, "tool_vivado ? (vivado)", "tool_quartus ? (sdc)", "tool_libero ? (sdc)"]
    toplevel: stmoe
  lint:
    <<: *default
    filesets: [rtl, waivers]
    default_tool: verilator
    tools:
      verilator:
        mode: lint-only
        verilator_options: [-Wall]
  # Parts are examples; the ports are more than pins, so none of these makes a bitstream.
  vivado:
    <<: *default
    default_tool: vivado
    tools:
      vivado: {{part: xc7a200tfbg676-2, pnr: none}}
  quartus:
    <<: *default
    default_tool: quartus
    tools:
      quartus: {{family: "Cyclone 10 GX", device: 10CX220YF780E5G}}
  libero:
    <<: *default
    default_tool: libero
    tools:
      libero: {{family: PolarFire, die: MPF300T, package: FCG1152}}
"""


def librelane_config(config: AcceleratorConfig) -> str:
    """Configuration of LibreLane (JSON) for the emitted files; memories become flip-flops there
    unless the modules of the banks are replaced by macros."""
    return json.dumps({
        "meta": {"version": 2}, "DESIGN_NAME": "stmoe", "VERILOG_FILES": ["dir::stmoe.v"],
        "CLOCK_PORT": "clk", "CLOCK_PERIOD": round(1000 / config.clock_mhz, 3),
        "PNR_SDC_FILE": "dir::stmoe.sdc", "SIGNOFF_SDC_FILE": "dir::stmoe.sdc"}, indent=1) + "\n"
