"""What accompanies the netlist: C header, register pages, FuseSoC core file."""

import re
import tempfile
from pathlib import Path

from peakrdl_cheader.exporter import CHeaderExporter
from peakrdl_html import HTMLExporter

from ..bus.registers import compile_registers
from ..config import AcceleratorConfig, Geometry

__all__ = ["c_header", "core_file", "register_pages"]


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
    filesets: [rtl, "tool_vivado ? (vivado)"]
    toplevel: stmoe
  lint:
    <<: *default
    filesets: [rtl, waivers]
    default_tool: verilator
    tools:
      verilator:
        mode: lint-only
        verilator_options: [-Wall]
"""
