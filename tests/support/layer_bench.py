"""Layer commands through the whole netlist in Amaranth's simulator."""

import random
from typing import NamedTuple

import numpy as np
from amaranth.sim import Simulator

from stmoe.bus.csr import register_map
from stmoe.config import Geometry
from stmoe.interfaces import Opcode
from stmoe.top import Accelerator
from stmoe_golden.compute.blob import pack, pack_matrix
from stmoe_golden.compute.matrix import Matrix

__all__ = ["Dense", "LayerBench", "write"]

SHAPE = ("gu_groups", "dn_tiles", "side_words", "blob_beats", "stride", "group", "slots")
MATRIX_SHAPE = ("matrix_tiles", "matrix_parts", "matrix_beats")
ERRORS = ("error", "error_layer", "error_expert", "error_detail")


class Dense(NamedTuple):
    """A DENSE command: ``count`` blobs from ``first`` on, ``units`` or parts of a matrix."""

    first: int
    count: int
    units: bool
    x: np.ndarray
    layer: int = 0

    def words(self):
        return [Opcode.DENSE | int(self.units) << 8 | self.count << 9 | self.layer << 16
                | len(self.x) << 32 | self.first << 48]


async def write(ctx, dut, address, value):
    """An AXI4-Lite write; returns its response."""
    for name, setting in (("awaddr", address), ("wdata", value), ("wstrb", 15), ("awvalid", 1),
                          ("wvalid", 1), ("bready", 1)):
        ctx.set(getattr(dut, f"s_axil_{name}"), setting)
    await ctx.tick()
    ctx.set(dut.s_axil_awvalid, 0)
    ctx.set(dut.s_axil_wvalid, 0)
    while not ctx.get(dut.s_axil_bvalid):
        await ctx.tick()
    response = ctx.get(dut.s_axil_bresp)
    await ctx.tick()
    return response


async def read(ctx, dut, address):
    """An AXI4-Lite read."""
    for name, setting in (("araddr", address), ("arvalid", 1), ("rready", 1)):
        ctx.set(getattr(dut, f"s_axil_{name}"), setting)
    await ctx.tick()
    ctx.set(dut.s_axil_arvalid, 0)
    while not ctx.get(dut.s_axil_rvalid):
        await ctx.tick()
    value = ctx.get(dut.s_axil_rdata)
    await ctx.tick()
    return value


class LayerBench:
    """A netlist of one layer, its expert memory and a host that routes.

    ``d_ff``: hidden width set at run time. ``experts``: by id, or parts of matrices.
    ``stall``: chance per cycle that memory withholds a beat or takes no burst, and that the host
    takes no result; bursts of different ids are then answered out of order. ``corrupt``: byte
    address of a beat -> times that it comes wrong. ``late``: cycles from reset to the first
    activation.

    After :meth:`play`: ``events`` of the manager, ``errors`` by register, ``asked`` the bursts'
    addresses and ``cycles``.
    """

    LATENCY = 12

    def __init__(self, config, experts, *, d_ff=0, stall=0.0, seed=1, corrupt=None, late=40):
        self.config, self.g = config, Geometry(config, d_ff)
        self.dut = Accelerator(Geometry(config))
        self.registers = register_map(Geometry(config))
        self.stall, self.rng, self.corrupt = stall, random.Random(seed), dict(corrupt or {})
        self.late = late
        g = self.g
        self.image = bytearray(g.memory_bytes)
        for e, expert in experts.items():
            blob = (pack_matrix if isinstance(expert, Matrix) else pack)(expert, g)
            self.image[e * g.stride:e * g.stride + len(blob)] = blob
        self.shape = SHAPE + MATRIX_SHAPE * bool(config.dense_blobs)
        self.events = []
        self.errors, self.asked, self.cycles = {}, [], 0

    def chance(self):
        return self.rng.random() >= self.stall

    def beat(self, address):
        size = self.g.axi_bytes
        word = int.from_bytes(self.image[address:address + size], "little")
        if self.corrupt.get(address, 0):
            self.corrupt[address] -= 1
            word ^= 1 << 9
        return word

    async def memory(self, ctx):
        dut, size = self.dut, self.g.axi_bytes
        waiting, current, offered = [], None, False
        while True:
            ready = self.chance()
            ctx.set(dut.m_axi_arready, ready)
            if current is None:
                ripe = [burst for burst in waiting if burst[0] <= self.cycles]
                if ripe:
                    current = self.rng.choice(ripe) if self.stall else ripe[0]
                    waiting.remove(current)
            if current is not None and not offered and self.chance():
                _, name, address, left = current
                ctx.set(dut.m_axi_rdata, self.beat(address))
                ctx.set(dut.m_axi_rid, name)
                ctx.set(dut.m_axi_rlast, left == 1)
                offered = True
            ctx.set(dut.m_axi_rvalid, offered)
            _, _, asked, address, name, length, taken = await ctx.tick().sample(
                dut.m_axi_arvalid, dut.m_axi_araddr, dut.m_axi_arid, dut.m_axi_arlen,
                dut.m_axi_rready)
            self.cycles += 1
            if offered and taken:
                current[2] += size
                current[3] -= 1
                offered = False
                if not current[3]:
                    current = None
            if asked and ready:
                self.asked.append(address)
                waiting.append([self.cycles + self.LATENCY, name, address, length + 1])

    async def watch(self, ctx):
        dut = self.dut
        async for _, _, valid, *event in ctx.tick().sample(dut.event_valid, *(
                getattr(dut, f"event_{name}") for name in
                ("kind", "layer", "expert", "slot", "arg"))):
            if valid:
                self.events.append(event)

    async def send(self, ctx, port, words):
        for word in words:
            ctx.set(getattr(self.dut, f"{port}_tdata"), word)
            ctx.set(getattr(self.dut, f"{port}_tvalid"), 1)
            ready = 0
            while not ready:
                _, _, ready = await ctx.tick().sample(getattr(self.dut, f"{port}_tready"))
        ctx.set(getattr(self.dut, f"{port}_tvalid"), 0)

    def play(self, commands, limit=40_000):
        """int16 [token, d_model] of each command, (routing, gates, x) or :class:`Dense`, None if it
        has failed."""
        found = []
        simulator = Simulator(self.dut)
        simulator.add_clock(1e-6)

        async def acts(ctx):
            await ctx.tick().repeat(self.late)
            size = self.config.lanes
            for command in commands:
                data = (command.x if isinstance(command, Dense) else command[2]).tobytes()
                await self.send(ctx, "s_axis_act", [int.from_bytes(data[at:at + size], "little")
                                                    for at in range(0, len(data), size)])

        async def host(ctx):
            fields = self.registers["ctrl"]["fields"]
            control = sum(1 << fields[name]["lsb"] for name in ("enable", "retain"))
            values = {"ctrl": control} | {
                f"shape_{name}": getattr(self.g, name) for name in self.shape}
            for name, value in values.items():
                assert await write(ctx, self.dut, self.registers[name]["address"], value) == 0
            if any(self.registers[f"shape_{name}"]["reset"] != getattr(self.g, name)
                   for name in self.shape):
                await self.send(ctx, "s_axis_cmd", [Opcode.FLUSH])
            await self.send(ctx, "s_axis_cmd", [Opcode.TOKEN | 1 << 8])
            for command in commands:
                if isinstance(command, Dense):
                    await self.send(ctx, "s_axis_cmd", command.words())
                    found.append(await self.result(ctx, max(1, len(command.x)), limit))
                    continue
                routing, gates, _ = command
                await self.send(ctx, "s_axis_cmd", [Opcode.LAYER | len(routing) << 32, *(
                    int(e) | int(gate) << 16 for ids, weights in zip(routing, gates, strict=True)
                    for e, gate in zip(ids, weights, strict=True))])
                found.append(await self.result(ctx, len(routing), limit))
            for name in ERRORS:
                self.errors[name] = await read(ctx, self.dut, self.registers[name]["address"])

        simulator.add_testbench(self.memory, background=True)
        simulator.add_testbench(self.watch, background=True)
        simulator.add_testbench(acts, background=True)
        simulator.add_testbench(host)
        simulator.run()
        return found

    async def result(self, ctx, tokens, limit):
        dut, data, failed = self.dut, bytearray(), False
        for _ in range(limit):
            ready = self.chance()
            ctx.set(dut.m_axis_res_tready, ready)
            _, _, valid, word, last, error = await ctx.tick().sample(
                dut.m_axis_res_tvalid, dut.m_axis_res_tdata, dut.m_axis_res_tlast,
                dut.m_axis_res_tuser)
            if valid and ready:
                failed |= error
                data.extend(word.to_bytes(2 * self.config.rows, "little"))
                if last:
                    ctx.set(dut.m_axis_res_tready, 0)
                    return None if failed else np.frombuffer(
                        bytes(data), np.int16).reshape(tokens, -1)
        raise AssertionError("no result comes")
