"""cocotb test that does what the other end of a socket asks, until it hangs up.

Runs inside the simulator process. Simulated time stands still while it waits for an order. The
orders are those of :class:`stmoe_sim.live.LiveMachine`.
"""

import json
import os
import socket
from pathlib import Path
from typing import Any

import cocotb
import numpy as np

from .bench import flush_log, prepare, read_counters, settle, token_word
from .wire import Wire, WireError


@cocotb.test()
async def serve(dut: Any) -> None:
    """Serve the inherited socket whose number is in the environment."""
    home = Path(os.environ["STMOE_JOB"])
    job = json.loads((home / "job.json").read_text())
    wire = Wire(socket.socket(fileno=int(os.environ["STMOE_SOCKET"])))
    with np.load(home / "job.npz") as stimulus:
        driver, outcome = await prepare(dut, job, stimulus)
    wire.send(outcome)
    if outcome["error"]:
        return
    registers = job["registers"]
    while True:
        try:
            order, data = wire.receive()
        except WireError:
            break
        if order["do"] == "token":
            await driver.command([token_word(order["token"], order["first"])])
            wire.send({})
        elif order["do"] == "layer":
            for address, value in order["registers"]:
                await driver.write(address, value)
            result, failed = await driver.layer(order["words"], data, order["width"],
                                                order["delay"])
            wire.send({"failed": failed}, result.tobytes())
        elif order["do"] == "counters":
            wire.send({"counters": await read_counters(driver, registers)})
        else:
            outcome = await settle(dut, driver, job)
            await flush_log(dut)
            wire.send(outcome)
    wire.close()
