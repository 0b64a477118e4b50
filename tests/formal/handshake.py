"""Handshakes: what a stream port offers stands, unchanged, until it is taken.

The same rule is assumed of a component's inputs and proved of its outputs, for every stream port
that its signature has, so that components keep it when they are put together.
"""

from collections.abc import Callable
from typing import Any

from amaranth.hdl import Signal, Value

from stmoe import sequencer
from stmoe.buffer import manager
from stmoe.bus import axi_share
from stmoe.compute import array, issue, pe
from stmoe.config import AcceleratorConfig, Geometry, LinearOptions, ModelShape
from stmoe.predict import (
    emit,
    linear_fetch,
    linear_order,
    linear_stream,
    linear_unit,
    linear_writeback,
    null,
    table,
    unit,
)
from stmoe.predict.linear_shape import LinearShape
from stmoe.prefetch import dma, reader
from stmoe.router import ahead, router

from .bench import Bench, streams
from .proof import Mutation, Proof

__all__ = ["PROOFS", "small"]


def small(**more: Any) -> Geometry:
    """The smallest machine that has every part."""
    linear = LinearOptions(features=((0, 1), (1, 0)), leaders=((0, 1),), lexical=4, pair=4,
                           previous=4, lexical_store="memory", lookahead=True)
    return Geometry(AcceleratorConfig(
        model=ModelShape(layers=2, experts=4, top_k=2, d_model=8, d_ff=8), rows=2, lanes=4,
        slots=4, axi_data_bits=32, axi_addr_bits=16, outstanding=2, retries=1, burst_beats=4,
        tile_bytes=64, prefetch_round=2, pes=2, linear=linear).replace(**more))


def handshake(component: Callable[[], Any], settings: tuple[str, ...] = (),
              more: Callable[[Bench, Any], dict[str, Value]] | None = None) -> Bench:
    """``settings`` stand still; ``more`` assumes what else the contract asks for.

    ``more`` gives exceptions by port: conditions, of this step, on which an offer may change.
    """
    bench = Bench()
    dut = bench.add(component())
    for name in settings:
        bench.still(getattr(dut, name))
    exceptions = more(bench, dut) if more else {}
    for name, port, given in streams(dut):
        if given:
            bench.rule(name, bench.stable(port) | exceptions.get(name, 0))
        else:
            bench.assume(bench.stable(port) | exceptions.get(name, 0))
    return bench


def idle_start(bench: Bench, dut: Any) -> dict[str, Value]:
    """``start`` only while not ``active``."""
    bench.assume(~(dut.start & dut.active))
    return {}


def withdrawn(bench: Bench, dut: Any) -> dict[str, Value]:
    """A report leaves with its transfer."""
    port, before = dut.status, bench.past(dut.cancel)
    held = bench.past(port.payload.slot)
    slot_bits = len(held)
    return {"status": before[0] & (before[1:1 + slot_bits] == held)}


def settled(bench: Bench, dut: Any) -> dict[str, Value]:
    """Results come once all experts and activations were; a failure of the layer is known by then.
    """
    offered, complete, received = dut.result_in.valid, Signal(), Signal(16)
    with bench.m.If(dut.result.valid & dut.result.ready & dut.result.payload.last):
        bench.m.d.sync += received.eq(0)
    with bench.m.Elif(dut.x.valid & dut.x.ready):
        bench.m.d.sync += received.eq(received + 1)
    bench.assume(~offered | (received == dut.shape.in_words))
    with bench.m.If(dut.start):
        bench.m.d.sync += complete.eq(0)
    with bench.m.Elif(dut.routed.valid & dut.routed.ready & dut.routed.payload.last):
        bench.m.d.sync += complete.eq(1)
    bench.assume(~offered | complete)
    bench.assume(~bench.past(offered) | ~offered | (bench.past(dut.failed) == dut.failed))
    return {}


def linear_shape(g: Geometry) -> LinearShape:
    return LinearShape(g, g.config.linear)


def bmc(depth: int, quick: int = 0) -> dict[str, Any]:
    """For what does not close by induction: states that are never reached break the rule."""
    return {"mode": "bmc", "depth": depth, "quick": quick}


EMIT_FAULT = Mutation("predict.emit:CandidateEmitter", "room.eq(~out.valid | out.ready)",
                      "room.eq(1)", "candidates")
READER_FAULT = Mutation("prefetch.reader:BurstReader", "room.eq(~ar.valid | ar.ready)",
                        "room.eq(1)", "axi_ar")
SHARE_FAULT = Mutation("bus.axi_share:AxiShare", "Mux(stalled, held, second.ar.valid)",
                       "second.ar.valid", "axi_ar")
REPORT_FAULT = Mutation("prefetch.dma:PrefetchDma",
                        "~self.status.valid | self.status.ready | withdrawn",
                        "~self.status.valid | self.status.ready | 1", "status")
MODULES: tuple[tuple[str, Callable[[], Bench], dict[str, Any]], ...] = (
    ("Sequencer", lambda: handshake(
        lambda: sequencer.Sequencer(small()), ("shape",), settled), bmc(20, 12)),
    ("Router", lambda: handshake(
        lambda: router.Router(small(), lookahead=True), ("in_words", "experts", "mode")), bmc(16)),
    ("AheadLogits", lambda: handshake(lambda: ahead.AheadLogits(small())), {}),
    ("NullPredictor", lambda: handshake(lambda: null.NullPredictor(small())), {}),
    ("CandidateEmitter", lambda: handshake(
        lambda: emit.CandidateEmitter(small()), ("threshold",), idle_start),
     {"faults": (EMIT_FAULT,), "fault_depth": 10}),
    ("TablePredictor", lambda: handshake(
        lambda: table.TablePredictor(small()), ("settings",)), {}),
    ("ScoreOrder", lambda: handshake(
        lambda: linear_order.ScoreOrder(linear_shape(small())), ("threshold", "limit", "experts"),
        idle_start), {}),
    ("LinearUnit", lambda: handshake(
        lambda: linear_unit.LinearUnit(small()), ("settings",)), bmc(10)),
    ("PredictionUnit", lambda: handshake(
        lambda: unit.PredictionUnit(small()), ("settings", "select")), bmc(8)),
    ("LexicalStream", lambda: handshake(
        lambda: linear_stream.LexicalStream(linear_shape(small()), first_id=2)), bmc(24)),
    ("RowFetch", lambda: handshake(
        lambda: linear_fetch.RowFetch(linear_shape(small()), first_id=2, reads=4)), {}),
    ("RowWriteBack", lambda: handshake(
        lambda: linear_writeback.RowWriteBack(linear_shape(small()))), bmc(30, 20)),
    ("BurstReader", lambda: handshake(
        lambda: reader.BurstReader(small(), small().transfers)),
     {"faults": (READER_FAULT,), "fault_depth": 6}),
    ("PrefetchDma", lambda: handshake(
        lambda: dma.PrefetchDma(small()), ("shape",), withdrawn),
     {"faults": (REPORT_FAULT,), "fault_depth": 14}),
    ("AxiShare", lambda: handshake(lambda: axi_share.AxiShare(small(), 2)),
     {"faults": (SHARE_FAULT,), "fault_depth": 4}),
    ("ExpertManager", lambda: handshake(
        lambda: manager.ExpertManager(small()), ("shape", "retain", "retention")), bmc(24, 16)),
    ("IssueUnit", lambda: handshake(lambda: issue.IssueUnit(small()), ("shape",)), {}),
    ("ProcessingElement", lambda: handshake(
        lambda: pe.ProcessingElement(small()), ("shape",)), bmc(20, 12)),
    ("PeArray", lambda: handshake(lambda: array.PeArray(small()), ("shape",)), bmc(10)),
)

PROOFS = tuple(
    Proof(**{"name": "offers stand until taken", "module": name, "build": build,
             "mode": "prove", "depth": 2} | more)
    for name, build, more in MODULES)
