#!/usr/bin/env python3
"""Energy per operation from toggles of gates: units mapped to a liberty library, on a real trace.

Stimulus is what the units see in the replay of the project's model: its weights, activations and
routing. Outputs are held against numpy first. docs/energy.md says what is summed.
"""

import argparse
import json
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from amaranth.lib.wiring import Component

from stmoe.compute.dot import DotRow
from stmoe.compute.requantise import Requantiser
from stmoe.config import Geometry, preset
from stmoe.emit.netlist import build_rtlil
from stmoe.predict.linear_score import RowSum
from stmoe.predict.linear_shape import LinearShape
from stmoe_golden.model.storage import load_model
from stmoe_golden.model.trace import default_trace
from stmoe_golden.predict.quality import stretch_of
from stmoe_golden.predict.unit import LearnedUnit
from stmoe_sim.replay import fit
from stmoe_sim.synth import activity, asic, opensta
from stmoe_sim.synth.liberty import Library, read_liberty
from stmoe_sim.synth.macros import as_cells
from stmoe_sim.synth.synthesis import synthesise
from stmoe_sim.synth.tools import available, tool_version
from stmoe_sim.synth.units import split_units

LANES = 16
FILL = 8  # cycles that fill a pipeline


@dataclass(frozen=True)
class Case:
    """A unit, what it does in a cycle, its stimulus (as of ``activity.simulate``), and whether its
    outputs, by cycle, are right."""

    name: str
    unit: Component
    operations: float
    stimulus: list[dict[str, list[int]]]
    right: Any


def packed(values: np.ndarray, bits: int) -> list[int]:
    """Rows of int [row, value] as unsigned words, value 0 lowest."""
    return [sum((int(value) & (1 << bits) - 1) << bits * index for index, value in enumerate(row))
            for row in values]


def multiplied(streams: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Gate weights [stream, row, channel], activations [stream, channel], and the multipliers and
    shifts of the rows, of experts that the trace routes to."""
    trace, model = default_trace(), load_model()
    tokens = np.linspace(64, trace.tokens - 1, streams).astype(int)
    layer = np.arange(streams) % trace.layers
    expert = trace.experts[tokens, layer, 0]
    return (model.gate[layer, expert].astype(np.int64),
            trace.hidden[tokens, layer].astype(np.int64),
            model.gate_mult[layer, expert], model.gate_shift[layer, expert])


def mac(streams: int) -> Case:
    """One row's products with 16 lanes, summed: 16 MACs a cycle, words in the PE's order."""
    weights, x, _, _ = multiplied(streams)
    rows, words = weights.shape[1] // 4, weights.shape[2] // LANES  # every fourth row is one's own
    w = weights[:, ::4].reshape(streams, rows * words, LANES)
    a = np.tile(x.reshape(streams, words, LANES), (1, rows, 1))
    unit = DotRow(LANES)
    sums = (w * a).reshape(streams, rows * words, unit.parts, -1).sum(3)

    def joined(parts: np.ndarray) -> int:
        return sum((int(part) & (1 << unit.sum_bits) - 1) << unit.sum_bits * place
                   for place, part in enumerate(parts))

    def right(outputs: list[dict[str, list[int]]]) -> bool:
        late = 3  # operands, products, sums
        return all(outputs[t + late]["sums"][s] == joined(sums[s, t])
                   for t in range(rows * words - late) for s in range(streams))

    return Case("mac", unit, LANES, [
        {"weights": packed(w[:, t], 8), "operand": packed(a[:, t], 8), "rst": [0] * streams}
        for t in range(rows * words)], right)


def requantised(acc: np.ndarray, mult: np.ndarray, shift: np.ndarray, bits: int) -> np.ndarray:
    """``saturate(round-half-even(acc * mult / 2**shift))``, exact in Python's integers."""
    def one(a: int, m: int, s: int) -> int:
        whole, rest = divmod(a * m, 1 << s)
        half = 1 << s >> 1
        up = rest > half or (rest == half and whole & 1 and s > 0)
        return max(-(1 << bits - 1), min((1 << bits - 1) - 1, whole + up))
    return np.vectorize(one)(acc.astype(object), mult.astype(object), shift.astype(object))


def requantise(streams: int) -> Case:
    """A gate value: an accumulator times a multiplier, shifted, rounded, clipped."""
    weights, x, mult, shift = multiplied(streams)
    acc = np.einsum("src,sc->sr", weights, x)
    want = requantised(acc, mult, shift, 16)
    late = Requantiser.LATENCY

    def right(outputs: list[dict[str, list[int]]]) -> bool:
        return all(outputs[t + late]["result"][s] == int(want[s, t]) & 0xffff
                   for t in range(acc.shape[1] - late) for s in range(streams))

    return Case("requantise", Requantiser(16), 1, [
        {"acc": packed(acc[:, t:t + 1], 32), "mult": packed(mult[:, t:t + 1], 16),
         "shift": packed(shift[:, t:t + 1], 6), "rst": [0] * streams}
        for t in range(acc.shape[1])], right)


def weight_add(streams: int) -> Case:
    """A row of the learned predictor's weights, added to the scores of 32 experts."""
    trace = default_trace()
    config = fit(preset("tiny"), trace, load_model())
    g = Geometry(config)
    shape = LinearShape(g, config.linear)
    unit = LearnedUnit(config, threshold=0, limit=config.model.experts)
    begin = int(trace.offsets[len(trace.offsets) // 2])
    unit.profile(stretch_of(trace, begin - 200, begin))
    golden, layer = unit.predictor, trace.layers - 1
    visits: list[list[np.ndarray]] = []
    for t in range(begin, begin + streams + 8):
        golden.begin_token(int(trace.token[t]), t in trace.offsets)
        for at in range(layer):
            golden.observe(at, trace.experts[t, at])
        visits.append([row.astype(np.int64) for row, _ in golden.rows(layer)])
        golden.observe(layer, trace.experts[t, layer])
    visits = visits[-streams:]
    count = min(map(len, visits))
    rows = np.array([visit[:count] for visit in visits])  # [stream, row, expert]
    bits = shape.scores.elem_shape.width
    want = shape.prior + rows.cumsum(1)

    def right(outputs: list[dict[str, list[int]]]) -> bool:
        return all(outputs[t + 2]["scores"][s] == packed(want[s, t:t + 1], bits)[0]
                   for t in range(count - 1) for s in range(streams))

    idle = {name: [0] * streams for name in ("mark", "stage", "damp", "rst")}
    stimulus = [{"clear": [1] * streams, "valid": [0] * streams, "row": [0] * streams, **idle}]
    stimulus += [{"clear": [0] * streams, "valid": [1] * streams,
                  "row": packed(rows[:, t], config.linear.bits), **idle} for t in range(count)]
    return Case("weight_add", RowSum(shape), config.model.experts, stimulus, right)


def measure(case: Case, liberty: Path, cache: Path, skip: int = FILL) -> dict[str, Any]:
    """pJ per operation of ``case``, and per flip-flop and cycle of its clock."""
    cells = asic.within(cache, liberty)
    library = read_liberty(liberty)
    units = split_units(build_rtlil(case.unit))
    block, = synthesise(units, "asic", partial(_script, cells=cells), cache,
                        lambda done, of, step: None)
    module = next(iter(json.loads(
        (block.result.home / "mapped.json").read_text())["modules"].values()))
    netlist = activity.Netlist(module, library)
    found = activity.simulate(netlist, case.stimulus, skip)
    if not case.right(found.outputs):
        raise SystemExit(f"{case.name}: the gates compute something else than numpy")
    parts = activity.energy_pj(netlist, found, library)
    if available("sta"):
        hold_against_opensta(case.name, module, netlist, found, library, liberty)
    return {"action": case.name, "gates": len(netlist.gates),
            "flip_flops": len(netlist.flip_flops), "cycles": found.cycles,
            "toggles_per_net": sum(found.toggles.values()) / found.cycles / len(netlist.gates),
            **{f"pj_{name}": value / case.operations for name, value in parts.items()},
            "pj": sum(parts.values()) / case.operations,
            "pj_clock_per_flip_flop": parts["clock"] / max(1, len(netlist.flip_flops))}


def hold_against_opensta(name: str, module: dict[str, Any], netlist: activity.Netlist,
                         found: activity.Activity, library: Library, liberty: Path) -> None:
    """Print our sum and OpenSTA's by kind of cell, both of the transitions that OpenSTA makes of
    those at the unit's ports: it takes no others, so the sum is compared, not the simulation."""
    gates, macros = as_cells(module, asic.DEFAULT_NM, 0.0)
    with tempfile.TemporaryDirectory() as home:
        (Path(home) / "macros.lib").write_text(macros)
        theirs, taken = opensta.power(
            Path(home), liberty, module, gates,
            {net: count / found.cycles for net, count in found.toggles.items()}, "clk")
    inputs = {net for way, bits in netlist.ports.values() if way == "input" for net in bits}
    per_cycle = {net: count / found.cycles for net, count in found.toggles.items()
                 if net in inputs} | taken
    kinds: dict[str, list[float]] = {}
    ours = {id(gate): pair for gate, pair in activity.by_gate(netlist, per_cycle, library)}
    of_cell = {frozenset(gate.nets.items()): ours[id(gate)] for gate in netlist.gates}
    for (_, kind, nets), pair in zip(gates, theirs, strict=True):
        row = kinds.setdefault(kind, [0.0] * 4)
        for index, value in enumerate((*of_cell[frozenset(nets.items())], *pair)):
            row[index] += value
    kinds["all"] = [sum(values) for values in zip(*kinds.values(), strict=True)]
    def beside(theirs: float, ours: float) -> str:
        differs = f" ({ours / theirs - 1:+.1%})" if theirs else ""  # a kind that never toggles
        return f"{theirs:8.3f}, ours {ours:8.3f}{differs}"
    print(f"{name}: {tool_version('sta')} of the same transitions, pJ a cycle")
    for kind, (internal, load, their_internal, their_load) in sorted(kinds.items()):
        print(f"  {kind:9} internal {beside(their_internal, internal)}; "
              f"switching {beside(their_load, load)}", flush=True)


def _script(unit: str, cells: asic.Cells) -> list[str]:
    return [*asic.script(unit, cells), "write_json mapped.json"]


ROWS = {  # actions of RAMs: unit
    "silu_read": "lookup", "bank_read": "weight word", "bank_write": "bus beat",
    "side_read": "parameter row", "scale_read": "row of scales",
    "map_read": "lookup", "table_read": "table row",
    "table_write": "table row", "weight_read": "row of weights", "weight_write": "row of weights"}
TAKEN = {  # actions that were not measured: the measured one that is taken for them, and why
    "silu_multiply": ("requantise", "16 x 16 bits: upper bound, requantising multiplies 32 x 16"),
    "accumulate": ("requantise", "gate x result, 16 x 16 bits: upper bound, as silu_multiply"),
    "score_add": ("weight_add", "6 bits: upper bound, that add has more")}
MEASURED = {
    "mac": "a row of 16 multipliers, with registers of operands, products and its two sums, by 16; "
           "no int32 accumulator",
    "requantise": "a requantiser of 16 bits, with its registers",
    "weight_add": "the learned predictor's sums of 32 experts, with their registers, by 32"}
UNITS = {"mac": "MAC", "requantise": "value", "weight_add": "expert of a row",
         "silu_multiply": "hidden value", "accumulate": "output value of an expert",
         "score_add": "score"}


def entry(action: str, price: str, unit: str, source: str, derivation: str) -> str:
    return (f'\n[action.{action}]\n{price}\nunit = "pJ per {unit}"\n'
            f'source = "{source}"\nderivation = "{derivation}"\n')


def technology(rows: Sequence[dict[str, Any]], streams: int) -> str:
    """The energy table of OSU 180 nm as a file of ``sim/stmoe_sim/energy``."""
    measured = {row["action"]: row["pj"] for row in rows}
    command = f"benchmarks/gate_energy.py --streams {streams}"
    points = [[size, round(pj * 16, 1)] for size, pj in asic.sram_energy()]
    cacti = "CACTI, 45 nm, times (180 / 45)^2, a rough rule; sim/stmoe_sim/synth/sram.toml"
    text = ("# Energies per action, OSU 180 nm, 1.8 V: from toggles of gates. Written by\n"
            f"# {command} --toml FILE; docs/energy.md says what is summed.\n"
            'name = "osu018"\ntitle = "OSU 180 nm, 1.8 V: toggles of gates"\n\n[sram]\n'
            f'access_bits = 64\npoints = {points}  # bytes, pJ\nsource = "{cacti}"\n')
    for action, what in MEASURED.items():
        text += entry(action, f"pj = {measured[action]:.3g}", UNITS[action],
                      f"{command}, osu018_stdcells.lib", what)
    for action, (like, why) in TAKEN.items():
        text += entry(action, f"pj = {measured[like]:.3g}", UNITS[action],
                      f"{command}, osu018_stdcells.lib", f"{like}; {why}")
    for action, unit in ROWS.items():
        text += entry(action, "sram = true", unit, cacti, "bits and bytes of the RAM")
    return text


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--liberty", type=Path, help="default: OSU 180 nm")
    parser.add_argument("--streams", type=int, default=64, help="streams side by side")
    parser.add_argument("--build", type=Path, default=Path("build"))
    parser.add_argument("--json", type=Path)
    parser.add_argument("--toml", type=Path, help="write the energy table of OSU 180 nm")
    options = parser.parse_args()
    liberty = options.liberty or asic.default_liberty(options.build)
    rows = []
    for make in (mac, requantise, weight_add):
        rows.append(measure(make(options.streams), liberty, options.build))
        print("  ".join(f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}"
                        for name, value in rows[-1].items()), flush=True)
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1) + "\n")
    if options.toml:
        options.toml.write_text(technology(rows, options.streams))


if __name__ == "__main__":
    main()
