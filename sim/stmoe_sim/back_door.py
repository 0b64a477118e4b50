"""The predictors' memories on chip, dumped by the simulated top and read back."""

import re
from pathlib import Path

import numpy as np

from stmoe.config import AcceleratorConfig, Geometry
from stmoe.predict import UNITS

from .lexical import unpack_memory, unpack_weights
from .memory_files import read_dump, read_numbers

__all__ = ["DUMPED_ROWS", "INCLUDE", "dump_statements", "gains", "table_rows", "weight_rows"]

INCLUDE = "back_door.svh"
DUMPED_ROWS = "lexical.hex"  # those in expert memory
TABLE, LINEAR = (f"predictor.unit{list(UNITS).index(name)}" for name in ("table", "linear"))
MEMORIES = {  # instance and memory: file
    (TABLE, "table"): "table.hex",
    (f"{LINEAR}.predictor.weights", "memory"): "weights.hex",
    (f"{LINEAR}.predictor.weights.lexical", "memory"): "identities.hex",
    (f"{LINEAR}.predictor.margin", "gain"): "gains.hex"}
NAME = r"(\\?)([^\s(]+)"
MODULE = re.compile(rf"module {NAME} *\(")
INSTANCE = re.compile(rf"  {NAME} +{NAME} +\($")
MEMORY = re.compile(rf"  reg \[\d+:0\] {NAME} +\[\d+:0\];")


def _word(escape: str, name: str) -> str:
    return f"{escape}{name} " if escape else name


def dump_statements(netlist: str) -> str:
    """SystemVerilog that writes the memories of a netlist, instance ``dut``, when ``flush_log``
    toggles."""
    module, above = "", {"stmoe": "dut"}  # how instances of modules are reached
    inside: dict[str, tuple[str, str]] = {}  # of whom they are a part, by which name
    memories: dict[str, str] = {}  # file: place
    found: list[tuple[str, str, str]] = []
    for line in netlist.splitlines():
        if match := MODULE.match(line):
            module = match[2]
        elif match := MEMORY.match(line):
            found.append((module, match[2], _word(*match.groups())))
        elif match := INSTANCE.match(line):
            inside[match[2]] = module, _word(match[3], match[4])

    def path(name: str) -> str:
        if name not in above:
            parent, instance = inside[name]
            above[name] = f"{path(parent)}.{instance}"
        return above[name]

    for owner, name, word in found:
        where = re.sub(r"\$\d+", "", owner.removeprefix("stmoe."))
        if file := MEMORIES.get((where, name)):
            memories[file] = f"{path(owner)}.{word}"
    lines = [f'    $writememh("{file}", {place});' for file, place in memories.items()]
    return "\n".join(["always @(flush_log) begin", *lines, "end", ""])


def _bytes(path: Path, bits: int) -> np.ndarray:
    """uint8 [word, byte], lowest first."""
    width = -(-bits // 8)
    words = b"".join(word.to_bytes(width, "little") for word in read_numbers(path))
    return np.frombuffer(words, np.uint8).reshape(-1, width)


def weight_rows(geometry: Geometry, home: Path) -> dict[str, np.ndarray]:
    """Rows of weights as the run in ``home`` left them, int16 [row, layer, expert], by their kind:
    "token identity" and "layer", those on chip and those in expert memory."""
    model, options = geometry.config.model, geometry.config.linear
    found = {}
    if geometry.streams_rows:
        found = unpack_memory(read_dump(home / DUMPED_ROWS, geometry.axi_bytes), geometry)
    bits = model.experts * options.bits
    if options.tables and not geometry.streams_identities:
        memory = unpack_weights(_bytes(home / "identities.hex", bits), model.experts, options.bits)
        found["token identity"] = memory.reshape(-1, model.layers, model.experts)
    if not geometry.streams_weights:
        memory = unpack_weights(_bytes(home / "weights.hex", bits), model.experts, options.bits)
        found["layer"] = memory.reshape(model.layers, -1, model.experts)
    return found | {"layer": found["layer"].transpose(1, 0, 2)}


def gains(home: Path) -> np.ndarray:
    """Gain of the look-ahead term, int [layer], as the run in ``home`` left them."""
    return np.array(read_numbers(home / "gains.hex"))


def table_rows(config: AcceleratorConfig, home: Path) -> tuple[np.ndarray, np.ndarray]:
    """Ids and confidences of the correlation table, int [layer pair, expert, entry], as the run in
    ``home`` left them."""
    model = config.model
    id_bits = max(1, (model.experts - 1).bit_length())
    rows = np.array(read_numbers(home / "table.hex"), object)[:, None]
    entries = rows >> (id_bits + 2) * np.arange(model.top_k)
    entries = (entries & (4 << id_bits) - 1).astype(np.int64)
    entries = entries[:model.layers - 1 << id_bits].reshape(-1, 1 << id_bits, model.top_k)
    entries = entries[:, :model.experts]
    return entries & (1 << id_bits) - 1, entries >> id_bits
