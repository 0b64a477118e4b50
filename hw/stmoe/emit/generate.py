"""Emission of everything that leaves the generator."""

import importlib
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from amaranth.lib.wiring import Component

from ..bus.registers import register_map, resolved_source
from ..config import AcceleratorConfig, Geometry
from .constraints import constraints
from .documents import c_header, core_file, librelane_config, register_pages
from .ipxact import ipxact_component
from .lint import WAIVERS
from .netlist import NAME, Netlist, build_netlist, build_rtlil
from .sidecar import Sidecar, tool_versions

__all__ = ["emit_rtlil", "emit_verilog", "generate"]

FILES = {
    "verilog": "stmoe.v", "rtlil": "stmoe.il", "registers": "stmoe.rdl", "c_header": "stmoe.h",
    "register_pages": "registers/index.html", "core": "stmoe.core", "xdc": "stmoe.xdc",
    "sdc": "stmoe.sdc", "ipxact": "stmoe.xml", "librelane": "librelane.json",
    "waivers": "waivers.vlt", "config": "config.toml"}
GEOMETRY = (
    "in_words", "gu_groups", "dn_tiles", "out_groups", "param_rows", "side_bytes", "side_words",
    "param_words", "scale_groups", "scale_words", "word_weights", "word_bytes", "weight_words",
    "content_beats", "tile_beats", "tiles", "blob_bytes", "blob_beats", "alignment", "stride",
    "group", "slots", "banks", "bank_words", "bank_param_words", "bank_scale_words", "slot_bits",
    "layer_bits", "expert_bits", "beat_bits", "id_bits", "memory_bytes")

Top = Callable[[Geometry], Component]


def _accelerator(geometry: Geometry) -> Component:
    # Late: the whole design is a heavy import that configuration verbs do without.
    return importlib.import_module("stmoe.top").Accelerator(geometry)


def _netlist(config: AcceleratorConfig, top: Top | None) -> Netlist:
    return build_netlist((top or _accelerator)(Geometry(config)))


def emit_verilog(config: AcceleratorConfig, top: Top | None = None) -> str:
    """The Verilog of ``config`` alone; its top module is ``stmoe``."""
    return _netlist(config, top).verilog


def emit_rtlil(config: AcceleratorConfig, top: Top | None = None) -> str:
    """The RTLIL of ``config`` alone, for synthesis; its top module is ``stmoe``."""
    return build_rtlil((top or _accelerator)(Geometry(config)))


def generate(config: AcceleratorConfig, out: Path, top: Top | None = None) -> Sidecar:
    """Write the netlist of ``config`` and all that accompanies it into the folder ``out``.

    The same configuration and tool versions give the same bytes. ``top`` makes the component from
    its geometry; by default the whole accelerator.
    """
    g = Geometry(config)
    netlist = _netlist(config, top)
    versions = tool_versions()
    sidecar = Sidecar(
        config=config.to_dict(), hash=f"{config.hash:016x}", top=NAME,
        geometry={name: getattr(g, name) for name in GEOMETRY},
        ports=[asdict(port) for port in netlist.ports], signals=netlist.signals,
        registers=register_map(g), files=FILES, tools=versions)
    timing = constraints(config, netlist.ports)
    texts = {
        "verilog": netlist.verilog, "rtlil": netlist.rtlil, "registers": resolved_source(g),
        "c_header": c_header(g), "core": core_file(config, versions["stmoe"]),
        "xdc": timing, "sdc": timing, "waivers": WAIVERS.read_text(),
        "librelane": librelane_config(config),
        "ipxact": ipxact_component(config, netlist.ports, NAME, sidecar.registers, FILES,
                                   versions["stmoe"]),
        "config": config.to_toml()}
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    for role, text in texts.items():
        (out / FILES[role]).write_text(text)
    register_pages(g, (out / FILES["register_pages"]).parent)
    (out / "stmoe.json").write_text(sidecar.to_json())
    return sidecar
