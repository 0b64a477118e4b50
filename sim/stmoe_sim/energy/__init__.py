"""Energies per action of the technologies that come with the project; docs/energy.md."""

from pathlib import Path

from stmoe_golden.energy import EnergyError, Technology

__all__ = ["TECHNOLOGIES", "technology"]

HOME = Path(__file__).parent
SHARED = HOME / "memory.toml"
TECHNOLOGIES = tuple(sorted(path.stem for path in HOME.glob("*.toml") if path != SHARED))


def technology(name: str = "45nm") -> Technology:
    """The technology called ``name``, or the one in the TOML file ``name``, with the memories."""
    path = Path(name) if name.endswith(".toml") else HOME / f"{name}.toml"
    if not path.is_file() or path == SHARED:
        raise EnergyError(f"technology must be one of {', '.join(TECHNOLOGIES)} or a .toml file, "
                          f"not {name!r}")
    return Technology.load(path, SHARED)
