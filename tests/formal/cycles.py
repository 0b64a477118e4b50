"""Cycle counters: each cycle has one cause, and the causes' counters sum to the total's."""

from amaranth.hdl import Cat, Mux, Signal

from stmoe import sequencer, top
from stmoe.bus import csr
from stmoe.bus.counters import CYCLE_CAUSES

from .bench import Bench
from .handshake import small
from .proof import Mutation, Proof

__all__ = ["PROOFS"]


class Anything:
    """A block of which every output is free, one bit wide."""

    def __init__(self, bench: Bench, name: str):
        self._bench, self._name = bench, name

    def __getattr__(self, name: str) -> Signal:
        output = self._bench.free(1, f"{self._name}_{name}")
        setattr(self, name, output)
        return output


def partition() -> Bench:
    """Sequencer, counters and what is between them as in the accelerator; the rest is free."""
    bench, g = Bench(), small()
    command = bench.add(sequencer.Sequencer(g), "sequencer")
    registers = bench.add(csr.CsrBlock(g), "csr")
    predict, manager, storage, dma, array = (
        Anything(bench, name) for name in ("predict", "manager", "storage", "dma", "array"))
    top.Accelerator._counters(
        None, bench.m, registers, command, predict, manager, storage, dma, array)
    causes = [getattr(registers, f"inc_cycles_{cause}") for cause in CYCLE_CAUSES]
    by_name = dict(zip(CYCLE_CAUSES, causes, strict=True))
    phases = (command.receiving, command.routing, command.running)
    bench.rule("one_cause", (sum(causes) == 1) & (registers.inc_cycles_total == 1))
    bench.rule("one_phase", sum(phases) == command.in_layer)
    # What held in the cycle before is counted.
    bench.rule("attention", by_name["attention"] == ~bench.past(command.in_layer))
    bench.rule("stalls", ~(by_name["stall_demand"] | by_name["stall_late"]) | bench.past(
        command.running & ~array.active & ~array.merging))
    # The low bits of each counter are those of the sum of its increments, so that by "one_cause"
    # they add up; what a read makes of them is proved of the bank.
    clear, freeze = (bench.past(getattr(registers, f"counter_ctrl_{field}"), init)
                     for field, init in (("clear", 1), ("freeze", 0)))
    agree = []
    for name in ("total", *CYCLE_CAUSES):
        increment, low = (getattr(registers, f"inc_cycles_{name}"),
                          registers.bank.counts[f"cycles_{name}"])
        counted, pending = Signal(64, name=f"counted_{name}"), bench.past(increment)
        bench.m.d.sync += counted.eq(Mux(clear, 0, counted + (pending & ~freeze)))
        agree.append(counted[:len(low)] == low)
    bench.rule("counts", Cat(agree).all())
    return bench


PROOFS = (
    Proof(name="counters partition time", module="Accelerator, Sequencer, CsrBlock",
          build=partition, depth=3, fault_depth=8, faults=(
        Mutation("sequence.layer:add_layer",
                 "[ports.in_layer.eq(1), ports.running.eq(1), ports.start.eq(1)]",
                 "[ports.in_layer.eq(1), ports.start.eq(1)]", "one_cause", ("sequencer",)),
        Mutation("top:Accelerator", "held[index] & ~held[:index].any()", "held[index]",
                 "one_cause"),
        Mutation("top:Accelerator", "Signal(len(causes), init=1)", "Signal(len(causes))",
                 "one_cause"),
        Mutation("bus.csr:CsrBlock", "getattr(self, f\"inc_{name}\"))",
                 "0 if name == \"cycles_receive\" else getattr(self, f\"inc_{name}\"))", "counts"),
        Mutation("bus.counter_bank:CounterBank", "m.d.sync += clear.eq(self.clear)",
                 "m.d.sync += clear.eq(self.clear & ~self.freeze)", "counts", ("bus.csr",)))),
)
