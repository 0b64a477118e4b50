"""The bank of counters: a read shows what a counter in flip-flops has."""

from amaranth.hdl import Array, Mux, Signal

from stmoe.bus import counter_bank

from .bench import Bench
from .proof import Mutation, Proof

__all__ = ["PROOFS"]

STEPS, WIDTH = {"a": 1, "b": 2, "c": 1}, 5  # low bits of 3 and 5 of 10: all carry in a few visits


def reads() -> Bench:
    """Any increments, freezes, clears and reads of counters beside plain ones."""
    bench = Bench()
    bank = bench.add(counter_bank.CounterBank(STEPS, WIDTH))
    asked = bench.past(bank.ask & ~bank.done)
    bench.assume(~asked | (bank.ask & (bank.number == bench.past(bank.number))))
    bench.assume(bank.number < len(STEPS))
    clear, freeze = bench.past(bank.clear, init=1), bench.past(bank.freeze)
    plain = []
    for name, low in bank.counts.items():
        count = Signal(2 * WIDTH, name=f"plain_{name}")
        pending = bench.past(getattr(bank, f"inc_{name}"))
        bench.m.d.sync += count.eq(Mux(clear, 0, count + Mux(freeze, 0, pending)))
        bench.rule(f"low_{name}", count[:len(low)] == low)
        plain.append(count)

    def before(value: Signal, cycles: int) -> Signal:
        for _ in range(cycles):
            value = bench.past(value)
        return value

    shown = before(Array(plain)[bank.number], 3)  # "done" is three cycles after the visit
    bench.rule("low", ~bank.done | (bank.word == shown[:WIDTH]))
    bench.rule("high", ~bench.past(bank.done) | (bank.word == bench.past(shown)[WIDTH:]))
    waits = Signal(range(2 * len(STEPS) + 4))
    bench.m.d.sync += waits.eq(Mux(asked, waits + 1, 0))
    bench.rule("answered", waits < 2 * len(STEPS) + 3)

    # So that it follows of any state: what visits write is right too, whether read or not.
    bench.rule("turn", (bank.select == 1 << bank.here) & (bank.fresh <= len(STEPS)))
    visited = before(Array(plain)[bank.here], 3)
    settled = before(bench.started, 3)
    bench.rule("low_word", ~settled | ~bank.high | (bank.word == visited[:WIDTH]))
    bench.rule("high_word", ~bench.past(settled) | bank.high
               | (bank.word == bench.past(visited)[WIDTH:]))
    return bench


PROOFS = (
    Proof(name="a read shows what a plain counter has", module="CounterBank", build=reads,
          depth=14, fault_depth=24, faults=(
        Mutation("bus.counter_bank:CounterBank", "with m.If(clear):", "with m.If(0):", "low"),
        Mutation("bus.counter_bank:CounterBank", "Mux(high, total[width],", "Mux(high, 0,",
                 "high"),
        Mutation("bus.counter_bank:low_bits", "(2 * len(steps)", "(len(steps)", "low"),
        Mutation("bus.counter_bank:CounterBank", "Mux(self.freeze, 0, increment)", "increment",
                 "low_b"))),
)
