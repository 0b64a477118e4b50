"""Matrices of dense weights on the PE array, in one part or many, against golden."""

import numpy as np
import pytest
from amaranth.sim import Simulator

from stmoe_golden.compute.blob import pack_matrix
from stmoe_golden.compute.mapping import matrix_work
from stmoe_golden.compute.matrix import Matrix, dense_layer, parts_of

from .test_array import Bench, geometry


class Dense(Bench):
    """Matrices, each on ``tokens`` tokens; columns as generated or as few as ``cut``."""

    swapped = False  # the parts of a matrix

    async def layers(self, ctx):
        g, dut = self.g, self.dut
        for name in ("in_words", "gu_groups", "dn_tiles", "out_groups", "side_words", "blob_beats",
                     "matrix_tiles", "matrix_parts", "matrix_beats"):
            ctx.set(dut.shape[name], getattr(g, name))
        for x, parts in self.plan:
            slots = self.random.sample(range(g.banks), len(parts))
            if g.token_bits:
                ctx.set(dut.last_token, len(x) - 1)
            self.x_wanted += 1
            ctx.set(dut.start, 1)
            ctx.set(dut.count, len(parts))
            await ctx.tick()
            ctx.set(dut.start, 0)
            work = []
            for number, (slot, part) in enumerate(zip(slots, parts, strict=True)):
                self.landed[slot] = 0 if self.rate else g.matrix_beats
                self.slots[slot] = pack_matrix(part, g)
                word = (number ^ self.swapped) * g.matrix_tiles
                gate = len(x) - 1 | word << 6 if g.token_bits else word
                work.append({"slot": slot, "gate": gate, "matrix": 1})
            self.show_watermarks(ctx)
            self.random.shuffle(work)
            await self.send(ctx, dut.work, work)
            await self.settle(ctx, slots, [dense_layer(row, parts) for row in x])

    def play(self, tokens):
        """Matrices for as many tokens each as ``tokens`` says; the last of fewer inputs."""
        config = self.g.config
        width = config.model.d_model
        self.plan = []
        for index, count in enumerate(tokens):
            matrix = Matrix.random(self.rng, width, width, config.weight_group)
            parts = parts_of(matrix, self.g)
            if index == len(tokens) - 1:
                parts = parts[:1]
            self.plan.append((self.rng.integers(-128, 128, (count, width), np.int8), parts))
        self.inputs, self.x_wanted = [x for x, _ in self.plan], 0
        simulator = Simulator(self.dut)
        simulator.add_clock(1e-6)
        for part in (self.memory, self.releases, self.activations):
            simulator.add_testbench(part, background=True)
        simulator.add_testbench(self.layers)
        simulator.run()
        works = [matrix_work(self.g, len(x)) for x, parts in self.plan for _ in parts]
        assert self.mac_words == sum(work.mac_words for work in works)
        assert self.side_reads == sum(work.side_reads for work in works)


@pytest.mark.parametrize("shape, stall, rate, tokens", [
    ({"pes": 1, "d_ff": 16}, 0, 0, (1, 1)),  # one part
    ({"pes": 2}, 0.4, 0.5, (1, 1, 1)),
    ({"pes": 3, "rows": 2, "lanes": 4, "d_ff": 8, "model_top_k": 4}, 0.4, 0.5, (1, 1)),
    ({"pes": 2, "max_tokens": 4}, 0.4, 0.5, (1, 4, 3, 2)),
    ({"rows": 8, "d_model": 64, "d_ff": 32, "weight_group": 32, "max_tokens": 2}, 0.4, 0.5, (2, 1)),
    ({"d_model": 64, "d_ff": 64, "weight_group": 32}, 0, 0.5, (1, 1))])
def test_every_matrix_equals_golden(shape, stall, rate, tokens):
    Dense(geometry(dense_blobs=4, **shape), 7, stall, rate).play(tokens)


@pytest.mark.parametrize("tokens", [1, 4])
def test_no_bubble_between_resident_parts(tokens):
    g = geometry(pes=1, d_model=64, d_ff=16, dense_blobs=4, max_tokens=4, model_top_k=4)
    bench = Dense(g, 1, 0, 0)
    bench.play([tokens] * 2)
    assert g.matrix_parts > 1
    words = matrix_work(g, tokens).mac_words * g.matrix_parts
    assert all(bench.busy[:words])


@pytest.mark.parametrize("broken", ["word", "place"])
def test_a_wrong_weight_or_place_is_noticed(broken):
    class Broken(Dense):
        swapped = broken == "place"

        def words(self, slot, index, size, start):
            word = super().words(slot, index, size, start)
            return word ^ (1 << 3) if broken == "word" and start and index == 5 else word

    with pytest.raises(AssertionError):
        Broken(geometry(dense_blobs=4), 7, 0, 0).play((1, 1))
