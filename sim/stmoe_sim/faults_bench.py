"""cocotb test that plays a run of a fault campaign: a layer command per step, and its faults.

Runs inside the simulator process, as ``bench.py`` does. Beside the job it reads ``plan.json``; it
leaves ``results.npz`` and ``record.json``, which say per step what was seen, without a judgement.
"""

import json
import os
from pathlib import Path
from typing import Any

import cocotb
import numpy as np

from .bench import Driver, flush_log, idle, prepare, token_word

TOTALS = ("freezes", "faults", "write_faults", "corrupted", "resets")
LIMITS = {"freeze_most": "freezes", "fault_count": "faults", "write_fault_count": "write_faults",
          "corrupt_count": "corrupted"}
QUIET_CYCLES, PATIENCE_CYCLES = 20_000, 2_000_000
REGISTER_READS = 4


class Run:
    """The machine, and what has happened to it."""

    def __init__(self, dut: Any, job: dict[str, Any], stimulus: Any):
        self.dut, self.job, self.stimulus = dut, job, stimulus
        self.registers = job["registers"]
        self.driver: Driver | None = None

    async def begin(self) -> None:
        """Registers, FLUSH, tables; RuntimeError if the netlist refuses."""
        self.driver, outcome = await prepare(self.dut, self.job, self.stimulus, self.driver)
        if outcome["error"]:
            raise RuntimeError(outcome["error"])
        self.dut.limit.value = QUIET_CYCLES
        self.dut.patience.value = PATIENCE_CYCLES

    def totals(self) -> dict[str, int]:
        return {name: int(getattr(self.dut, name).value) for name in TOTALS}

    def arm(self, settings: dict[str, int]) -> None:
        totals = self.totals()
        for name, value in settings.items():
            if name in LIMITS:
                value += totals[LIMITS[name]]
            getattr(self.dut, name).value = value
        if "reset_wait" in settings:
            self.dut.reset_go.value = int(self.dut.reset_go.value) ^ 1

    def disarm(self) -> None:
        totals = self.totals()
        for limit, total in LIMITS.items():
            getattr(self.dut, limit).value = totals[total]
        self.dut.reset_armed.value = 0

    async def errors(self) -> dict[str, int]:
        """The error registers, cleared if there was one."""
        assert self.driver is not None
        names = self.registers["errors"]
        if not await self.driver.read(names["error"]):
            return {"error": 0}
        found = {name: await self.driver.read(address) for name, address in names.items()}
        await self.driver.write(names["error"], 0xff)
        return found

    async def refused(self, bad: dict[str, Any], act: bytes, width: int) -> dict[str, Any]:
        """Send a command that must be refused; what was answered."""
        assert self.driver is not None
        shape = self.job["shape_register"]
        if bad["what"] == "shape":
            await self.driver.write(shape[0], 0)
        found: dict[str, Any] = {}
        if bad["answers"]:
            data, marked = await self.driver.layer(bad["words"], act, width, 0)
            found = {"marked": marked, "zeros": not data.any()}
        else:
            await self.driver.command(bad["words"])
            await idle(self.driver, self.registers)
        if bad["what"] == "shape":
            await self.driver.write(*shape)
        return found | await self.errors()

    async def step(self, step: dict[str, Any], token: list[int], words: list[int], act: bytes,
                   width: int) -> tuple[dict[str, Any], np.ndarray]:
        """Play a step; ``token``: command words before it. RuntimeError if the watchdog barks."""
        assert self.driver is not None
        record: dict[str, Any] = {"start": int(self.dut.cycle.value)}
        before = self.totals()
        if step["bad"]:
            record["refused"] = await self.refused(step["bad"], act, width)
        self.arm(step["settings"])
        front = token + step["words"]
        result, marked = await self.driver.layer(front + words, act, width, 0)
        resets = self.totals()["resets"] - before["resets"]
        if resets:
            self.disarm()
            await self.begin()
            result, marked = await self.driver.layer(token + words, act, width, 0)
        if step["repeat"]:
            again, marked = await self.driver.layer(words, act, width, 0)
            record["repeats"] = bool(np.array_equal(again, result))
        if step["kind"] in ("stall of registers", "all at once"):
            for _ in range(REGISTER_READS):
                await self.driver.read(self.registers["busy"][0])
        record |= {"marked": marked, "errors": await self.errors()}
        self.disarm()
        after = self.totals()
        return record | {"end": int(self.dut.cycle.value),
                         "totals": {name: after[name] - before[name] for name in TOTALS}}, result


@cocotb.test()
async def play(dut: Any) -> None:
    """Play the run in the folder named by the environment."""
    home = Path(os.environ["STMOE_JOB"])
    job = json.loads((home / "job.json").read_text())
    plan = json.loads((home / "plan.json").read_text())
    with np.load(home / "job.npz") as file:
        stimulus = dict(file)
    run = Run(dut, job, stimulus)
    await run.begin()
    experts, gates, x = (stimulus[name] for name in ("experts", "gates", "x"))
    _, layers, width = x.shape
    results = np.zeros((len(plan), width), np.int16)
    outcome: dict[str, Any] = {"steps": [], "hung": None}
    progress = os.open(home / "progress", os.O_CREAT | os.O_WRONLY)
    for number, step in enumerate(plan):
        t, layer = divmod(number, layers)
        words = [int(stimulus["header"][t, layer])]
        words += [int(e) | int(gate) << 16
                  for e, gate in zip(experts[t, layer], gates[t, layer], strict=True)]
        token = [] if layer else [token_word(int(stimulus["token"][t]), bool(stimulus["first"][t]))]
        before = run.totals()
        try:
            record, results[number] = await run.step(step, token, words, x[t, layer].tobytes(),
                                                     width)
        except RuntimeError as error:
            outcome["hung"] = str(error)
            after = run.totals()
            outcome["steps"].append({"totals": {name: after[name] - before[name]
                                                for name in TOTALS}})
            break
        outcome["steps"].append(record)
        os.pwrite(progress, b"%08d" % (number + 1), 0)
    os.close(progress)
    if outcome["hung"] is None:
        assert run.driver is not None
        try:
            await idle(run.driver, job["registers"])
        except RuntimeError as error:
            outcome["hung"] = str(error)
    outcome |= {"violations": int(dut.violations.value), "cycles": int(dut.cycle.value)}
    await flush_log(dut)
    np.savez(home / "results.npz", results=results)
    (home / "record.json").write_text(json.dumps(outcome))
