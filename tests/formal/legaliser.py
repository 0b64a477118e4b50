"""The legaliser: bursts that AXI4 allows, which together are the blob."""

from amaranth.hdl import Mux, Signal

from stmoe.config import AcceleratorConfig, Geometry, ModelShape
from stmoe.prefetch import legaliser

from .bench import Bench
from .proof import Mutation, Proof

__all__ = ["PROOFS"]

PAGE = 4096


def geometry(axi_data_bits: int, integrity: bool) -> Geometry:
    return Geometry(AcceleratorConfig(
        model=ModelShape(layers=4, experts=8, top_k=2, d_model=256, d_ff=256), lanes=16,
        rows=4, axi_data_bits=axi_data_bits, burst_beats=128, tile_bytes=4096, integrity=integrity))


def bursts(axi_data_bits: int, integrity: bool = False) -> Bench:
    """Any base, any size: a blob is read burst by burst, each as soon as the reader takes it.

    With ``integrity`` the base is aligned. A beat of the blob that the solver picks is in one
    burst exactly.
    """
    bench, g = Bench(), geometry(axi_data_bits, integrity)
    dut = bench.add(legaliser.Legaliser(g))
    size, m = g.axi_bytes, bench.m
    base = bench.constant(g.config.axi_addr_bits, "base")
    blob_beats = bench.constant(g.beat_bits, "blob_beats")
    bench.assume(base[:(g.alignment if integrity else size).bit_length() - 1] == 0)
    bench.assume(blob_beats != 0)

    issued, covers = Signal(g.beat_bits), Signal(2)
    picked = bench.constant(g.beat_bits, "picked")
    bench.assume(picked < blob_beats)
    reading, taken = Signal(), bench.free(1, "taken")
    inside, beats = Signal(), Signal(9)
    m.d.comb += [dut.beat.eq(issued), dut.left.eq(blob_beats - issued - 1),
                 dut.address.eq(base + issued * size), beats.eq(dut.len + 1),
                 reading.eq(issued < blob_beats),
                 inside.eq((picked >= issued) & (picked < issued + beats))]
    with m.If(reading & taken):
        m.d.sync += [issued.eq(issued + beats), covers.eq(Mux(covers == 3, 3, covers + inside))]

    last = Signal(g.config.axi_addr_bits)
    m.d.comb += last.eq(dut.address + beats * size - 1)
    legal, in_page, in_tile = Signal(), Signal(), Signal()
    m.d.comb += [
        in_page.eq(dut.address // PAGE == last // PAGE),
        in_tile.eq(issued * size // g.tile_bytes
                   == ((issued + beats) * size - 1) // g.tile_bytes),
        legal.eq(in_page & in_tile & (beats <= g.config.burst_beats)
                 & (issued + beats <= blob_beats))]
    bench.rule("length", ~reading | (beats <= g.config.burst_beats))
    bench.rule("page", ~reading | in_page)
    bench.rule("end", issued <= blob_beats)
    bench.rule("last", ~reading | ~legal | (dut.last == (issued + beats == blob_beats)))
    bench.rule("tile", ~reading | in_tile)
    bench.rule("once", covers == (picked < issued))
    return bench


FAULTS = (
    Mutation("prefetch.legaliser:Legaliser", "least(page, tile, \"boundary\")", "tile", "page"),
    Mutation("prefetch.legaliser:Legaliser", "least(self.left, most, \"allowed\")", "most", "end"),
    Mutation("prefetch.legaliser:Legaliser", "least(self.left, most, \"allowed\")", "self.left",
             "length"),
    Mutation("prefetch.legaliser:Legaliser", "(self.left <= page) & ", "", "last"),
    Mutation("prefetch.legaliser:Legaliser", "& (self.left <= tile)", "", "last"),
)

PROOFS = (
    *(Proof(name="legal bursts, each beat once", module=f"Legaliser, {bits} bits",
            build=lambda bits=bits: bursts(bits), depth=2, fault_depth=11,
            faults=FAULTS if bits == 32 else ())
      for bits in (32, 64, 512)),
    Proof(name="legal bursts, each beat once", module="Legaliser, 64 bits, CRCs",
          build=lambda: bursts(64, integrity=True), depth=2, fault_depth=11, faults=(
        Mutation("prefetch.legaliser:Legaliser", "most = g.tile_beats - 1", "most = g.tile_beats",
                 "tile"),)))
