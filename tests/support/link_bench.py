"""A link engine in Amaranth's simulator, between a script that says every byte and what an
accelerator and a memory would be."""

import random

from amaranth.sim import Simulator

from stmoe.boards.link import LinkEngine
from stmoe.boards.memory_port import MemorySignature
from stmoe.config import PRESETS, Geometry
from stmoe_sim.host.frames import FrameReader, Opcode, encode

CONFIG = PRESETS["tiny"].replace(
    model_layers=1, model_experts=4, model_top_k=1, model_d_model=32, slots=2, max_d_ff=0, pes=1,
    predictor="none", router_layers=0)
GEOMETRY = Geometry(CONFIG)
MEMORY = 1 << 14
CLOCK, BAUD = 25_000_000, 3_000_000
SPACING = 2  # cycles per byte
SESSION = 0x1234


def engine(geometry=GEOMETRY):
    """The unit under test."""
    signature = MemorySignature(addr_bits=16, data_bits=64, id_bits=3)
    return LinkEngine(geometry, signature, memory_bytes=MEMORY, clock_hz=CLOCK, baud=BAUD)


async def until(ctx, condition, value=0):
    """Waits for ``condition``; the value of that cycle. ``TickTrigger.until`` ends noisily."""
    while True:
        _, _, met, seen = await ctx.tick().sample(condition, value)
        if met:
            return seen


class Surroundings:
    """What an accelerator would be: registers in a dictionary, streams, memory, seeded stalls.

    A word that is written to register 0x10 sets ``listening``: whether commands are taken. Every
    activation word is answered by a result: its bytes widened.
    """

    def __init__(self, dut, *, stall=0.2, seed=1):
        self.dut, self.rng, self.stall = dut, random.Random(seed), stall
        self.registers, self.writes = {0x10: 0}, []
        self.memory = bytearray(MEMORY)
        self.commands, self.activations, self.results = [], [], []
        self.listening, self.hold_results, self.memory_hangs = True, False, False
        self.memory_writes = 0

    def chance(self):
        return self.rng.random() >= self.stall

    async def serve_registers(self, ctx):
        axil = self.dut.axil
        while True:
            ready = self.chance()
            for name in ("awready", "wready"):
                ctx.set(getattr(axil, name), ready & ctx.get(axil.awvalid) & ctx.get(axil.wvalid))
            ctx.set(axil.arready, ready)
            _, _, aw, ar, address, value, where = await ctx.tick().sample(
                axil.awvalid & axil.awready, axil.arvalid & axil.arready, axil.awaddr,
                axil.wdata, axil.araddr)
            for name in ("awready", "wready", "arready"):
                ctx.set(getattr(axil, name), 0)
            if aw:
                self.writes.append((address, value))
                self.registers[address] = value
                ctx.set(axil.bresp, 0 if address < 0x800 else 2)
                ctx.set(axil.bvalid, 1)
                await until(ctx, axil.bready)
                ctx.set(axil.bvalid, 0)
            if ar:
                ctx.set(axil.rdata, self.registers.get(where, 0))
                ctx.set(axil.rresp, 0 if where in self.registers else 2)
                ctx.set(axil.rvalid, 1)
                await until(ctx, axil.rready)
                ctx.set(axil.rvalid, 0)

    async def serve_reads(self, ctx):
        ar, r = self.dut.axi.ar, self.dut.axi.r
        while True:
            ctx.set(ar.ready, not self.memory_hangs)
            _, _, valid, request = await ctx.tick().sample(ar.valid & ar.ready, ar.payload)
            if not valid:
                continue
            ctx.set(ar.ready, 0)
            assert request.addr % 4096 + 8 * (request.len + 1) <= 4096, "crosses 4 KiB"
            for beat in range(request.len + 1):
                while not self.chance():
                    await ctx.tick()
                at = request.addr + 8 * beat
                ctx.set(r.payload, {
                    "data": int.from_bytes(self.memory[at:at + 8], "little"),
                    "last": beat == request.len, "resp": 0 if at < MEMORY else 3})
                ctx.set(r.valid, 1)
                await until(ctx, r.ready)
                ctx.set(r.valid, 0)

    async def serve_writes(self, ctx):
        aw, w, b = self.dut.axi.aw, self.dut.axi.w, self.dut.axi.b
        while True:
            ctx.set(aw.ready, 0)
            await until(ctx, aw.valid & w.valid)  # as AXI allows
            ctx.set(aw.ready, 1)
            _, _, request = await ctx.tick().sample(aw.payload)
            ctx.set(aw.ready, 0)
            self.memory_writes += 1
            assert request.addr % 4096 + 8 * (request.len + 1) <= 4096, "crosses 4 KiB"
            for beat in range(request.len + 1):
                while not self.chance():
                    await ctx.tick()
                ctx.set(w.ready, 1)
                value = await until(ctx, w.valid, w.payload)
                ctx.set(w.ready, 0)
                assert value.last == (beat == request.len) and value.strb == 255
                at = request.addr + 8 * beat
                if at < MEMORY:
                    self.memory[at:at + 8] = value.data.to_bytes(8, "little")
            ctx.set(b.payload.resp, 0 if request.addr < MEMORY else 3)
            ctx.set(b.valid, 1)
            await until(ctx, b.ready)
            ctx.set(b.valid, 0)

    async def serve_streams(self, ctx):
        cmd, act, result = self.dut.cmd, self.dut.act, self.dut.result
        offered = None
        while True:
            ctx.set(cmd.ready, self.listening and self.chance())
            ctx.set(act.ready, self.listening and self.chance())
            if offered is None and self.results and not self.hold_results:
                offered = self.results.pop(0)
                ctx.set(result.payload, offered)
            ctx.set(result.valid, offered is not None)
            _, _, command, word, active, values, taken = await ctx.tick().sample(
                cmd.valid & cmd.ready, cmd.payload, act.valid & act.ready, act.payload,
                result.valid & result.ready)
            if command:
                self.commands.append(word)
            if active:
                self.activations.append(values)
            if taken:
                offered = None

    def attach(self, sim):
        for process in (self.serve_registers, self.serve_reads, self.serve_writes,
                        self.serve_streams):
            sim.add_testbench(process, background=True)


def play(script, *, stall=0.2):
    """Run the coroutine ``script`` on a :class:`Port` whose session is open; the surroundings."""
    dut = engine()
    around = Surroundings(dut, stall=stall)
    sim = Simulator(dut)
    sim.add_clock(1e-8)
    around.attach(sim)
    port = Port(dut, around)

    async def host(ctx):
        port.ctx = ctx
        await port.send(encode(0, Opcode.HELLO, SESSION.to_bytes(4, "little")))
        await port.replies()
        await script(port)

    async def take(ctx):
        ctx.set(dut.line.ready, 1)
        async for _, _, valid, byte in ctx.tick().sample(dut.line.valid, dut.line.payload):
            if valid:
                port.raw.append(byte)
    sim.add_testbench(host)
    sim.add_testbench(take, background=True)
    sim.run()
    return around


class Port:
    """The line, for scripts that say every byte."""

    def __init__(self, dut, around):
        self.dut, self.around, self.raw, self.reader = dut, around, bytearray(), FrameReader()
        self.ctx = None

    async def send(self, line):
        """Bytes, -1 for one that is broken."""
        for byte in line:
            self.ctx.set(self.dut.byte, {"valid": byte >= 0, "broken": byte < 0,
                                         "data": max(0, byte)})
            await self.ctx.tick()
            self.ctx.set(self.dut.byte.valid, 0)
            self.ctx.set(self.dut.byte.broken, 0)
            for _ in range(SPACING - 1):
                await self.ctx.tick()

    async def replies(self, cycles=3000):
        """Frames that came until nothing is active any more."""
        for _ in range(8):
            await self.ctx.tick()
        for _ in range(cycles):
            if not self.ctx.get(self.dut.active):
                break
            await self.ctx.tick()
        await self.ctx.tick().repeat(4)
        frames = self.reader.feed(bytes(self.raw))
        self.raw.clear()
        return frames
