"""Families of FPGAs: the synthesis command, what its cells count as, and the parts there are."""

import dataclasses
import re
import tomllib
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from stmoe.config.error import ConfigError

__all__ = ["FAMILIES", "RESOURCES", "Family", "Part", "part", "parts", "resources", "script"]

RESOURCES = ("lut", "ff", "dsp", "bram")


@dataclasses.dataclass(frozen=True)
class Family:
    """A family of FPGAs.

    Attributes
    ----------
    command: of yosys, without ``-top``. library: its cells, by which ports have directions.
    cells: kind of cell, as a regular expression -> what one takes of each resource.
    """

    command: str
    library: tuple[str, ...]
    cells: Mapping[str, Mapping[str, float]]
    note: str = ""


FAMILIES = {
    "ecp5": Family(
        "synth_ecp5", ("+/ecp5/cells_sim.v", "+/ecp5/cells_bb.v"),
        {"LUT4": {"lut": 1}, "CCU2C": {"lut": 2}, "TRELLIS_DPR16X4": {"lut": 6},
         "TRELLIS_FF": {"ff": 1}, "MULT18X18D": {"dsp": 1}, "MULT9X9D": {"dsp": 0.5},
         "DP16KD|PDPW16KD": {"bram": 1}}),
    "ice40": Family(
        "synth_ice40 -dsp -device u", ("+/ice40/cells_sim.v",),
        {"SB_LUT4": {"lut": 1}, "SB_CARRY": {}, r"SB_DFF\w*": {"ff": 1},
         "SB_MAC16": {"dsp": 1}, r"SB_RAM40_4K\w*": {"bram": 1}}),
    "gowin": Family(
        "synth_gowin -family gw2a", ("+/gowin/cells_sim.v", "+/gowin/cells_xtra_gw2a.v"),
        {"LUT[1-4]": {"lut": 1}, "LUT5": {"lut": 2}, "LUT6": {"lut": 4}, "LUT7": {"lut": 8},
         "LUT8": {"lut": 16}, "ALU": {"lut": 1}, r"RAM16SDP[124]": {"lut": 6},
         r"DFF\w*": {"ff": 1}, "MULT18X18": {"dsp": 1}, "MULT9X9": {"dsp": 0.5},
         "MULT36X36": {"dsp": 4}, r"MULTALU18X18|MULTADDALU18X18": {"dsp": 2},
         r"SDPB|SDPX9B|DPB|DPX9B|SPX9|SP|pROM|pROMX9": {"bram": 1}, "INV": {"lut": 1}}),
    "nexus": Family(
        "synth_nexus -family lifcl -noiopad",
        ("+/lattice/cells_sim_nexus.v", "+/lattice/cells_bb_nexus.v"),
        {"LUT4": {"lut": 1}, "INV": {"lut": 1}, "CCU2": {"lut": 2}, "DPR16X4": {"lut": 6},
         r"FD1P3\w+": {"ff": 1}, r"MULT18X18|MULT18X36|MULTADDSUB\w+": {"dsp": 1},
         "MULT9X9": {"dsp": 0.5}, r"PDPSC16K|PDP16K|DP16K|PDPSC16K_MODE|PDP16K_MODE|DP16K_MODE":
         {"bram": 1}})}
FREE = re.compile(r"PFUMX|L6MUX21|GSR|\$scopeinfo|VHI|VLO|MUX2_\w+|GND|VCC|WIDEFN9|IBUF|OBUF")
"""Cells that cost nothing beside LUTs that are counted, or are no resource."""


@dataclasses.dataclass(frozen=True)
class Part:
    """A part of ``devices.toml``: what there is, the arguments by which nextpnr knows it, and where
    it has the harness's pins."""

    name: str
    target: str
    lut: int
    ff: int
    dsp: int
    bram: int
    bram_bits: int
    nextpnr: tuple[str, ...] = ()
    pins: tuple[str, ...] = ()


@cache
def parts() -> dict[str, Part]:
    """All known parts, by name."""
    data = tomllib.loads((Path(__file__).with_name("devices.toml")).read_text())
    return {name: Part(name=name, target=target, nextpnr=tuple(fields.pop("nextpnr", ())),
                       pins=tuple(fields.pop("pins", ())), **fields)
            for target, of in data.items() for name, fields in of.items()}


def part(name: str | None, target: str) -> Part:
    """The part called ``name``, or the first of the target; errors name those of the target."""
    known = {key: one for key, one in parts().items() if one.target == target}
    if name is None:
        return next(iter(known.values()))
    if name not in known:
        raise ConfigError("--part", name, f"a part of {target}: {', '.join(known)}")
    return known[name]


def resources(target: str, cells: Mapping[str, int]) -> dict[str, int]:
    """Resources that cells take; a kind that the family does not know is an error."""
    total = dict.fromkeys(RESOURCES, 0.0)
    for kind, count in cells.items():
        for pattern, takes in FAMILIES[target].cells.items():
            if re.fullmatch(pattern, kind):
                for name, share in takes.items():
                    total[name] += share * count
                break
        else:
            if not FREE.fullmatch(kind):
                raise ValueError(f"{target}: cell {kind} counts as no resource; known are "
                                 + ", ".join(FAMILIES[target].cells))
    return {name: round(value + 0.25) for name, value in total.items()}


def script(target: str, unit: str) -> list[str]:
    """Commands of yosys from ``unit.il`` to ``mapped.il`` and ``stat.json``."""
    return ["read_rtlil unit.il", f"{FAMILIES[target].command} -top {unit}",
            f"select -module {unit}", "write_rtlil -selected mapped.il", "select -clear",
            "tee -q -o stat.json stat -json"]
