"""A layer command of many tokens through the whole netlist, more experts than slots."""

from collections import deque

import numpy as np
import pytest
from amaranth.sim import Simulator

from stmoe.bus.csr import register_map
from stmoe.config import PRESETS, Geometry
from stmoe.interfaces import Opcode
from stmoe.top import Accelerator
from stmoe_golden.compute.blob import pack
from stmoe_golden.compute.expert import Expert
from stmoe_golden.compute.mapping import moe_tokens

from .test_top import write

CONFIG = PRESETS["tiny"].replace(
    model_layers=1, model_experts=5, model_top_k=2, model_d_model=32, model_d_ff=16, slots=2,
    max_d_ff=0, pes=2, predictor="none", router_layers=0, max_tokens=4)
GEOMETRY = Geometry(CONFIG)


def run(routing, gates, x, experts):
    """Result int16 [token, d_model] of one command, by the netlist."""
    g, dut = GEOMETRY, Accelerator(GEOMETRY)
    image = bytearray(g.memory_bytes)
    for e, expert in experts.items():
        image[e * g.stride:e * g.stride + g.blob_bytes] = pack(expert, g)
    simulator = Simulator(dut)
    simulator.add_clock(1e-6)
    control = register_map(g)["ctrl"]
    enable = 1 << control["fields"]["enable"]["lsb"] | 1 << control["fields"]["retain"]["lsb"]

    async def send(ctx, port, words):
        for word in words:
            ctx.set(getattr(dut, f"{port}_tdata"), word)
            ctx.set(getattr(dut, f"{port}_tvalid"), 1)
            ready = 0
            while not ready:
                _, _, ready = await ctx.tick().sample(getattr(dut, f"{port}_tready"))
        ctx.set(getattr(dut, f"{port}_tvalid"), 0)

    async def acts(ctx):
        data, size = x.tobytes(), CONFIG.lanes
        await ctx.tick().repeat(40)
        await send(ctx, "s_axis_act", [int.from_bytes(data[at:at + size], "little")
                                       for at in range(0, len(data), size)])

    async def memory(ctx):
        beats = deque()
        ctx.set(dut.m_axi_arready, 1)
        while True:
            if beats:
                address, name, last = beats[0]
                ctx.set(dut.m_axi_rdata, int.from_bytes(image[address:address + g.axi_bytes],
                                                        "little"))
                ctx.set(dut.m_axi_rid, name)
                ctx.set(dut.m_axi_rlast, last)
            ctx.set(dut.m_axi_rvalid, bool(beats))
            _, _, asked, address, name, length, taken = await ctx.tick().sample(
                dut.m_axi_arvalid, dut.m_axi_araddr, dut.m_axi_arid, dut.m_axi_arlen,
                dut.m_axi_rready)
            if beats and taken:
                beats.popleft()
            if asked:
                beats.extend((address + beat * g.axi_bytes, name, beat == length)
                             for beat in range(length + 1))

    found = bytearray()

    async def host(ctx):
        assert await write(ctx, dut, control["address"], control["reset"] | enable) == 0
        words = [e | int(gate) << 16 for ids, weights in zip(routing, gates, strict=True)
                 for e, gate in zip(ids, weights, strict=True)]
        await send(ctx, "s_axis_cmd", [Opcode.TOKEN | 1 << 8,
                                       Opcode.LAYER | len(routing) << 32, *words])
        ctx.set(dut.m_axis_res_tready, 1)
        for _ in range(20_000):
            _, _, valid, data, last, error = await ctx.tick().sample(
                dut.m_axis_res_tvalid, dut.m_axis_res_tdata, dut.m_axis_res_tlast,
                dut.m_axis_res_tuser)
            if valid:
                assert not error
                found.extend(data.to_bytes(2 * CONFIG.rows, "little"))
                if last:
                    return
        raise AssertionError("no result comes")

    simulator.add_testbench(memory, background=True)
    simulator.add_testbench(acts, background=True)
    simulator.add_testbench(host)
    simulator.run()
    return np.frombuffer(bytes(found), np.int16).reshape(len(routing), -1)


@pytest.mark.parametrize("routing", [[[0, 1], [1, 2], [4, 0], [3, 1]], [[2, 2 ^ 1]]])
def test_every_tokens_result_is_its_own(routing):
    rng = np.random.default_rng(7)
    model = CONFIG.model
    experts = {e: Expert.random(rng, model.d_model, model.d_ff) for e in range(model.experts)}
    x = rng.integers(-128, 128, (len(routing), model.d_model), np.int8)
    gates = rng.integers(0, 65536, np.shape(routing)).astype(np.uint16)
    want = moe_tokens(x, np.array(routing), gates, experts)
    assert np.array_equal(run(routing, gates, x, experts), want)
