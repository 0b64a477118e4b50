"""The whole netlist's outermost wiring, as far as no block's own test sees it."""

from types import SimpleNamespace

import pytest
from amaranth.hdl import Module, Signal
from amaranth.sim import Simulator

from stmoe.bus.csr import register_map
from stmoe.config import PRESETS, Geometry
from stmoe.interfaces import Opcode
from stmoe.top import Accelerator
from support.layer_bench import write

CONFIG = PRESETS["tiny"].replace(
    model_layers=1, model_experts=4, model_top_k=1, model_d_model=32, slots=2, max_d_ff=0, pes=1,
    predictor="none", router_layers=0)
GEOMETRY = Geometry(CONFIG)


def test_commands_are_taken_only_while_enabled():
    dut = Accelerator(GEOMETRY)
    simulator = Simulator(dut)
    simulator.add_clock(1e-6)
    control = register_map(GEOMETRY)["ctrl"]
    enable = 1 << control["fields"]["enable"]["lsb"]
    taken = []

    async def host(ctx):
        ctx.set(dut.s_axis_cmd_tdata, Opcode.TOKEN)
        ctx.set(dut.s_axis_cmd_tvalid, 1)
        for value in (control["reset"], control["reset"] | enable, control["reset"]):
            assert await write(ctx, dut, control["address"], value) == 0
            await ctx.tick()
            ready = 0
            for _ in range(40):
                ready += ctx.get(dut.s_axis_cmd_tready)
                await ctx.tick()
            taken.append(ready)

    simulator.add_testbench(host)
    simulator.run()
    assert taken[0] == taken[2] == 0 and taken[1] > 5, "a TOKEN is taken every few cycles"


class Anything:
    """A block every port of which has a bit."""

    def __getattr__(self, name):
        return Signal(name=name)


def test_an_increment_that_its_counter_cannot_take_is_refused():
    def wire(**more):
        blocks = [Anything() for _ in range(7)]  # registers, sequencer, and what is counted
        blocks[1].result = SimpleNamespace(valid=Signal(), ready=Signal())
        vars(blocks[3]).update(more)
        Accelerator._counters(None, Module(), *blocks)

    wire()
    with pytest.raises(ValueError, match="counter missed takes 1 bits, not 2"):
        wire(inc_missed=Signal(2))
