"""Every proof, and the command that runs them."""

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from . import counters, cycles, handshake, legaliser, protocol, ring, slots
from .proof import Mutation, Proof
from .solve import Outcome, missing, solve

__all__ = ["PROOFS", "faulty", "main", "prove"]

PROOFS: tuple[Proof, ...] = (
    *handshake.PROOFS, *legaliser.PROOFS, *protocol.PROOFS, *slots.PROOFS,
    *ring.PROOFS, *cycles.PROOFS, *counters.PROOFS)

GOOD = ("proved", "holds")


def prove(proof: Proof, folder: Path, *, depth: int = 0, timeout: int = 900) -> Outcome:
    """Run a proof, at its own depth unless another is given."""
    return solve(proof.build(), folder, mode=proof.mode, depth=depth or proof.depth,
                 timeout=timeout)


def faulty(proof: Proof, fault: Mutation, folder: Path) -> Outcome:
    """Look for the trace by which a broken design breaks the rule that it is to break."""
    with fault.applied():  # until the design has been elaborated
        return solve(proof.build().only(fault.rule), folder, mode="bmc",
                     depth=proof.fault_depth or proof.depth)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run proofs and print a table; the exit code is 1 if any does not hold, 2 without tools."""
    parser = argparse.ArgumentParser(
        prog="scripts/formal", description="Prove properties of the hardware with SymbiYosys.")
    parser.add_argument("words", nargs="*", metavar="WORD",
                        help="only proofs whose property or module has every word")
    parser.add_argument("--quick", action="store_true", help="only what the tests run, as deep")
    parser.add_argument("--faults", action="store_true", help="look for every broken design too")
    parser.add_argument("--timeout", type=int, default=900, metavar="S",
                        help="seconds for a proof (default: 900)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the table here as well")
    parser.add_argument("--build", type=Path, default=Path("build/formal"), metavar="FOLDER",
                        help="for the solver's files and traces (default: build/formal)")
    given = parser.parse_args(arguments)
    if missing():
        print(f"scripts/formal: not installed: {', '.join(missing())}; run 'make formal', or "
              "pip install -e '.[formal]'", file=sys.stderr)
        return 2
    rows, good = [], True
    print(f"{'property':<36} {'module':<32} {'mode':<14} {'time':>7}  result")
    for number, proof in enumerate(PROOFS):
        text = f"{proof.name} {proof.module}".lower()
        depth = proof.depth if not given.quick or proof.quick is None else proof.quick
        if not depth or not all(word.lower() in text for word in given.words):
            continue
        outcome = prove(proof, given.build / f"proof_{number}", depth=depth, timeout=given.timeout)
        mode = f"{'induction' if proof.mode == 'prove' else 'bounded'} {depth}"
        good &= outcome.status in GOOD
        rows.append(_row(proof, proof.module, mode, outcome))
        for at, fault in enumerate(proof.faults if given.faults else ()):
            outcome = faulty(proof, fault, given.build / f"proof_{number}_fault_{at}")
            good &= (outcome.status, outcome.rule) == ("fails", fault.rule)
            rows.append(_row(proof, f"- broken {fault.target.split(':')[1]}", "bounded", outcome))
    if given.json:
        given.json.parent.mkdir(parents=True, exist_ok=True)
        given.json.write_text(json.dumps(rows, indent=1) + "\n")
    return 0 if good else 1


def _row(proof: Proof, module: str, mode: str, outcome: Outcome) -> dict[str, str | float | int]:
    result = outcome.status
    if result == "fails":
        result += f": {outcome.rule} in step {outcome.step}, {os.path.relpath(outcome.trace)}"
    print(f"{proof.name:<36} {module:<32} {mode:<14} {outcome.seconds:>6.1f}s  {result}",
          flush=True)
    return {"property": proof.name, "module": module, "mode": mode,
            "seconds": round(outcome.seconds, 1), "status": outcome.status, "rule": outcome.rule,
            "step": outcome.step}
