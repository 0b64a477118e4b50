"""The register description, compiled for a configuration: what hardware and host code share."""

import re
import tempfile
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from systemrdl import RDLCompiler
from systemrdl.node import AddrmapNode, FieldNode

from ..config import Geometry

__all__ = ["SOURCE", "Field", "Register", "compile_registers", "register_map", "registers",
           "resolved_source"]

SOURCE = Path(__file__).with_name("stmoe.rdl")


@dataclass(frozen=True, kw_only=True)
class Field:
    """A field of a register.

    ``kind`` is "constant", "status" (driven by hardware), "control" (written by software),
    "pulse" (control that lasts one cycle), "record" (latched from hardware) or "counter".
    """

    name: str
    lsb: int
    width: int
    reset: int
    kind: str
    writable: bool
    clears: bool
    step: int
    description: str


@dataclass(frozen=True, kw_only=True)
class Register:
    """A register of 32 bits, or of 64 at two consecutive word addresses, low word first."""

    name: str
    address: int
    width: int
    description: str
    fields: tuple[Field, ...]

    def member(self, field: Field) -> str:
        """Name of the hardware signal of a field."""
        return self.name if len(self.fields) == 1 else f"{self.name}_{field.name}"


def _parameters(g: Geometry) -> dict[str, int]:
    model = g.config.model
    address = g.config.axi_addr_bits
    rows = g.lexical_base if g.streams_rows else 0
    return {
        "HASH_LO": g.config.hash & 0xffffffff, "HASH_HI": g.config.hash >> 32,
        "IN_WORDS": g.in_words, "GU_GROUPS": g.gu_groups, "DN_TILES": g.dn_tiles,
        "OUT_GROUPS": g.out_groups, "SIDE_WORDS": g.side_words, "BLOB_BEATS": g.blob_beats,
        "STRIDE": g.stride, "GROUP": g.group, "SLOTS": g.slots, "LAYERS": model.layers,
        "EXPERTS": model.experts, "PREDICT": int(g.config.predictor != "none"),
        "SELECT": int("linear" in g.config.predictor), "SCORE_BITS": g.score_bits,
        "LINEAR_THRESHOLD": g.config.linear.threshold % (1 << g.score_bits),
        "LIMIT": model.experts, "ROWS_SLACK": g.rows_slack,
        "BASE_LO_BITS": min(32, address), "BASE_HI_BITS": max(1, address - 32),
        "SLOTS_BITS": g.slot_bits + 1,
        "DENSE": int(g.config.dense_blobs > 0), **{
            f"MATRIX_{name.upper()}": getattr(g, f"matrix_{name}") if g.config.dense_blobs else 0
            for name in ("tiles", "parts", "beats")},
        "LEXICAL_LO": rows & 0xffffffff, "LEXICAL_HI": rows >> 32, "BEATS_STEP": g.beat_bits,
        "PES_STEP": g.config.pes.bit_length(), "ADDS_STEP": model.top_k.bit_length()}


def resolved_source(geometry: Geometry) -> str:
    """The description with the configuration's values as its parameters' defaults."""
    text = SOURCE.read_text()
    for name, value in _parameters(geometry).items():
        text, count = re.subn(rf"(longint unsigned {name} = )\d+", rf"\g<1>{value}", text)
        if count != 1:
            raise ValueError(f"{SOURCE.name}: parameter {name} found {count} times")
    return text


@lru_cache(maxsize=16)
def compile_registers(geometry: Geometry) -> AddrmapNode:
    """The compiled description, for exporters.

    Compiled from the resolved source: exporters put overridden parameters into every name.
    """
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / SOURCE.name
        path.write_text(resolved_source(geometry))
        compiler = RDLCompiler()
        compiler.compile_file(str(path))
    return compiler.elaborate().top


def _kind(field: FieldNode) -> str:
    if field.get_property("counter"):
        return "counter"
    if field.get_property("we"):
        return "record"
    if field.is_hw_writable:
        return "status"
    if field.get_property("singlepulse"):
        return "pulse"
    return "control" if field.is_sw_writable else "constant"


def _text(node: Any) -> str:
    return " ".join((node.get_property("desc") or "").split())


@lru_cache(maxsize=16)
def registers(geometry: Geometry) -> tuple[Register, ...]:
    """All registers in order of address."""
    result = []
    for node in compile_registers(geometry).registers():
        fields = tuple(
            Field(name=field.inst_name, lsb=field.low, width=field.width,
                  reset=int(field.get_property("reset") or 0), kind=_kind(field),
                  writable=field.is_sw_writable,
                  clears=field.get_property("onwrite") is not None,
                  step=field.get_property("incrwidth") if field.get_property("counter") else 0,
                  description=_text(field))
            for field in node.fields())
        for field in fields:
            if field.reset >> field.width:
                raise ValueError(f"register {node.inst_name}.{field.name}: reset value "
                                 f"{field.reset} does not fit {field.width} bits")
        result.append(Register(name=node.inst_name, address=node.address_offset,
                               width=node.get_property("regwidth"), description=_text(node),
                               fields=fields))
    return tuple(result)


def register_map(geometry: Geometry) -> dict[str, dict[str, Any]]:
    """Registers as plain data for host code, name -> address, reset, description, fields.

    A 64-bit counter appears as its two words, ``NAME_lo`` and ``NAME_hi``.
    """
    result: dict[str, dict[str, Any]] = {}
    for register in registers(geometry):
        for word in range(register.width // 32):
            fields = {
                field.name: {
                    "lsb": field.lsb, "width": min(32, field.width), "reset": field.reset,
                    "access": "rw1c" if field.clears else "rw" if field.writable else "ro",
                    "description": field.description}
                for field in register.fields}
            name = register.name + ("", "_lo", "_hi")[0 if register.width == 32 else 1 + word]
            result[name] = {
                "address": register.address + 4 * word, "description": register.description,
                "reset": sum(f.reset << f.lsb for f in register.fields), "fields": fields}
    return result
