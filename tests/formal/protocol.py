"""AXI4 and AXI4-Lite: the checkers' rules, of this project's side of every port.

The other side is assumed to keep its rules, and does nothing else: it stalls, answers in any order,
with any data and any response.
"""

from typing import Any

from stmoe.bus import axi_check, axi_share, axi_write_check, axil, axil_check, csr
from stmoe.predict import linear_fetch, linear_stream, linear_writeback
from stmoe.prefetch import dma, reader

from .bench import Bench
from .handshake import linear_shape, small
from .proof import Mutation, Proof

__all__ = ["PROOFS"]

PAGE = 4096


def reads(bench: Bench, axi: Any, g: Any, name: str = "read") -> axi_check.AxiReadCheck:
    check = axi_check.AxiReadCheck(g)
    bench.m.submodules[f"check_{name}"] = check
    check.watch(bench.m, axi)
    return check


def keeps_reads(bench: Bench, axi: Any, g: Any, name: str = "read") -> None:
    """Assume a legal memory, prove a legal reader."""
    check = reads(bench, axi, g, name)
    bench.assume(check.subordinate == 0)
    bench.rule(name, check.manager == 0)


def keeps_writes(bench: Bench, axi: Any, g: Any) -> None:
    check = axi_write_check.AxiWriteCheck(g, 6)  # rows there are
    bench.m.submodules.check_write = check
    check.watch(bench.m, axi)
    bench.assume((check.subordinate == 0) & ~check.full)
    bench.rule("write", check.manager == 0)


def burst_reader() -> Bench:
    """Any legal orders, drops and beginnings of transfers."""
    bench, g = Bench(), small()
    dut = bench.add(reader.BurstReader(g, 2))
    order, size = dut.order.payload, g.axi_bytes
    bench.assume(bench.stable(dut.order))
    bench.assume((order.len < 4) & (order.address % size == 0)
                 & (order.address % PAGE + (order.len + 1) * size <= PAGE))
    keeps_reads(bench, dut.axi, g)
    return bench


def prefetch_dma() -> Bench:
    """Any orders, cancellations and promotions; any legal shape."""
    bench, g = Bench(), small()
    dut = bench.add(dma.PrefetchDma(g))
    shape = dut.shape
    bench.still(shape)
    bench.assume((shape.blob_beats != 0) & (shape.blob_beats <= g.max_blob_beats)
                 & (shape.base % g.alignment == 0) & (shape.stride % g.alignment == 0))
    for order in (dut.demand, dut.prefetch):
        bench.assume(bench.stable(order))
    keeps_reads(bench, dut.axi, g)
    idle = ~(dut.demand.valid & dut.demand.ready) & ~(dut.prefetch.valid & dut.prefetch.ready)
    bench.rule("stays_ready", dut.demand.valid | dut.prefetch.ready
               | ~bench.past(dut.prefetch.ready & idle))
    return bench


def share() -> Bench:
    """Two legal readers look like one; each gets what it asked for."""
    bench, g = Bench(), small()
    dut = bench.add(axi_share.AxiShare(g, 2))
    port, sides = reads(bench, dut.axi, g), []
    bench.assume(port.subordinate == 0)
    for name, low in (("first", True), ("second", False)):
        axi = getattr(dut, name)
        side = reads(bench, axi, g, name)
        bench.assume(side.manager == 0)
        bench.assume((axi.ar.payload.id < 2) == low)
        bench.rule(name, side.subordinate == 0)
        sides.append(side)
    bench.rule("read", port.manager == 0)
    for at in range(1 << g.id_bits):  # without which the induction does not close
        bench.rule(f"owed_{at}", (sides[0].left[at] + sides[1].left[at] == port.left[at])
                   & (sides[at < 2].left[at] == 0))
    return bench


def row_fetch() -> Bench:
    bench, g = Bench(), small()
    dut = bench.add(linear_fetch.RowFetch(linear_shape(g), first_id=2, reads=2))
    bench.still(dut.address)
    for address in dut.address:
        bench.assume(address % dut.layout.token_stride == 0)
    bench.assume(~dut.start.any() | ~dut.in_flight)
    keeps_reads(bench, dut.axi, g)
    return bench


def write_back() -> Bench:
    bench, g = Bench(), small()
    dut = bench.add(linear_writeback.RowWriteBack(linear_shape(g)))
    bench.still(dut.address)
    for address in dut.address:
        bench.assume(address % dut.layout.token_stride == 0)
    keeps_writes(bench, dut.axi, g)
    return bench


def lexical_stream() -> Bench:
    bench, g = Bench(), small()
    dut = bench.add(linear_stream.LexicalStream(linear_shape(g), first_id=2))
    bench.still(dut.port.base)
    bench.assume(dut.port.base % dut.layout.token_stride == 0)
    bench.assume(~(dut.port.flush & dut.begin.any()))
    keeps_reads(bench, dut.port.read, g)
    keeps_writes(bench, dut.port.write, g)
    return bench


def lite(component: Any) -> Bench:
    bench = Bench()
    dut = bench.add(component)
    check = axil_check.AxiLiteCheck()
    bench.m.submodules.check = check
    check.watch(bench.m, dut)
    bench.assume(check.manager == 0)
    bench.rule("answers", (check.subordinate == 0) & ~check.full)
    bench.rule("owed", (check.owed_aw == ~dut.awready + dut.bvalid)
               & (check.owed_w == ~dut.wready + dut.bvalid)
               & (check.owed_ar == ~dut.arready + dut.rvalid))
    return bench


READ = "AXI4 rules, read channels"
PROOFS = (
    Proof(name=READ, module="BurstReader", build=burst_reader, mode="bmc",
          depth=16, quick=10, fault_depth=8, faults=(
        Mutation("prefetch.reader:BurstReader", "room.eq(~ar.valid | ar.ready)", "room.eq(1)",
                 "read"),
        Mutation("prefetch.reader:BurstReader",
                 "self.order.ready.eq(room & ~used.all() & ~again.any())",
                 "self.order.ready.eq(room & ~again.any())", "read"))),
    Proof(name=READ, module="PrefetchDma", build=prefetch_dma, mode="bmc",
          depth=16, quick=10, fault_depth=10, faults=(
        Mutation("prefetch.legaliser:Legaliser", "most = g.tile_beats - 1", "most = 255", "read",
                 ("prefetch.dma",)),)),
    Proof(name=READ, module="RowFetch", build=row_fetch, mode="bmc",
          depth=16, quick=12, fault_depth=8, faults=(
        Mutation("predict.linear_fetch:RowFetch", "with m.If(~ar.valid | ar.ready):",
                 "with m.If(1):", "read"),)),
    Proof(name="AXI4 rules, write channels", module="RowWriteBack", build=write_back, mode="bmc",
          depth=24, quick=16, fault_depth=12, faults=(
        Mutation("predict.linear_writeback:RowWriteBack", "w.payload.last.eq(left == 0)",
                 "w.payload.last.eq(left == 1)", "write"),
        Mutation("predict.linear_writeback:RowWriteBack", "with m.If(w.valid & w.ready):",
                 "with m.If(w.valid):", "write"))),
    Proof(name="AXI4 rules, both", module="LexicalStream", build=lexical_stream, mode="bmc",
          depth=14, quick=0),
    Proof(name="AXI4 rules, all sides", module="AxiShare", build=share, depth=2, fault_depth=6,
          faults=(
        Mutation("bus.axi_share:AxiShare", "choice.eq(Mux(stalled, held, second.ar.valid))",
                 "choice.eq(second.ar.valid)", "read"),
        Mutation("bus.axi_share:AxiShare", "axi.r.payload.id >= self.boundary",
                 "axi.r.payload.id > self.boundary", "first"))),
    Proof(name="AXI4-Lite rules", module="AxiLiteFront", depth=2, fault_depth=8,
          build=lambda: lite(axil.AxiLiteFront()), faults=(
        Mutation("bus.axil:AxiLiteFront", "with m.Elif(self.rready):", "with m.Else():",
                 "answers"),
        Mutation("bus.axil:AxiLiteFront", "have_address & have_data & ~self.bvalid",
                 "have_address & ~self.bvalid", "answers"))),
    Proof(name="AXI4-Lite rules", module="CsrBlock", depth=2,
          build=lambda: lite(csr.CsrBlock(small()))),
)
