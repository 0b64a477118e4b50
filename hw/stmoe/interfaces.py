"""Payloads and signatures that cross block boundaries. Contracts: docs/architecture.md."""

from enum import IntEnum

from amaranth.hdl import signed, unsigned
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from .config import Geometry

__all__ = ["GATE_ONE", "AxiReadSignature", "AxiWriteSignature", "BufferReadSignature", "ErrorCode",
           "Event", "Opcode", "Phase", "Status", "announcement", "candidate", "event", "expert_tag",
           "fill", "group_tag", "member", "observation", "part", "passed", "routed", "shape_layout",
           "status", "transfer", "work"]

GATE_ONE = 0x8000  # gate weight 1.0 in Q1.15


class Event(IntEnum):
    """Kinds of manager events."""

    NONE = 0
    ROUTE = 1
    HIT_RESIDENT = 2
    HIT_PREFETCHED = 3
    HIT_LATE = 4
    MISS = 5
    CANCEL = 6
    DROP = 7
    EVICT = 8
    DEMAND = 9
    PREFETCH = 10
    TOUCH = 11
    STOP = 12
    READY = 13
    FAIL = 14
    RELEASE = 15
    FIRST = 16
    LANDED = 17
    TOKEN = 18
    SKIP = 19
    DENSE = 20


class Status(IntEnum):
    """What the DMA reports of a transfer."""

    FIRST = 0  # first tile landed; not sent for a transfer that fails before
    DONE = 1
    FAILED = 2  # after retries; progress has been driven to the whole blob, contents undefined


class Opcode(IntEnum):
    """First byte of a command."""

    TOKEN = 1
    LAYER = 2
    LOAD_ROUTER = 3
    LOAD_TABLE = 4
    FLUSH = 5
    LOAD_WEIGHTS = 6
    DENSE = 7


class Phase(IntEnum):
    """What the tokens of a LAYER command are; only PREFILL differs in what the hardware does."""

    DECODE = 0
    PREFILL = 1  # of a prompt: all experts of the next layer are fetched ahead, none predicted
    VERIFY = 2  # drafted, of which the host keeps what is accepted


class ErrorCode(IntEnum):
    """Code in the ERROR register."""

    NONE = 0
    BAD_OPCODE = 1
    BAD_LAYER = 2
    BAD_EXPERT = 3
    BAD_TOKENS = 4
    BUS = 5
    NO_ROUTER_WEIGHTS = 6
    BAD_SHAPE = 7
    BAD_ROW = 8
    ROW_BUS = 9
    CORRUPT = 10
    BAD_DENSE = 11


def _matrix(g: Geometry) -> dict:
    return {"matrix": 1} if g.config.dense_blobs else {}


def expert_tag(g: Geometry) -> dict:
    return {"layer": unsigned(g.layer_bits), "expert": unsigned(g.expert_bits)}


def routed(g: Geometry) -> data.StructLayout:
    """Routed experts to the manager, in rank order, shared units last; ``count`` in all.

    Where a command may have many tokens, each of their experts once, in order of first use;
    ``stream``: all experts of the next layer are fetched ahead. ``dense``: blobs of dense weights,
    of which nothing is predicted, for all tokens; parts of a ``matrix``, or else units of d_ff.
    """
    return data.StructLayout({**expert_tag(g), "gate": unsigned(16), "count": unsigned(8),
                              "shared": unsigned(1), "last": unsigned(1)}
                             | ({"stream": unsigned(1)} if g.token_bits else {})
                             | ({"dense": 1, "matrix": 1} if g.config.dense_blobs else {}))


def group_tag() -> data.StructLayout:
    """What ``gate`` holds of an expert where a command may have many tokens: ``expert``, and how
    many tokens ``others`` than the first share it. Their gates: :func:`member`."""
    return data.StructLayout({"others": 6, "expert": 10})


def member(g: Geometry) -> data.StructLayout:
    """``token`` is number ``place`` of those that share ``expert``, with ``gate``."""
    return data.StructLayout({"valid": 1, "expert": unsigned(g.expert_bits),
                              "place": g.token_bits, "token": g.token_bits, "gate": 16})


def observation(g: Geometry) -> data.StructLayout:
    """Routed experts (without shared units) to the prediction unit, in rank order."""
    return data.StructLayout({**expert_tag(g), "first_token": unsigned(1), "last": unsigned(1)})


def announcement() -> data.StructLayout:
    """A token begins: ``identity`` (vocabulary index) if ``known``; ``first`` of a sequence?"""
    return data.StructLayout({"identity": unsigned(32), "known": unsigned(1), "first": unsigned(1)})


def candidate(g: Geometry) -> data.StructLayout:
    """Predicted expert of ``layer``, falling score, shared units first; an ``end`` beat closes."""
    return data.StructLayout({**expert_tag(g), "score": signed(g.score_bits), "end": unsigned(1)})


def transfer(g: Geometry) -> data.StructLayout:
    """Order to the DMA: bring an expert's blob into a slot, or that of a part of a ``matrix``."""
    return data.StructLayout({**expert_tag(g), "slot": unsigned(g.slot_bits), **_matrix(g)})


def status(g: Geometry) -> data.StructLayout:
    """Report of the DMA on a slot's transfer, ``kind`` a :class:`Status`.

    Of a transfer that FAILED also ``tile``, and whether it was ``corrupt`` when it was last read.
    """
    return data.StructLayout({"slot": unsigned(g.slot_bits), "kind": unsigned(2),
                              "tile": unsigned(g.tile_bits), "corrupt": unsigned(1)})


def fill(g: Geometry) -> data.StructLayout:
    """One landed bus beat for the buffer: ``beat`` counts from the blob's start, without CRCs."""
    return data.StructLayout({"slot": unsigned(g.slot_bits), "beat": unsigned(g.beat_bits),
                              "data": unsigned(g.config.axi_data_bits)})


def work(g: Geometry) -> data.StructLayout:
    """An expert for the PE array, in order of readiness; or a part of a ``matrix``, whose gate is
    1.0: the first activation word that it takes stands for it, as ``expert`` in a group's tag."""
    return data.StructLayout({"slot": unsigned(g.slot_bits), "gate": unsigned(16), **_matrix(g)})


def part(g: Geometry) -> data.StructLayout:
    """The same for a PE. Where groups are split, of ``others`` + 1 of the tokens, from ``first`` on
    in the group's own order."""
    return data.StructLayout({"slot": unsigned(g.slot_bits), "gate": unsigned(16), **_matrix(g)}
                             | ({"first": g.token_bits} if g.doublings else {}))


def passed(g: Geometry) -> data.StructLayout:
    """Of the expert that a PE has in hand, in ``slot``: ``beats`` of its content up to the end of
    the word that is read next. What comes before that word will not be read any more."""
    return data.StructLayout({"valid": 1, "slot": unsigned(g.slot_bits),
                              "beats": unsigned(g.beat_bits + 1)})


def event(g: Geometry) -> data.StructLayout:
    """Record on the event port; valid for one cycle, no back-pressure."""
    return data.StructLayout({"kind": unsigned(5), **expert_tag(g), "slot": unsigned(g.slot_bits),
                              "arg": unsigned(24)})


def shape_layout(g: Geometry) -> data.StructLayout:
    """Run-time shape from registers, stable while a layer command runs.

    ``ring``, where the netlist has it: an expert is larger than a slot, of ``2**group`` banks.
    ``matrix_*``, where it has dense weights: input words of a part of a matrix, most parts, and
    bus beats of a part's blob.
    """
    return data.StructLayout({
        "in_words": 16, "gu_groups": 16, "dn_tiles": 16, "out_groups": 16, "side_words": 16,
        "blob_beats": 24, "stride": 32, "base": g.config.axi_addr_bits, "group": 4,
        "slots": g.slot_bits + 1, "layers": 9, "experts": 10} | (
            {"ring": 1} if g.has_ring else {}) | (
            {"matrix_tiles": 16, "matrix_parts": 8, "matrix_beats": 24}
            if g.config.dense_blobs else {}))


class BufferReadSignature(wiring.Signature):
    """A PE's port into the expert buffer (PE side: ``Out`` = driven by the PE).

    ``data`` (weight word ``word`` of ``slot``) answers ``LATENCY`` cycles after ``en``, ``params``
    (parameter row ``row`` of ``param_slot``) as many after ``param_en``; they hold no longer than
    that cycle. ``watermark`` (beats landed in slot ``watch``) answers in the same cycle, and so
    does ``watermark_next``, for ``watch_next``. At most one PE reads a slot at a time; where groups
    are split, several may, of which those that read in the same cycle read the same word. Weights
    of four bits: ``scales``, number ``group`` of the slot's, a byte for each row, come with
    ``data``.
    """

    LATENCY = 3

    def __init__(self, g: Geometry):
        super().__init__({
            "en": Out(1), "slot": Out(g.slot_bits), "word": Out(24), "data": In(8 * g.word_bytes),
            "param_en": Out(1), "param_slot": Out(g.slot_bits), "row": Out(16),
            "params": In(32 * g.config.rows),
            "watch": Out(g.slot_bits), "watermark": In(g.beat_bits),
            "watch_next": Out(g.slot_bits), "watermark_next": In(g.beat_bits)} | ({
                "group": Out(24), "scales": In(8 * g.config.rows)} if g.config.weight_group
                else {}))


class AxiReadSignature(wiring.Signature):
    """The read channels of AXI4, manager side."""

    def __init__(self, g: Geometry):
        ar = data.StructLayout({"addr": g.config.axi_addr_bits, "id": g.id_bits, "len": 8,
                                "size": 3, "burst": 2})
        r = data.StructLayout({"data": g.config.axi_data_bits, "id": g.id_bits, "resp": 2,
                               "last": 1})
        super().__init__({"ar": Out(stream.Signature(ar)), "r": In(stream.Signature(r))})


class AxiWriteSignature(wiring.Signature):
    """The write channels of AXI4, manager side."""

    def __init__(self, g: Geometry):
        aw = data.StructLayout({"addr": g.config.axi_addr_bits, "id": g.id_bits, "len": 8,
                                "size": 3, "burst": 2})
        w = data.StructLayout({"data": g.config.axi_data_bits, "strb": g.axi_bytes, "last": 1})
        b = data.StructLayout({"id": g.id_bits, "resp": 2})
        super().__init__({"aw": Out(stream.Signature(aw)), "w": Out(stream.Signature(w)),
                          "b": In(stream.Signature(b))})
