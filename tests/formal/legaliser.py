"""The legaliser: bursts that AXI4 allows, which together are the blob."""

from amaranth.hdl import Mux, Signal

from stmoe.config import AcceleratorConfig, Geometry, ModelShape
from stmoe.prefetch import legaliser

from .bench import Bench
from .proof import Mutation, Proof

__all__ = ["PROOFS"]

PAGE = 4096


def geometry(axi_data_bits: int) -> Geometry:
    return Geometry(AcceleratorConfig(
        model=ModelShape(layers=4, experts=8, top_k=2, d_model=256, d_ff=256), lanes=16,
        rows=4, axi_data_bits=axi_data_bits, burst_beats=256, tile_bytes=4096, integrity=False))


def bursts(axi_data_bits: int) -> Bench:
    """Any base, any size: a blob is read burst by burst, each as soon as the reader takes it.

    A beat of the blob that the solver picks is in exactly one burst.
    """
    bench, g = Bench(), geometry(axi_data_bits)
    dut = bench.add(legaliser.Legaliser(g))
    size, m = g.axi_bytes, bench.m
    bench.still(dut.base, dut.blob_beats)
    bench.assume(dut.base[:size.bit_length() - 1] == 0)
    bench.assume(dut.blob_beats != 0)

    issued, covers = Signal(g.beat_bits), Signal(2)
    picked = bench.constant(g.beat_bits, "picked")
    bench.assume(picked < dut.blob_beats)
    reading, taken = Signal(), bench.free(1, "taken")
    inside = Signal()
    m.d.comb += [dut.beat.eq(issued), reading.eq(issued < dut.blob_beats),
                 inside.eq((picked >= issued) & (picked < issued + dut.beats))]
    with m.If(reading & taken):
        m.d.sync += [issued.eq(issued + dut.beats), covers.eq(Mux(covers == 3, 3, covers + inside))]

    last = Signal(g.config.axi_addr_bits)
    m.d.comb += last.eq(dut.address + dut.beats * size - 1)
    bench.rule("length", ~reading | ((dut.beats >= 1) & (dut.beats <= 256)
                                     & (dut.beats <= g.config.burst_beats)))
    bench.rule("page", ~reading | (dut.address // PAGE == last // PAGE))
    bench.rule("address", ~reading | (
        dut.address == (dut.base + issued * size)[:g.config.axi_addr_bits]))
    bench.rule("end", issued <= dut.blob_beats)
    bench.rule("tile", ~reading | (
        issued * size // g.config.tile_bytes
        == ((issued + dut.beats) * size - 1) // g.config.tile_bytes))
    bench.rule("once", covers == (picked < issued))
    return bench


FAULTS = (
    Mutation("prefetch.legaliser:Legaliser", "least(page_beats - in_page, tile_beats - in_tile, "
             "\"boundary\")", "tile_beats - in_tile", "page"),
    Mutation("prefetch.legaliser:Legaliser", "left = self.blob_beats - self.beat",
             "left = self.blob_beats", "end"),
    Mutation("prefetch.legaliser:Legaliser", "least(left, g.config.burst_beats, \"allowed\")",
             "left", "length"),
    Mutation("prefetch.legaliser:Legaliser", "self.base + (self.beat << byte_bits)",
             "self.base | (self.beat << byte_bits)", "address"),
)

PROOFS = tuple(
    Proof(name="legal bursts, each beat once", module=f"Legaliser, {bits} bits",
          build=lambda bits=bits: bursts(bits), depth=2, fault_depth=3,
          faults=FAULTS if bits == 32 else ())
    for bits in (32, 64, 512))
