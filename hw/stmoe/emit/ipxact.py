"""IP-XACT component (IEEE 1685-2014) of the accelerator: buses, registers, ports, files."""

from collections.abc import Iterable, Mapping
from typing import Any
from xml.etree import ElementTree

from ..config import AcceleratorConfig
from .netlist import Port

__all__ = ["NAMESPACE", "ipxact_component"]

NAMESPACE = "http://www.accellera.org/XMLSchema/IPXACT/1685-2014"
SCHEMA = f"{NAMESPACE}/index.xsd"
BUSES = {  # prefix of the ports: kind of bus, its version, role
    "m_axi_": ("AXI4", "r0p0_0", "master"), "s_axil_": ("AXI4Lite", "r0p0_0", "slave"),
    "s_axis_cmd_": ("AXI4Stream", "r0p0_1", "slave"),
    "s_axis_act_": ("AXI4Stream", "r0p0_1", "slave"),
    "m_axis_res_": ("AXI4Stream", "r0p0_1", "master")}
"""As Arm's bus definitions, library AMBA4 of amba.com, have them."""
REGISTERS, MEMORY = "registers", "expert_memory"
ACCESS = {"ro": "read-only", "rw": "read-write", "rw1c": "read-write"}
FILE_TYPES = {"verilog": "verilogSource", "sdc": "SDC", "c_header": "cSource"}

Element = ElementTree.Element


def _add(parent: Element, tag: str, text: object = None, **attributes: str) -> Element:
    """A child of ``parent``; a file's order is the schema's."""
    child = ElementTree.SubElement(parent, f"ipxact:{tag}", attributes)
    child.text = None if text is None else str(text)
    return child


def _bus(parent: Element, prefix: str, names: Iterable[str]) -> None:
    kind, version, role = BUSES[prefix]
    bus = _add(parent, "busInterface")
    _add(bus, "name", prefix.rstrip("_"))
    identity = {"vendor": "amba.com", "library": "AMBA4", "version": version}
    _add(bus, "busType", name=kind, **identity)
    abstraction = _add(_add(bus, "abstractionTypes"), "abstractionType")
    _add(abstraction, "abstractionRef", name=f"{kind}_rtl", **identity)
    maps = _add(abstraction, "portMaps")
    for name in names:
        pair = _add(maps, "portMap")
        _add(_add(pair, "logicalPort"), "name", name.removeprefix(prefix).upper())
        _add(_add(pair, "physicalPort"), "name", name)
    side = _add(bus, role)
    if kind == "AXI4":
        _add(side, "addressSpaceRef", addressSpaceRef=MEMORY)
    elif kind == "AXI4Lite":
        _add(side, "memoryMapRef", memoryMapRef=REGISTERS)


def _memory_map(parent: Element, registers: Mapping[str, Mapping[str, Any]]) -> None:
    block = _add(_add(parent, "memoryMaps"), "memoryMap")
    _add(block, "name", REGISTERS)
    inside = _add(block, "addressBlock")
    for tag, text in (("name", "csr"), ("baseAddress", "'h0"), ("range", "'h1000"), ("width", 32)):
        _add(inside, tag, text)
    for name, entry in registers.items():
        register = _add(inside, "register")
        for tag, text in (("name", name), ("description", entry["description"]),
                          ("addressOffset", f"'h{entry['address']:x}"), ("size", 32)):
            _add(register, tag, text)
        for field_name, field in entry["fields"].items():
            one = _add(register, "field")
            _add(one, "name", field_name)
            _add(one, "description", field["description"])
            _add(one, "bitOffset", field["lsb"])
            _add(_add(_add(one, "resets"), "reset"), "value", f"'h{field['reset']:x}")
            _add(one, "bitWidth", field["width"])
            _add(one, "access", ACCESS[field["access"]])
            if field["access"] == "rw1c":
                _add(one, "modifiedWriteValue", "oneToClear")


def _model(parent: Element, ports: Iterable[Port], top: str) -> None:
    model = _add(parent, "model")
    view = _add(_add(model, "views"), "view")
    _add(view, "name", "rtl")
    _add(view, "componentInstantiationRef", "verilog")
    instance = _add(_add(model, "instantiations"), "componentInstantiation")
    for tag, text in (("name", "verilog"), ("language", "Verilog"), ("moduleName", top)):
        _add(instance, tag, text)
    _add(_add(instance, "fileSetRef"), "localName", "rtl")
    listed = _add(model, "ports")
    for port in ports:
        one = _add(listed, "port")
        _add(one, "name", port.name)
        wire = _add(one, "wire")
        _add(wire, "direction", {"input": "in", "output": "out"}[port.direction])
        if port.width > 1:
            vector = _add(_add(wire, "vectors"), "vector")
            _add(vector, "left", port.width - 1)
            _add(vector, "right", 0)


def _file_sets(parent: Element, files: Mapping[str, str]) -> None:
    sets = _add(parent, "fileSets")
    for name, role in (("rtl", "verilog"), ("constraints", "sdc"), ("software", "c_header")):
        one = _add(sets, "fileSet")
        _add(one, "name", name)
        file = _add(one, "file")
        _add(file, "name", files[role])
        _add(file, "fileType", FILE_TYPES[role])


def ipxact_component(config: AcceleratorConfig, ports: Iterable[Port], top: str,
                     registers: Mapping[str, Mapping[str, Any]], files: Mapping[str, str],
                     version: str) -> str:
    """The component's XML.

    ``registers``: as of :func:`stmoe.bus.registers.register_map`; a 64-bit counter is two words.
    ``files``: role -> name beside the component. Clock, reset, interrupt and observation ports are
    plain ports.
    """
    ports = list(ports)
    root = Element("ipxact:component", {
        "xmlns:ipxact": NAMESPACE, "xmlns:xsi": "http://www.w3.org/2001/XMLSchema-instance",
        "xsi:schemaLocation": f"{NAMESPACE} {SCHEMA}"})
    for tag, text in (("vendor", "stmoe"), ("library", "stmoe"), ("name", f"stmoe-{config.name}"),
                      ("version", version)):
        _add(root, tag, text)
    buses = _add(root, "busInterfaces")
    for prefix in BUSES:
        _bus(buses, prefix, [port.name for port in ports if port.name.startswith(prefix)])
    space = _add(_add(root, "addressSpaces"), "addressSpace")
    _add(space, "name", MEMORY)
    _add(space, "range", 1 << config.axi_addr_bits)
    _add(space, "width", config.axi_data_bits)
    _memory_map(root, registers)
    _model(root, ports, top)
    _file_sets(root, files)
    _add(root, "description", "Mixture-of-Experts accelerator")
    parameters = _add(root, "parameters")
    for name, kind, value in (("configuration_hash", "string", f"{config.hash:016x}"),
                              ("clock_mhz", "int", config.clock_mhz)):
        one = _add(parameters, "parameter", parameterId=name, resolve="immediate", type=kind)
        _add(one, "name", name)
        _add(one, "value", f'"{value}"' if kind == "string" else value)
    ElementTree.indent(root)
    return ('<?xml version="1.0" encoding="UTF-8"?>\n'
            + ElementTree.tostring(root, encoding="unicode") + "\n")
