"""State of the timing model: one record of scalars, one of counters, arrays by name."""

from typing import Any

import numpy as np

__all__ = ["ARRAYS", "CAUSES", "CONFIG", "COUNTERS", "FIELDS", "NEVER", "SCALARS", "WORDS",
           "Arrays", "counters", "dtype_of", "record", "records"]

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
    "column_bytes", "burst_beats", "outstanding", "prefetch_bursts", "latency_most", "round_size",
    "integrity", "grain", "prefetch_grain", "released", "summed", "hidden", "scan_rows", "ids",
    # Memory, in picoseconds.
    "clk", "column", "latency", "cas", "rcd", "rp", "ras", "rrd", "faw", "refresh_interval",
    "refresh", "ideal", "banks", "row_bytes", "mem_outstanding",
    "attention_part",
    # Policy.
    "retain", "retention", "chase", "prefetch", "worth", "worth_floor", "fraction", "counted",
    "attention", "unit", "stages", "error_groups", "order_groups", "threshold", "top_score",
    # Rows of the predictor in memory.
    "tables", "row_beats", "row_stride", "token_stride", "lexical_base", "rows_slack")

SCALARS = (
    # Memory: first edge free for a column, last cycle with a beat on R, and DRAM state.
    "sched", "last_v", "bus_free", "column", "attention_to", "next_refresh", "last_activate",
    "w0", "w1", "w2", "w3", "read_head", "read_tail", "gap_at", "gap_from", "gap_to",
    # DMA.
    "ar_at", "ar_ch", "ar_beats", "chosen", "locate_end", "sequence", "b_head", "b_tail",
    "asked", "r_before", "r_head", "lat", "next_lat", "lat_at", "timing_from", "st_at", "st_slot",
    "st_kind",
    "accepted_at", "sent_at", "sent_beats", "land_slot", "land_channel", "land_mark", "land_is",
    "active_from", "active_before", "demanding", "busy",
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
    found = np.zeros(shape, dtype_of(name))
    for field, value in values.items():
        found[field] = value
    return found


def dtype_of(name: str) -> np.dtype[Any]:
    """Of the entries of an array of :data:`ARRAYS`."""
    if name in FIELDS:
        return np.dtype((np.record, [(field, np.int64) for field in FIELDS[name]]))
    return np.dtype(np.int64)


ARRAYS = {  # dimensions; of records of FIELDS or of int64, by what the entries are of
    "slot": 1,
    "known": 2,  # [layer, id]
    "frequency": 3,  # [layer, id, 22]: as golden's, those by leader behind
    "leader": 1,  # [layer]: of its last visit
    "id": 1,  # of the layer in work
    "worth": 1,  # [bucket]
    "promise": 1,
    "rank": 1,  # what was missed; a ring of work
    "channel": 1,
    "burst": 1,  # a ring
    "reads": 1,  # last cycle of every read that the memory has taken, a ring
    "bank": 1,
    "pe": 1,
    "group": 2,  # [PE, row group]: cycle of its last word
    "intervals": 2,  # [n, begin and end] with a PE active
    "table": 1,
    "row": 2,  # [table, layer]
    "ring": 1,  # last cycles of rows read
    "routing": 3,  # [token, layer, rank], shared ones behind
    "computed": 2,  # [token, layer]: experts, shared ones too
    "future": 3,  # [token, layer, rank]: quarters of layer visits to the next use
    "rows": 2,  # [token, table]: row by identity, -1 none
    "withheld": 1,  # [token]: whether its rows were not to be moved
    "round": 1,
    "segment": 1,
    "candidate": 1,
    "events": 2}  # [n, 6]

WORDS = 4  # of a table of addresses, per array: its address and up to three extents


class Arrays:
    """Arrays of ``state.ARRAYS`` by name; what is not given has one entry, 0.

    In Python attributes, in compiled code views of the same memory.
    """

    def __init__(self, **arrays: np.ndarray) -> None:
        self._table = np.zeros((len(ARRAYS), WORDS), np.int64)
        for row, (name, dimensions) in zip(self._table, ARRAYS.items(), strict=True):
            found = arrays.pop(name, np.zeros((1,) * dimensions, dtype_of(name)))
            if found.dtype != dtype_of(name) or found.ndim != dimensions or (
                    not found.flags.c_contiguous):
                raise ValueError(f"{name} must be {dtype_of(name)}, of {dimensions} dimensions, in "
                                 f"one piece, not {found.dtype} of shape {found.shape}")
            setattr(self, name, found)
            row[0], row[1:dimensions + 1] = found.ctypes.data, found.shape
        if arrays:
            raise ValueError(f"no such arrays: {', '.join(arrays)}")
        self.address = self._table.ctypes.data

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(name)  # says that the others are there
