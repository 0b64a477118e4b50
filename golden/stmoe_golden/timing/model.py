"""Timing model: a replay in cycles, counted as the hardware counts, without its netlist."""

from dataclasses import dataclass

import numpy as np

from stmoe.config import ConfigError, Geometry

from ..buffer.manager import DENSE_SLOTS
from ..buffer.retention_kernel import LEADERS, LED
from ..buffer.worth import SLACK_MAX, Worth
from .machine import play
from .state import CAUSES, CONFIG, COUNTERS, NEVER, SCALARS, Arrays, counters, record, records
from .stimulus import Rounds, Stimulus, no_rounds

__all__ = ["MemoryTiming", "Settings", "Timing", "TimingError", "simulate"]

OFF, TABLE, LINEAR = range(3)
RETENTIONS = ("lru", "ewma", "clairvoyant", "lfu", "static")
NO_USE = 1 << 21  # quarters of layer visits, beyond all others
READ_LATENCY, REQUANTISE, SILU = 3, 4, 3  # of the PE's pipeline; SILU with the product
FOUR_BITS = 1  # that weights of four bits take to be those of eight
LANES = 4  # of the learned unit's error steps
SCAN_ROWS, SCAN_LANES = 64, 16
GRAINS = 128  # bursts of an expert up to which each is followed by itself
LUMPS = 16  # else, at least so many
READS, RING, BANKS = 256, 64, 16
COLUMN = 64  # bytes
LATENCY_MAX = 1023  # that the DMA counts to


class TimingError(RuntimeError):
    """The modelled machine stands still, which the hardware would not."""


@dataclass(frozen=True, kw_only=True)
class MemoryTiming:
    """Expert memory in picoseconds, as the settings of ``axi_dram.sv`` of these names.

    ``column``: of 64 bytes on the data bus. ``latency``: fixed, of controller and link.
    ``outstanding``: bursts that it takes at a time. ``ideal``: a beat a cycle, the latency alone.
    ``in_flight``: beats that it brings in a latency, where these are more than what the DMA, which
    is made for 64 cycles, has on their way for a prefetch: its counters are taken to be wider then.
    ``shared``: of a thousand, the part of its bandwidth that attention takes while it runs.
    """

    column: int
    latency: int
    cas: int = 0
    rcd: int = 0
    rp: int = 0
    ras: int = 0
    rrd: int = 0
    faw: int = 0
    refresh_interval: int = 0
    refresh: int = 0
    banks: int = 1
    row_bytes: int = 2048
    outstanding: int = 16
    ideal: bool = False
    shared: int = 0
    in_flight: int = 0


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What registers and host decide: see docs/programming-model.md.

    ``predictor``: "table", "linear" or None. ``threshold``: of its scores. ``counted``: they are
    counts, not log-odds. ``rows_slack``: None = the geometry's.
    ``attention``: cycles between a layer's last result and the next command.
    Beyond the hardware: ``retention`` also "clairvoyant" (the expert goes that is used last), "lfu"
    (that was used least), "static" (that is least popular in ``Stimulus.popularity``); without
    ``chase`` an expert is computed once it has landed whole.
    """

    retain: bool = True
    retention: str = "lru"
    prefetch: bool = False
    predictor: str | None = None
    worth: bool = False
    threshold: int = 2
    attention: int = 0
    worth_floor: int = 0
    rows_slack: int | None = None
    chase: bool = True


@dataclass(frozen=True)
class Timing:
    """What a replay took: counters by name, events [n, 6] as the hardware logs them, and the cycle
    of the last result. withheld: int64 [token], 1 where rows by identity were not to be moved."""

    counters: dict[str, int]
    events: np.ndarray
    ended: int
    visits: int
    withheld: np.ndarray

    @property
    def cycles(self) -> int:
        return self.counters["cycles_total"]

    @property
    def causes(self) -> dict[str, int]:
        """Cycles by exclusive cause; they sum to the total."""
        return {cause: self.counters[f"cycles_{cause}"] for cause in CAUSES}


def _promises(g: Geometry) -> int:
    """Most promises at a time; two slots are left to dense weights, where there are any."""
    most = g.config.prefetch_round
    return min(most, max(0, g.slots - DENSE_SLOTS)) if g.config.dense_blobs else most


def _dot_latency(lanes: int, radix: int = 16) -> int:
    stages = 0
    while lanes > 1:
        stages, lanes = stages + 1, -(-lanes // radix)
    return 2 + stages


def _config(g: Geometry, settings: Settings, memory: MemoryTiming, grain: int) -> np.ndarray:
    """The record of what a run does not change."""
    c, model, linear = g.config, g.config.model, g.config.linear
    total = READ_LATENCY + _dot_latency(c.lanes) + 1 + FOUR_BITS * bool(c.weight_group)
    scaled = total + REQUANTISE
    lanes = 1
    while lanes < SCAN_LANES and lanes * SCAN_ROWS < g.banks:
        lanes *= 2
    lexical = g.streams_identities and settings.predictor == "linear"
    values = {
        "layers": model.layers, "experts": model.experts, "shared": model.shared_units,
        "active": model.active, "top_k": model.top_k, "pes": c.pes, "slots": g.slots,
        "ids": model.expert_ids, "pairs": c.rows // 2, "lanes": c.lanes,
        "word_beats": g.word_bytes // g.axi_bytes, "round_size": _promises(g),
        "integrity": int(c.integrity), "burst_beats": c.burst_beats, "outstanding": c.outstanding,
        "grain": grain, "prefetch_grain": max(1, grain // 2),
        "released": total + 1, "summed": scaled + 1,
        "hidden": scaled + SILU + REQUANTISE - (READ_LATENCY - 1) + 1,
        "scan_rows": -(-g.banks // lanes), "clk": round(1e6 / c.clock_mhz),
        "mem_outstanding": memory.outstanding, "retain": int(settings.retain),
        "retention": RETENTIONS.index(settings.retention), "chase": int(settings.chase),
        "prefetch": int(settings.prefetch),
        "worth": int(settings.worth), "worth_floor": settings.worth_floor,
        "fraction": linear.fraction, "counted": int(settings.predictor != "linear"),
        "attention": settings.attention,
        "unit": LINEAR if settings.predictor == "linear" else TABLE,
        "stages": linear.stages, "error_groups": -(-model.experts // LANES),
        "order_groups": -(-model.experts // 16), "threshold": settings.threshold,
        "top_score": 3 * model.top_k + 2,
        "tables": len(linear.tables) if lexical else 0,
        "row_beats": g.lexical_layout.row_beats if lexical else 0,
        "row_stride": g.lexical_layout.row_stride if lexical else 0,
        "token_stride": g.lexical_layout.token_stride if lexical else 0,
        "lexical_base": g.lexical_base if lexical else 0,
        "rows_slack": (g.rows_slack if settings.rows_slack is None else settings.rows_slack)
        if lexical else 0}
    for name in ("blob_beats", "content_beats", "tile_beats", "side_beats", "weight_words",
                 "param_rows", "gu_groups", "in_words", "dn_tiles", "out_groups", "stride",
                 "axi_bytes", "prefetch_bursts"):
        values[name] = getattr(g, name)
    for name in ("column", "latency", "cas", "rcd", "rp", "ras", "rrd", "faw", "refresh_interval",
                 "refresh", "banks", "row_bytes", "ideal"):
        values[name] = int(getattr(memory, name))
    values["attention_part"] = memory.shared
    values["latency_most"] = max(LATENCY_MAX, memory.in_flight)
    values["prefetch_bursts"] = max(values["prefetch_bursts"], min(
        c.outstanding, 1 - -memory.in_flight // c.burst_beats))
    values["column_bytes"] = max(COLUMN, g.axi_bytes)  # a port's beat is a column at least
    values["column"] = memory.column * values["column_bytes"] // COLUMN
    found = record(CONFIG)
    for name in CONFIG:
        found[name] = values[name]
    return found


def _state(g: Geometry, start: int) -> np.ndarray:
    """The scalars at reset, after a FLUSH."""
    s = record(SCALARS)
    for name in ("ar_at", "lat_at", "out_at", "f_at", "w_send", "token_due", "round_due",
                 "observe_from", "result_at"):
        s[name] = NEVER
    for name in ("chosen", "timing_from", "st_slot", "rel_pe", "accepted_at", "f_on_ar",
                 "ret_end", "land_slot", "sent_at"):
        s[name] = -1
    drain = g.prefetch_bursts * g.config.burst_beats
    s["unit"], s["quiet"], s["quiet_from"] = max(1, drain // 16), 1, start
    s["average"], s["slack"] = SLACK_MAX << 4, SLACK_MAX  # nobody has asked for anything
    s["next_refresh"] = 1000000
    s["q_at"] = s["now"] = start
    s["back"], s["listed"] = g.slots - 1, g.slots
    return s


def _future(routing: np.ndarray, ids: int) -> np.ndarray:
    """[token, layer, rank]: quarters of layer visits to the next use of each expert."""
    tokens, layers, _ = routing.shape
    found = np.full(routing.shape, NO_USE, np.int64)
    after = np.full((layers, ids), -1, np.int64)
    every = np.arange(layers)[:, None]
    for t in range(tokens - 1, -1, -1):
        later = after[every, routing[t]]
        found[t] = np.where(later >= 0, 4 * layers * (later - t), NO_USE)
        after[every, routing[t]] = t
    return found


def _arrays(g: Geometry, stimulus: Stimulus, rounds: Rounds, log: int) -> Arrays:
    model, c = g.config.model, g.config
    ids = model.expert_ids
    tables = max(1, len(c.linear.tables))

    def zeros(*shape: int) -> np.ndarray:
        return np.zeros(shape, np.int64)

    tokens = len(stimulus.routing)
    routing = np.empty((tokens, model.layers, model.active), np.int64)
    routing[..., :model.top_k] = stimulus.routing
    routing[..., model.top_k:] = np.arange(model.experts, ids)
    if stimulus.active is not None:  # shared ones behind those that stay
        for rank in range(model.top_k, model.active):
            at = stimulus.active + rank - model.top_k
            np.put_along_axis(routing, at[..., None], rank - model.top_k + model.experts, axis=2)
    keep = np.full(routing.shape[:2], ids - model.experts) + (
        model.top_k if stimulus.active is None else stimulus.active)
    known = records("known", model.layers, ids, slot=-1)
    if stimulus.popularity is not None:
        known["uses"][:, :model.experts] = stimulus.popularity
    slot = records("slot", g.slots, in_list=1)
    slot["before"] = np.arange(g.slots) - 1
    slot["after"][:-1], slot["after"][-1] = np.arange(1, g.slots), -1
    bursts = 2 * max(g.tiles, -(-g.blob_beats // c.burst_beats))
    worth = records("worth", 16)
    worth["rate"] = Worth(model.experts, c.linear.fraction).rate
    never = {"demand": NEVER, "first": NEVER, "done": NEVER}
    return Arrays(
        slot=slot, known=known,
        frequency=zeros(model.layers, ids, LED + LEADERS), leader=zeros(model.layers),
        id=records("id", ids, noted=-1),
        worth=worth, promise=zeros(max(2, c.prefetch_round)),
        rank=records("rank", 2 * model.active + 4),
        channel=records("channel", g.transfers, **never),
        burst=records("burst", RING), reads=zeros(READS), bank=records("bank", BANKS),
        pe=records("pe", c.pes, slot=-1, follow=-1, ready=NEVER, end=NEVER, complete=NEVER,
                   release=NEVER),
        group=zeros(c.pes, g.gu_groups), intervals=zeros(model.active * (bursts + 4), 2),
        table=records("table", tables, row=-1, due=-1, next=model.layers),
        row=records("row", tables, model.layers, landed=NEVER), ring=zeros(8), routing=routing,
        computed=keep.astype(np.int64), future=_future(routing, ids), rows=rounds.rows,
        withheld=zeros(tokens), round=rounds.round, segment=rounds.segment,
        candidate=rounds.candidate, events=zeros(log, 6))


def simulate(geometry: Geometry, settings: Settings, memory: MemoryTiming, stimulus: Stimulus, *,
             warmup: int = 0, start: int = 0, log: int = 0, grain: int = 0) -> Timing:
    """Replay ``stimulus``; the counters are those of the tokens behind ``warmup``.

    Parameters
    ----------
    start: cycle since reset in which the first token's command is taken; what is before matters to
        refresh alone. log: most events that are kept.
    grain: bursts of a demand that are followed as one; 0: every burst
        by itself, of experts of more than 128 bursts as many as make 16 of one.
    """
    model = geometry.config.model
    tokens = len(stimulus.routing)
    if stimulus.routing.shape[1:] != (model.layers, model.top_k):
        raise ValueError(f"routing must be [token, {model.layers}, {model.top_k}], "
                         f"not {list(stimulus.routing.shape)}")
    if geometry.streams_weights and settings.predictor == "linear":
        raise ValueError("linear.weight_store is memory, whose traffic is not modelled, not chip")
    if geometry.ring:
        raise ConfigError("d_ff", geometry.ff, "small enough that two experts fit the buffer: how "
                          "larger ones stream through it is not modelled, only simulated")
    if not 0 <= warmup < tokens:
        raise ValueError(f"warm-up tokens must be 0 to {tokens - 1}, not {warmup}")
    bursts = -(-geometry.blob_beats // geometry.config.burst_beats)
    grain = grain or (1 if bursts <= GRAINS else bursts // LUMPS)
    rounds = stimulus.rounds or no_rounds(geometry, tokens)
    g, s, k = _config(geometry, settings, memory, grain), _state(geometry, start), counters()
    before = k.copy()
    arrays = _arrays(geometry, stimulus, rounds, log)
    begun = start
    for until in (warmup, tokens):
        if not until:
            continue
        if not play(until, g[0], s[0], k[0], arrays):
            raise TimingError(f"nothing more would happen after cycle {int(s['now'][0])}: token "
                              f"{int(s['q_token'][0])}, layer {int(s['q_layer'][0])}")
        if until == warmup:
            before, begun = k.copy(), int(s["ended"][0]) + 1
    ended = int(s["ended"][0])
    found = {name: int(k[name][0] - before[name][0]) for name in COUNTERS}
    found["cycles_total"] = ended + 1 - begun
    inside = sum(found[f"cycles_{cause}"] for cause in CAUSES[1:])
    found["cycles_attention"] = found["cycles_total"] - inside
    return Timing(found, arrays.events[:int(s["events"][0])], ended, int(s["visits"][0]),
                  arrays.withheld)
