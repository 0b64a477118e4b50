"""cocotb test that plays one job on the simulated top. Acts per command; knows nothing of golden.

Runs inside the simulator process. The job is a directory: ``job.json`` (registers, modes, widths)
and ``job.npz`` (stimulus); it leaves ``result.npz``, ``result.json``, ``events.log`` and, in
``progress``, the number of tokens done.
"""

import json
import os
import time
from pathlib import Path
from typing import Any

import cocotb
import numpy as np
from cocotb.triggers import Timer, ValueChange

TOKEN, _, LOAD_ROUTER, _, FLUSH = range(1, 6)
IDLE_READS = 10_000
WORST = "first_beat_worst"  # of all cycles, the only counter that is no sum
PORTS = ("s_axis_cmd", "s_axis_act", "m_axis_res", "m_axi AR", "m_axi R", "m_axi AW or W",
         "m_axi B")  # bits of hung_on


def stalled_ports(dut: Any) -> list[str]:
    """The ports that waited for their other side when the watchdog barked."""
    waiting = int(dut.hung_on.value)
    return [name for bit, name in enumerate(PORTS) if waiting >> bit & 1]


class Driver:
    """Handshake with the registers of ``stmoe_tb``."""

    def __init__(self, dut: Any, layout: dict[str, int]):
        self.dut, self.layout = dut, layout
        self.go = self.reg_go = 0

    async def command(self, words: list[int], act: bytes = b"", *, result: bool = False,
                      delay: int = 0) -> None:
        """Send command words and activation bytes; with ``result``, wait for the packet."""
        dut = self.dut
        data = 0
        for index, word in enumerate(words):
            data |= word << (64 * index)
        dut.cmd_data.value = data
        dut.cmd_count.value = len(words)
        dut.act_count.value = len(act) * 8 // self.layout["act_bits"]
        if act:
            dut.act_data.value = int.from_bytes(act, "little")
        dut.want_result.value = int(result)
        dut.delay.value = delay
        self.go ^= 1
        dut.go.value = self.go
        await ValueChange(dut.done)

    async def layer(self, words: list[int], act: bytes, width: int,
                    delay: int) -> tuple[np.ndarray, bool]:
        """Send a LAYER command; its result, int16 [width], and whether it is marked as failed.

        RuntimeError if the watchdog finds that a stream stalled.
        """
        await self.command(words, act, result=True, delay=delay)
        if bool(self.dut.hung.value):
            waiting = stalled_ports(self.dut)
            raise RuntimeError(
                f"watchdog: {' and '.join(waiting)} stalled; see the last lines of the log"
                if waiting else "watchdog: no result comes, and no port waits")
        data = self.dut.res_data.value.to_bytes(byteorder="little")
        return np.frombuffer(data, np.int16)[:width], bool(self.dut.res_error.value)

    async def write(self, address: int, value: int) -> int:
        """Write a register; the response."""
        self.dut.reg_write.value = 1
        self.dut.reg_wdata.value = value
        return await self._register(address)

    async def read(self, address: int) -> int:
        """Read a register."""
        self.dut.reg_write.value = 0
        await self._register(address)
        return int(self.dut.reg_rdata.value)

    async def _register(self, address: int) -> int:
        self.dut.reg_addr.value = address
        self.reg_go ^= 1
        self.dut.reg_go.value = self.reg_go
        await ValueChange(self.dut.reg_done)
        return int(self.dut.reg_resp.value)


async def read_counters(driver: Driver, registers: dict[str, Any]) -> dict[str, int]:
    """All 64-bit counters as they run on, a few cycles apart, always the same few."""
    values = {}
    for name, (low, high) in registers["counters"].items():
        values[name] = await driver.read(low) | (await driver.read(high) << 32)
    return values


async def idle(driver: Driver, registers: dict[str, Any]) -> None:
    """Wait until nothing is in flight; cancelled transfers may still be drained.

    RuntimeError if something stays in flight.
    """
    status, busy = registers["busy"]
    for _ in range(IDLE_READS):
        if not await driver.read(status) & busy:
            return
    raise RuntimeError(f"busy is still set after {IDLE_READS} reads of status")


async def frozen_counters(driver: Driver, registers: dict[str, Any]) -> dict[str, int]:
    """All 64-bit counters of one moment, once nothing is in flight that a freeze would not count.

    RuntimeError if something stays in flight.
    """
    await idle(driver, registers)
    address, freeze = registers["freeze"]
    await driver.write(address, freeze)
    values = await read_counters(driver, registers)
    await driver.write(address, 0)
    return values


async def prepare(dut: Any, job: dict[str, Any], stimulus: Any,
                  driver: Driver | None = None) -> tuple[Driver, dict[str, Any]]:
    """Bring the machine to where tokens can be sent: settings, FLUSH, tables, router weights.

    ``driver``: the one that was used before a reset.

    Returns the driver and the beginning of the outcome, whose ``error`` is not None if the netlist
    is not the job's or refuses a register.
    """
    layout, registers = job["layout"], job["registers"]
    driver = driver or Driver(dut, layout)
    for name, value in job["memory"].items():
        getattr(dut, name).value = value
    dut.stall.value = job["stall"]
    await Timer(1, "ns")
    identity = [await driver.read(address) for address in registers["hash"]]
    found = identity[0] | identity[1] << 32
    outcome: dict[str, Any] = {"hash": found, "error": None}
    if found != job["hash"]:
        outcome["error"] = (f"configuration hash: the netlist has {found:016x}, "
                            f"the job was made for {job['hash']:016x}")
        return driver, outcome
    for address, value in registers["setup"]:
        response = await driver.write(address, value)
        if response:
            outcome["error"] = f"register 0x{address:03x}: write answered with response {response}"
            return driver, outcome
    await driver.command([FLUSH])
    batch: list[int] = []
    for words in stimulus["rows"].tolist():
        batch += words
        if len(batch) + len(words) > layout["cmd_words"]:
            await driver.command(batch)
            batch = []
    if batch:
        await driver.command(batch)
    for layer, weights in enumerate(stimulus["router"]):
        step = layout["act_words"] * layout["act_bits"] // 8
        blob = weights.tobytes()
        await driver.command([LOAD_ROUTER | layer << 16], blob[:step])
        for start in range(step, len(blob), step):
            await driver.command([], blob[start:start + step])
    return driver, outcome


async def settle(dut: Any, driver: Driver, job: dict[str, Any]) -> dict[str, Any]:
    """Wait until nothing is in flight; counters, verdicts of the checkers, error registers."""
    registers = job["registers"]
    counters = await frozen_counters(driver, registers)
    if job["streams_rows"]:  # the last token's rows go to memory
        await driver.command([FLUSH])
        await idle(driver, registers)
    return {
        "counters_all": counters,
        "violations": int(dut.violations.value), "irq": bool(dut.irq_seen.value),
        "errors": {name: await driver.read(address)
                   for name, address in registers["errors"].items()}}


def token_word(identity: int, first: bool) -> int:
    """The TOKEN command."""
    return TOKEN | int(first) << 8 | (identity & 0xffffffff) << 32


async def flush_log(dut: Any) -> None:
    """Write the event log out."""
    dut.flush_log.value = 1
    await Timer(2, "ns")


@cocotb.test()
async def play(dut: Any) -> None:
    """Play the job named by the environment."""
    home = Path(os.environ["STMOE_JOB"])
    job = json.loads((home / "job.json").read_text())
    stimulus = np.load(home / "job.npz")
    driver, outcome = await prepare(dut, job, stimulus)
    if outcome["error"]:
        (home / "result.json").write_text(json.dumps(outcome))
        return
    registers = job["registers"]
    experts, gates, acts = stimulus["experts"], stimulus["gates"], stimulus["x"]
    headers, identity_of, first = stimulus["header"], stimulus["token"], stimulus["first"]
    scales = stimulus["scale"].tolist() if "scale" in stimulus else []
    set_scales: dict[int, int] = {}
    tokens, layers, _ = experts.shape
    width = acts.shape[-1]
    results = np.zeros((tokens, layers, width), np.int16)
    errors = np.zeros((tokens, layers), bool)
    started, start_cycle = time.process_time(), int(dut.cycle.value)
    progress = os.open(home / "progress", os.O_CREAT | os.O_WRONLY)
    before: dict[str, int] = {}
    for step, (start, stop) in enumerate(stimulus["steps"].tolist()):
        t = slice(start, stop)
        if start == job["warmup"]:
            before = await frozen_counters(driver, registers)
        await driver.command([token_word(int(identity_of[stop - 1]), bool(first[t].any()))])
        for layer in range(layers):
            words = [int(headers[step, layer])]
            if not words[0] >> 8 & 1:  # not routed on chip
                words += [int(e) | int(g) << 16 for e, g in zip(
                    experts[t, layer].ravel(), gates[t, layer].ravel(), strict=True)]
            for address, (mult, shift) in zip(registers["router_scale"], scales[layer:layer + 2],
                                              strict=False):
                if set_scales.get(address) != (value := mult | shift << 16):
                    await driver.write(address, value)
                    set_scales[address] = value
            try:
                found, errors[t, layer] = await driver.layer(
                    words, acts[t, layer].tobytes(), width * (stop - start),
                    job["attention_cycles"])
                results[t, layer] = found.reshape(-1, width)
            except RuntimeError as error:
                outcome["error"] = f"token {start}, layer {layer}: {error}"
                break
        if outcome["error"]:
            break
        os.pwrite(progress, b"%08d" % stop, 0)
    os.close(progress)
    elapsed = time.process_time() - started  # of this process, so of one core
    outcome["ended"] = int(dut.cycle.value)  # with the last result
    outcome |= await settle(dut, driver, job)
    after = outcome["counters_all"]
    outcome |= {
        "counters": {name: after[name] - (0 if name == WORST else before.get(name, 0))
                     for name in after},
        "cycles": int(dut.cycle.value) - start_cycle, "seconds": elapsed}
    await flush_log(dut)
    np.savez(home / "result.npz", results=results, errors=errors)
    (home / "result.json").write_text(json.dumps(outcome))
