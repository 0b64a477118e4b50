"""The IP-XACT component: read by another's importer, and held against netlist and registers."""

import re
from xml.etree import ElementTree

import pyslang
import pytest
from peakrdl_ipxact import IPXACTImporter
from systemrdl import RDLCompiler

from stmoe.bus.registers import register_map
from stmoe.config import PRESETS, Geometry, LinearOptions
from stmoe.emit import generate
from stmoe.emit.ipxact import NAMESPACE

EDGE = PRESETS["edge"].replace(linear=LinearOptions())  # which streams rows
NS = {"ipxact": NAMESPACE}
ORDER = ("vendor", "library", "name", "version", "busInterfaces", "addressSpaces", "memoryMaps",
         "model", "fileSets", "description", "parameters")  # as in the schema


@pytest.fixture(scope="module")
def emitted(tmp_path_factory):
    out = tmp_path_factory.mktemp("ipxact")
    generate(EDGE, out)
    return out


@pytest.fixture(scope="module")
def component(emitted):
    return ElementTree.parse(emitted / "stmoe.xml").getroot()


def texts(root, path):
    return [element.text for element in root.findall(path, NS)]


def imported(path):
    """Registers as another's importer reads them: name -> address and fields."""
    compiler = RDLCompiler()
    IPXACTImporter(compiler).import_file(str(path))
    top = compiler.elaborate().top
    return {register.inst_name: (register.absolute_address, {
        field.inst_name: (field.low, field.width, field.get_property("reset"),
                          field.is_sw_writable, field.get_property("onwrite") is not None)
        for field in register.fields()})
        for node in top.children() for register in node.registers()}


def described(registers):
    return {name: (entry["address"], {
        field: (of["lsb"], of["width"], of["reset"], of["access"] != "ro", of["access"] == "rw1c")
        for field, of in entry["fields"].items()}) for name, entry in registers.items()}


def test_registers_are_those_of_the_map(emitted):
    assert imported(emitted / "stmoe.xml") == described(register_map(Geometry(EDGE)))


def test_another_register_is_noticed(emitted, tmp_path):
    text = (emitted / "stmoe.xml").read_text()
    for found, instead in (("<ipxact:access>read-only<", "<ipxact:access>read-write<"),
                           ("<ipxact:addressOffset>'h8<", "<ipxact:addressOffset>'hff8<")):
        broken = tmp_path / "stmoe.xml"
        broken.write_text(text.replace(found, instead, 1))
        assert imported(broken) != described(register_map(Geometry(EDGE)))


def test_ports_are_those_of_the_verilog(emitted, component):
    tree = pyslang.syntax.SyntaxTree.fromText((emitted / "stmoe.v").read_text())
    compilation = pyslang.ast.Compilation()
    compilation.addSyntaxTree(tree)
    top, = (one for one in compilation.getRoot().topInstances if one.name == "stmoe")
    verilog = {port.name: (str(port.direction).rpartition(".")[2].lower(), port.type.bitWidth)
               for port in top.body.portList}
    listed = {}
    for port in component.findall("ipxact:model/ipxact:ports/ipxact:port", NS):
        left = port.findtext("ipxact:wire/ipxact:vectors/ipxact:vector/ipxact:left", "0", NS)
        listed[port.findtext("ipxact:name", None, NS)] = (
            port.findtext("ipxact:wire/ipxact:direction", None, NS), int(left) + 1)
    assert listed == verilog
    assert component.findtext(".//ipxact:moduleName", None, NS) == "stmoe"


def test_every_bus_signal_is_mapped_once(component):
    ports = texts(component, "ipxact:model/ipxact:ports/ipxact:port/ipxact:name")
    mapped = {}
    for bus in component.findall("ipxact:busInterfaces/ipxact:busInterface", NS):
        kind = bus.find("ipxact:busType", NS).get("name")
        role = "master" if bus.find("ipxact:master", NS) is not None else "slave"
        for pair in bus.findall(".//ipxact:portMap", NS):
            logical = pair.findtext("ipxact:logicalPort/ipxact:name", None, NS)
            physical = pair.findtext("ipxact:physicalPort/ipxact:name", None, NS)
            assert physical not in mapped
            mapped[physical] = kind, role, logical
    assert sorted(mapped) == sorted(name for name in ports if re.match(r"[ms]_axi", name))
    assert mapped["m_axi_araddr"] == ("AXI4", "master", "ARADDR")
    assert mapped["m_axi_wstrb"] == ("AXI4", "master", "WSTRB")  # of what streams rows
    assert mapped["s_axil_wdata"] == ("AXI4Lite", "slave", "WDATA")
    assert mapped["s_axis_act_tdata"] == ("AXI4Stream", "slave", "TDATA")
    assert mapped["m_axis_res_tuser"] == ("AXI4Stream", "master", "TUSER")


def test_references_lead_somewhere_and_parts_are_in_the_schemas_order(emitted, component):
    assert [part.tag.rpartition("}")[2] for part in component] == list(ORDER)
    for reference, path in (("memoryMapRef", "ipxact:memoryMaps/ipxact:memoryMap"),
                            ("addressSpaceRef", "ipxact:addressSpaces/ipxact:addressSpace")):
        named = [one.get(reference) for one in component.iter(f"{{{NAMESPACE}}}{reference}")]
        assert named and set(named) <= set(texts(component, f"{path}/ipxact:name"))
    view, = component.findall(".//ipxact:view", NS)
    assert view.findtext("ipxact:componentInstantiationRef", None, NS) in texts(
        component, ".//ipxact:componentInstantiation/ipxact:name")
    sets = texts(component, "ipxact:fileSets/ipxact:fileSet/ipxact:name")
    assert set(texts(component, ".//ipxact:fileSetRef/ipxact:localName")) <= set(sets)
    for name in texts(component, "ipxact:fileSets/ipxact:fileSet/ipxact:file/ipxact:name"):
        assert (emitted / name).exists()
