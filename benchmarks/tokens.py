"""Layers of many tokens on the PE array: dataflow, batch size, and how many experts are resident.

    PYTHONPATH=tests python benchmarks/tokens.py
    PYTHONPATH=tests python benchmarks/tokens.py --tokens 16 --routing trace,one --pes 2,8 --split

The array alone, in Amaranth's simulator: `tiny` with the experts of the project's model, routing of
its trace from token 1000 on in layer 3, random weights; results held against golden, which also
says what is multiplied and read. Of the 32 experts a seeded share is resident; the others come over
a link of a beat a cycle, one after the other in order of first use, and go to a PE once their first
tile has landed. Routing "one": all tokens to one expert (top-1), which is the extreme of balance;
"same": all to the same four.
"""

import argparse
import random
from itertools import product

import numpy as np

from stmoe.config import Geometry, preset
from stmoe_golden.compute.mapping import Dataflow, cost, dataflow, group
from stmoe_golden.model.trace import default_trace
from unit.compute.test_tokens import Tokens, expected

START, LAYER, MOST = 1000, 3, 16
HEADER = ("routing", "PEs", "tokens", "resident", "split", "experts", "input-st.", "weight-st.",
          "words multiplied", "words read", "if input-st.", "bytes over the link", "cycles",
          "cycles/token", "multipliers", "of computing", "mismatches")


class Timed(Tokens):
    """Cycles from the first beat or word on to the last word multiplied, and to the last result."""

    last = cycles = 0
    first, queue = None, ()  # slots of what is missing

    async def hand_out(self, ctx, work):
        """Residents at once, the others with their first tile."""
        g = self.g
        self.queue = [each["slot"] for each in work if not self.landed[each["slot"]]]
        for each in sorted(work, key=lambda each: each["slot"] in self.queue):
            while self.landed[each["slot"]] < g.tile_beats:
                await ctx.tick()
            await self.send(ctx, self.dut.work, [each])

    async def reads(self, ctx):
        async for _, _, multiplied, *reading in ctx.tick().sample(
                self.dut.mac_words, *(read.en for read in self.dut.read)):
            self.bank_reads += sum(reading)
            for slot in self.queue:
                if self.landed[slot] < self.g.blob_beats:
                    self.landed[slot] += 1
                    break
            self.cycles += bool(multiplied or self.cycles or self.queue)
            if multiplied:
                self.first = self.cycles if self.first is None else self.first
                self.last = self.cycles


def routing_of(name: str, tokens: int) -> np.ndarray:
    """Experts [token, rank]."""
    if name == "trace":
        return default_trace().experts[START:START + tokens, LAYER].astype(int)
    return np.tile(np.arange(1 if name == "one" else 4), (tokens, 1))


def row(name: str, pes: int, tokens: int, resident: float, split: bool) -> list[str]:
    """A run, by :data:`HEADER`."""
    routing = routing_of(name, tokens)
    g = Geometry(preset("tiny").replace(
        model_layers=2, model_d_model=128, model_top_k=routing.shape[1], slots=32, max_d_ff=0,
        max_tokens=MOST, integrity=False, router_layers=0, pes=pes,
        **{"split_groups": True} if split else {}))
    bench = Timed(g, seed=1, stall=0, rate=0)
    order = random.Random(LAYER).sample(range(32), 32)
    bench.missing = order[round(resident * 32):]
    groups = group(routing)
    missed = sum(each.expert in bench.missing for each in groups)
    wrong = 0
    try:
        bench.play([routing.tolist()])
    except AssertionError:
        wrong = 1
    found = [bench.mac_words, bench.bank_reads, bench.side_reads]
    wrong += found != expected(g, [routing.tolist()])
    flows = [dataflow(g, len(each.tokens)) for each in groups]
    alone = sum(cost(g, len(each.tokens), Dataflow.INPUT).bank_reads for each in groups)
    busy = bench.last - bench.first + 1
    return [name, str(pes), str(tokens), f"{resident:.0%}", "yes" if split else "no",
            str(len(groups)), str(flows.count(Dataflow.INPUT)), str(flows.count(Dataflow.WEIGHT)),
            f"{bench.mac_words:,}", f"{bench.bank_reads:,}", f"{alone:,}",
            f"{missed * g.blob_bytes:,}", f"{bench.cycles:,}", f"{bench.cycles / tokens:,.0f}",
            f"{bench.mac_words / pes / bench.cycles:.1%}", f"{bench.mac_words / pes / busy:.1%}",
            str(wrong)]


def main() -> None:
    """Print a row per run."""
    def numbers(text: str) -> list[int]:
        return [int(each) for each in text.split(",")]

    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--tokens", type=numbers, default=[1, 2, 4, 8, 16])
    parser.add_argument("--resident", type=numbers, default=[0, 30, 100], help="per cent")
    parser.add_argument("--pes", type=numbers, default=[2])
    parser.add_argument("--routing", type=lambda text: text.split(","), default=["trace"],
                        help="trace, one, same")
    parser.add_argument("--split", action="store_true", help="each run with split_groups, too")
    given = parser.parse_args()
    print("|", " | ".join(HEADER), "|\n" + "|---" * len(HEADER) + "|", flush=True)
    for name, pes, share, tokens, split in product(
            given.routing, given.pes, given.resident, given.tokens, (0, 1)[:1 + given.split]):
        print("|", " | ".join(row(name, pes, tokens, share / 100, bool(split))), "|", flush=True)


if __name__ == "__main__":
    main()
