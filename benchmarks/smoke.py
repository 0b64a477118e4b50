"""One layer command through the netlist of a preset as large as `server`, held against golden.

    python benchmarks/smoke.py --preset server --d-ff 128

Generates, Verilates and compiles the preset, in the cache of simulators, and tells what each took;
then one token of layer 0 is routed to the first ``top_k`` experts, all missing, over an ideal link.
Outputs, decisions and counters are compared; exit 1 unless all are equal. A memory of those experts
alone: all of `server` are 29 GB. ``--break`` has other weights in memory than golden has.
"""

import argparse
import dataclasses
import resource
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from stmoe.bus.csr import register_map
from stmoe.config import Geometry, preset
from stmoe_golden.compute.blob import pack
from stmoe_sim import replay, verilator
from stmoe_sim.image import Experts
from stmoe_sim.job import write_job
from stmoe_sim.memory import memory
from stmoe_sim.policies import parse_policies
from stmoe_sim.verify import (
    Verdict,
    check_counters,
    check_predictions_and_events,
    check_results,
)

SEED = 1


def timed(text: str, call):
    """``call``, which tells how long it took, in processor time of all its processes."""
    def wrapper(*given):
        before, begun = sum(spent()), time.time()
        found = call(*given)
        print(f"{text}: {sum(spent()) - before:,.0f} s of processor time, "
              f"{time.time() - begun:,.0f} s", flush=True)
        return found
    return wrapper


def spent() -> list[float]:
    """Processor time of this process and of those that it has waited for."""
    return [getattr(resource.getrusage(who), field) for field in ("ru_utime", "ru_stime")
            for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]


def write_experts(path: Path, experts: Experts, count: int, broken: bool) -> None:
    """The image of layer 0's first experts, as :func:`stmoe_sim.image.write_image` writes all."""
    g = experts.geometry
    with path.open("wb") as file:
        for number in range(count):
            expert = experts.get(0, number)
            if broken and not number:
                expert = dataclasses.replace(expert, down=~expert.down)
            blob = pack(expert, g).ljust(g.stride, b"\0")
            file.write(np.frombuffer(blob, np.uint8).reshape(-1, g.axi_bytes)[:, ::-1].tobytes())


def main(name: str, d_ff: int, cache: Path, broken: bool) -> int:
    """Print what was done; the exit code."""
    config = preset(name)
    g, count = Geometry(config, d_ff), config.model.top_k
    verilator.emit_verilog = timed("generated", verilator.emit_verilog)
    verilator.compile_model = timed("verilated and compiled", verilator.compile_model)
    simulator = verilator.build(config, memory_words=count * g.stride // g.axi_bytes, cache=cache)
    home = simulator.path.parent
    made = sum(path.stat().st_size for kind in ("*.cpp", "*.h") for path in home.rglob(kind))
    print(f"Verilog: {(home / 'stmoe.v').stat().st_size / 1e6:.1f} MB, C++: {made / 1e6:.1f} MB")
    experts, rng = Experts(g, SEED), np.random.default_rng(SEED)
    stimulus = {"experts": np.arange(count)[None, None], "router": np.zeros((0, 1), np.int8),
                "gates": rng.integers(0, 65536, (1, 1, count)).astype(np.uint16),
                "x": rng.integers(-128, 128, (1, 1, config.model.d_model), np.int8),
                "token": np.array([-1]), "first": np.array([True])}
    (policy,) = parse_policies("on-demand")
    verdict = Verdict()
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        write_experts(home / "experts.bin", experts, count, broken)
        write_job(home, geometry=g, policy=policy, unit=None, stimulus=stimulus,
                  registers=register_map(Geometry(config)), memory=memory("ideal"), warmup=0,
                  attention_cycles=0, stall=0, route_on_chip=False)
        outcome = timed("simulated", replay.play)(simulator, home, [
            f"+image={home / 'experts.bin'}", f"+image_words={count * g.stride // g.axi_bytes}"])
        produced = np.load(home / "result.npz")
        check_results(verdict, experts, stimulus["experts"], stimulus["gates"], stimulus["x"],
                      produced["results"], produced["errors"])
        golden = check_predictions_and_events(
            verdict, g, policy, home / "events.log", stimulus["experts"], stimulus["token"],
            stimulus["first"], None)
        check_counters(verdict, outcome["counters_all"], golden["counters"])
    print(f"{outcome['cycles']:,} cycles, {count} experts of {config.model.d_model} x {g.ff} on "
          f"{config.pes} PEs of {config.rows} x {config.lanes}; compared "
          + ", ".join(f"{number} {what}" for what, number in verdict.compared.items())
          + f": {len(verdict.mismatches)} mismatches")
    print(*verdict.mismatches, sep="\n", end="")
    return bool(verdict.mismatches)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--preset", default="server")
    parser.add_argument("--d-ff", type=int, default=0, help="hidden width set at run time")
    parser.add_argument("--cache", type=Path, default=Path("build"))
    parser.add_argument("--break", dest="broken", action="store_true")
    given = parser.parse_args()
    sys.exit(main(given.preset, given.d_ff, given.cache, given.broken))
