"""State of the timing model: one record of scalars, one of counters, arrays by name."""

from typing import NamedTuple

import numpy as np

__all__ = ["CAUSES", "CONFIG", "COUNTERS", "NEVER", "SCALARS", "Arrays", "counters",
           "record", "records"]

NEVER = 1 << 60

CAUSES = ("attention", "receive", "merge", "compute", "stall_demand", "stall_late", "verify")
COUNTERS = (
    "routed", "hit_resident", "hit_prefetched", "hit_late", "missed", "shared_hit", "shared_late",
    "shared_missed", "prefetches", "skipped", "cancelled", "dropped", "evictions", "beats_demand",
    "beats_useful", "beats_wasted", "beats_link", "map_reads", "mac_words", "side_reads",
    "bank_reads", "bank_writes", "layers_done", "tokens", "bursts", "dma_active", "predicted",
    "row_beats_read", "row_beats_written", "rows_withheld", "weight_reads", "rows_added",
    "cycles_total",
    *(f"cycles_{cause}" for cause in CAUSES))

CONFIG = (  # what a run does not change
    "layers", "experts", "shared", "active", "top_k", "pes", "slots", "blob_beats",
    "content_beats", "tile_beats", "side_beats", "word_beats", "weight_words", "param_rows",
    "gu_groups", "in_words", "dn_tiles", "out_groups", "pairs", "lanes", "stride", "axi_bytes",
    "burst_beats", "outstanding", "prefetch_bursts", "round_size", "integrity", "grain",
    "prefetch_grain", "released", "summed", "hidden", "scan_rows", "ids",
    # Memory, in picoseconds.
    "clk", "column", "latency", "cas", "rcd", "rp", "ras", "rrd", "faw", "refresh_interval",
    "refresh", "ideal", "banks", "row_bytes", "mem_outstanding",
    # Policy.
    "retain", "retention", "chase", "prefetch", "worth", "worth_floor", "fraction", "counted",
    "attention", "unit", "stages", "error_groups", "order_groups", "threshold", "top_score",
    # Rows of the predictor in memory.
    "tables", "row_beats", "row_stride", "token_stride", "lexical_base", "rows_slack")

SCALARS = (
    # Memory: first edge free for a column, last cycle with a beat on R, and DRAM state.
    "sched", "last_v", "bus_free", "next_refresh", "last_activate", "w0", "w1", "w2", "w3",
    "read_head", "read_tail", "gap_at", "gap_from", "gap_to",
    # DMA.
    "ar_at", "ar_ch", "ar_beats", "chosen", "locate_end", "sequence", "b_head", "b_tail",
    "asked", "r_before", "r_head", "lat", "next_lat", "lat_at", "timing_from", "st_at", "st_slot",
    "st_kind",
    "accepted_at", "active_from", "active_before", "demanding", "busy",
    # Slack.
    "drain_count", "drain_start", "unit", "phase", "slack", "quiet", "quiet_from",
    # Manager.
    "m_state", "m_next", "m_layer", "m_rank", "about", "guessing", "rounds", "stopped",
    "promises", "p_index", "p_kept", "p_slot", "settle_all", "visit_due", "missed", "next_missed",
    "list_at", "ret_end", "scan_at", "clock", "front", "back", "listed", "wanted", "tag_layer",
    "tag_expert", "tag_score", "tag_deep", "victim", "cancelled_landed", "rel_pe", "average",
    "d_from", "d_left", "d_end", "l_from", "l_left", "l_end", "q_head", "q_tail", "step",
    "routed_left", "count",
    # PEs.
    "x_from", "unread", "unfinished", "last_ack", "last_finish", "i_count",
    # Sequencer.
    "q_state", "q_at", "q_token", "q_layer", "done_at", "observe_from", "token_due",
    "round_due", "result_at", "run_from", "ended",
    # Predictor and its candidates.
    "p_state", "p_at", "p_round", "p_segment", "p_layer", "p_learn", "p_guess", "p_deep", "p_final",
    "p_walk", "observed_at", "o_active", "o_segment", "o_next", "o_stop", "o_at", "o_ready",
    "o_close", "o_cut", "o_ended", "o_pick", "out_at", "out_kind", "out_candidate", "out_layer",
    # Rows by identity.
    "f_waiting", "f_known", "f_begin", "f_from", "f_left", "f_table", "f_layer", "f_address",
    "f_at", "f_head", "f_tail", "f_last", "f_on_ar", "w_pending", "w_at", "w_send", "w_address",
    "w_end",
    "events", "visits", "now", "poked")


def record(names: tuple[str, ...]) -> np.ndarray:
    """A record of int64 scalars, in an array of one."""
    return np.zeros(1, np.dtype((np.record, [(name, np.int64) for name in names])))


def counters() -> np.ndarray:
    """Counters, all 0."""
    return record(COUNTERS)


FIELDS = {  # of arrays of records
    "slot": ("layer", "expert", "state", "pinned", "promised", "first", "demanded", "rank", "due",
             "mark", "after", "before", "in_list", "wanted"),
    "known": ("slot", "pattern", "uses", "wait"),
    "id": ("used", "noted"),
    "rank": ("missing", "slot", "at"),
    "channel": ("valid", "slot", "address", "issued", "demand", "located", "first", "done", "order",
                "written", "retired"),
    "burst": ("channel", "dropped", "first", "last", "beats", "begin", "gap_at",
              "gap_from", "gap_to"),
    "bank": ("open", "row", "ready", "activated"),
    "pe": ("slot", "words", "next", "start", "ready", "end", "complete", "follow", "follow_at",
           "release", "release_slot"),
    "table": ("next", "row", "due", "wait", "held", "old_row", "used"),
    "row": ("landed", "changed", "old"),
    "round": ("segment", "learn_rows"),
    "segment": ("about", "rows_a", "rows_b", "score_rows", "first"),  # rows up to a stage's end
    "candidate": ("expert", "score"),
    "worth": ("rate",)}


def records(name: str, *shape: int, **values: int) -> np.ndarray:
    """An array of records of int64, 0 but for the fields in ``values``."""
    found = np.zeros(shape, np.dtype((np.record, [(field, np.int64) for field in FIELDS[name]])))
    for field, value in values.items():
        found[field] = value
    return found


class Arrays(NamedTuple):
    """Arrays, of records of :data:`FIELDS` or of int64, by what their entries are of."""

    slot: np.ndarray
    known: np.ndarray  # [layer, id]
    frequency: np.ndarray  # [layer, id, 22]: as golden's, those by leader behind
    leader: np.ndarray  # [layer]: of its last visit
    id: np.ndarray  # of the layer in work
    worth: np.ndarray  # [bucket]
    promise: np.ndarray
    rank: np.ndarray  # what was missed; a ring of work
    channel: np.ndarray
    burst: np.ndarray  # a ring
    reads: np.ndarray  # last cycle of every read that the memory has taken, a ring
    bank: np.ndarray
    pe: np.ndarray
    group: np.ndarray  # [PE, row group]: cycle of its last word
    intervals: np.ndarray  # [n, begin and end] with a PE active
    table: np.ndarray
    row: np.ndarray  # [table, layer]
    ring: np.ndarray  # last cycles of rows read
    routing: np.ndarray  # [token, layer, rank], shared ones behind
    computed: np.ndarray  # [token, layer]: experts, shared ones too
    future: np.ndarray  # [token, layer, rank]: quarters of layer visits to the next use
    rows: np.ndarray  # [token, table]: row by identity, -1 none
    withheld: np.ndarray  # [token]: whether its rows were not to be moved
    round: np.ndarray
    segment: np.ndarray
    candidate: np.ndarray
    events: np.ndarray  # [n, 6]
