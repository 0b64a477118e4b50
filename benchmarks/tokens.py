"""How busy the PE array is with a layer of many tokens, all their experts resident.

    PYTHONPATH=tests python benchmarks/tokens.py 1 4 16

The array alone, in Amaranth's simulator: `tiny` with the experts of the project's model, routing of
its trace from token 1000 on in layer 3, random weights; results held against golden.
"""

import sys

import numpy as np

from stmoe.config import Geometry, preset
from stmoe_golden.compute.mapping import group
from stmoe_golden.model.trace import default_trace
from unit.compute.test_tokens import Tokens

START, LAYER = 1000, 3


class Timed(Tokens):
    """Cycles from the first word multiplied on."""

    last = cycles = 0

    async def reads(self, ctx):
        async for _, _, multiplied, *reading in ctx.tick().sample(
                self.dut.mac_words, *(read.en for read in self.dut.read)):
            self.bank_reads += sum(reading)
            self.cycles += bool(multiplied or self.cycles)
            self.last = self.cycles if multiplied else self.last


def main(counts: list[int]) -> None:
    """Print a row per number of tokens."""
    trace = default_trace()
    config = preset("tiny").replace(
        model_layers=2, model_d_model=128, slots=32, max_d_ff=0, max_tokens=16, integrity=False,
        router_layers=0)
    print("tokens  experts  words multiplied  words read  cycles computing  to the last result")
    for count in counts:
        routing = trace.experts[START:START + count, LAYER].astype(int).tolist()
        bench = Timed(Geometry(config), seed=1, stall=0, rate=0)
        bench.play([routing])
        print(f"{count:6} {len(group(np.array(routing))):8} {bench.mac_words:17,} "
              f"{bench.bank_reads:11,} {bench.last:17,} {bench.cycles:19,}", flush=True)


if __name__ == "__main__":
    main([int(count) for count in sys.argv[1:]] or [1, 4, 16])
