"""cocotb side of ``tests/cosim/test_second_party.py``: the DMA, and memory by cocotbext-axi.

What it plays is in the JSON file that ``STMOE_JOB`` names.
"""

import json
import logging
import os
import random
from pathlib import Path

import cocotb
from cocotb.clock import Clock
from cocotb.triggers import ClockCycles, RisingEdge
from cocotbext.axi import AxiRamRead, AxiReadBus

__all__ = ["AnyOrder"]

DONE, FAILED = 1, 2  # of Status, what the DMA reports of an expert that has landed, or has not
SLVERR, DECERR = 2, 3
LIMIT = 100_000  # cycles


class AnyOrder(AxiRamRead):
    """Beats of different ids come in any order; of one, as AXI has it, in the order asked for."""

    rng = random.Random(5)
    errors, retries, lasting = 0.0, 0, -1  # share of bursts, times at one address; address

    def spoils(self, start: int) -> bool:
        """Whether a burst is answered with an error."""
        self.spoilt = getattr(self, "spoilt", {})
        if start == self.lasting:
            return True
        if self.spoilt.get(start, 0) == self.retries or self.rng.random() >= self.errors:
            return False
        self.spoilt[start] = self.spoilt.get(start, 0) + 1
        return True

    async def _process_read(self):
        queues: dict[int, list] = {}
        while True:
            while not queues or (not self.ar_channel.empty() and self.rng.random() < 0.7):
                ar = await self.ar_channel.recv()
                start = int(ar.araddr)
                size, beats = 1 << int(ar.arsize), int(ar.arlen) + 1
                assert start % 4096 + size * beats <= 4096 and int(ar.arburst) == 1
                wrong = self.rng.randrange(beats) if self.spoils(start) else -1
                queues.setdefault(int(ar.arid), []).extend(
                    (start + size * i, i == beats - 1,
                     self.rng.choice((SLVERR, DECERR)) if i == wrong else 0)
                    for i in range(beats))
            name = self.rng.choice(list(queues))
            address, last, response = queues[name].pop(0)
            if not queues[name]:
                del queues[name]
            r = self.r_channel._transaction_obj()
            r.rid, r.rlast, r.rresp = name, last, response
            r.rdata = int.from_bytes(await self._read(address, self.byte_lanes), "little")
            await self.r_channel.send(r)


def pauses(rng: random.Random, share: float):
    """Cycles in which a channel is not served, for ever."""
    while True:
        yield rng.random() < share


@cocotb.test()
async def experts_land_whole(dut):
    """Demands and prefetches land with the bytes that are in memory, and each is reported."""
    job = json.loads(Path(os.environ["STMOE_JOB"]).read_text())
    logging.getLogger(f"cocotb.{dut._name}").setLevel(logging.WARNING)
    rng = random.Random(job["seed"])
    cocotb.start_soon(Clock(dut.clk, 2, "step").start())
    for name in ("demand_valid", "prefetch_valid"):
        getattr(dut, name).value = 0
    dut.blob_beats.value, dut.stride.value = job["blob_beats"], job["stride"] + job["shift"]
    dut.rst.value = 1
    memory = (AnyOrder if job["any_order"] else AxiRamRead)(
        AxiReadBus.from_prefix(dut, "m_axi"), dut.clk, dut.rst, size=1 << 17)
    image = bytes.fromhex(job["image"])
    memory.write(0, image)
    memory.errors, memory.retries = job["errors"], job["retries"]
    memory.lasting = job["lasting"] * job["stride"]
    memory.ar_channel.set_pause_generator(pauses(rng, job["pause"]))
    memory.r_channel.set_pause_generator(pauses(rng, job["pause"]))
    await ClockCycles(dut.clk, 4)
    dut.rst.value = 0

    orders, size = list(job["orders"]), job["bytes"]  # [kind, expert, slot]
    offered, in_slot, landed, done, retried = None, {}, {}, [], 0
    for _ in range(LIMIT):
        await RisingEdge(dut.clk)
        if offered is not None and int(getattr(dut, f"{offered[0]}_ready").value):
            getattr(dut, f"{offered[0]}_valid").value = 0
            in_slot[offered[2]], offered = offered[1], None
        retried += int(dut.retried.value)
        if int(dut.fill_valid.value):
            data = dut.fill_data.value.to_bytes(byteorder="little")
            beats = landed.setdefault(int(dut.fill_slot.value), {})
            assert job["errors"] or int(dut.fill_beat.value) not in beats, "a beat came twice"
            beats[int(dut.fill_beat.value)] = data
        if int(dut.status_valid.value):
            slot, kind = int(dut.status_slot.value), int(dut.status_kind.value)
            lost = in_slot[slot] == job["lasting"]
            assert kind in (0, FAILED if lost else DONE), f"slot {slot} reported kind {kind}"
            if kind == FAILED:
                done.append(slot)
                landed.pop(slot, None)
            if kind == DONE:
                done.append(slot)
                want = image[in_slot[slot] * job["stride"]:][:job["blob_beats"] * size]
                words = [want[i * size:][:size] for i in range(job["blob_beats"])
                         if not job["tile_beats"] or (
                             (i + 1) % job["tile_beats"] and i + 1 != job["blob_beats"])]
                assert landed.pop(slot) == dict(enumerate(words)), f"slot {slot}"
        if len(done) == len(job["orders"]):
            break
        if offered is None and orders and rng.random() < 0.5:
            offered = orders.pop(0)
            kind, expert, slot = offered
            getattr(dut, f"{kind}_slot").value = slot
            getattr(dut, f"{kind}_expert").value = expert
            getattr(dut, f"{kind}_valid").value = 1
    assert bool(retried) == bool(job["errors"])
    assert sorted(done) == sorted(slot for _, _, slot in job["orders"]), "experts are missing"
    await ClockCycles(dut.clk, 20)
    assert not int(dut.m_axi_arvalid.value) and not landed
