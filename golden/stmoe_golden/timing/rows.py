"""Rows of the learned predictor in expert memory: a token's are read, then the old are written."""

from numba import njit

from .memory import READS, access, free_at, taken
from .state import NEVER

__all__ = ["begin_rows", "rows_ready", "step_rows"]

AT_A_TIME = 4
RING = 8


@njit(cache=True)
def begin_rows(cycle, token, g, s, a):  # pragma: no cover - compiled
    """A token begins: where a table's row is another, it is to be read."""
    some = False
    for t in range(g.tables):
        row = a.rows[token, t]
        some = some or row >= 0
    if some:
        for t in range(g.tables):
            a.table[t].used = a.rows[token, t] >= 0
    for t in range(g.tables):
        row = a.rows[token, t]
        if row >= 0:
            a.table[t].due = row
            a.table[t].wait = not a.table[t].held or a.table[t].row != row
            s.f_waiting = s.f_waiting or a.table[t].wait
    s.f_begin = cycle + 1
    s.f_known = some


@njit(cache=True)
def rows_ready(layer, s, a):  # pragma: no cover - compiled
    """Cycle from which the rows of ``layer`` are there, as far as that is known."""
    if not s.f_known:
        return 0
    if s.f_waiting:
        return NEVER
    at = s.f_begin + 1
    for t in range(len(a.table)):
        if a.table[t].held and a.table[t].used:
            at = max(at, a.row[t, layer].landed + 1 if a.row[t, layer].landed < NEVER else NEVER)
    return at


@njit(cache=True)
def address(table, row, layer, g, a):  # pragma: no cover - compiled
    """Byte address of a row."""
    return g.lexical_base + row * g.token_stride + layer * g.row_stride


@njit(cache=True)
def swap(cycle, g, s, a):  # pragma: no cover - compiled
    """The tables that wait turn to their new rows."""
    for t in range(g.tables):
        if a.table[t].wait:
            a.table[t].old_row = a.table[t].row
            for layer in range(g.layers):
                a.row[t, layer].old = a.row[t, layer].changed and a.table[t].held
                s.w_pending += a.row[t, layer].old
                a.row[t, layer].changed = 0
                a.row[t, layer].landed = NEVER
            a.table[t].row, a.table[t].held, a.table[t].wait = a.table[t].due, 1, 0
            a.table[t].next = 0
            s.f_left += g.layers
    s.f_waiting = 0
    s.f_from = cycle + 1


@njit(cache=True)
def step_rows(cycle, g, s, k, a):  # pragma: no cover - compiled
    """What is done for the rows in a cycle; the next one in which there may be more to do."""
    wake = NEVER
    if s.f_at <= cycle:
        s.f_on_ar = cycle
    # AR, which these have before experts' bursts; a burst on it is taken in this cycle.
    if s.f_at <= cycle and taken(cycle, g, s, a):
        _, last = access(cycle, s.f_address, g.row_beats, g, s, a)
        a.reads[s.read_tail % READS] = last
        s.read_tail += 1
        k.row_beats_read += g.row_beats
        a.row[s.f_table, s.f_layer].landed = last
        a.ring[s.f_tail % RING] = last
        s.f_tail += 1
        s.f_at = NEVER
        s.f_last = max(s.f_last, last)
        wake = last + 1
    elif s.f_at <= cycle:
        wake = free_at(cycle, g, s, a)
    while s.f_head < s.f_tail and a.ring[s.f_head % RING] < cycle:
        s.f_head += 1
    if s.f_head < s.f_tail:
        wake = min(wake, a.ring[s.f_head % RING] + 1)
    flight = s.f_tail - s.f_head + (s.f_at != NEVER)
    if s.f_waiting and cycle > s.f_begin:
        if flight == 0 and s.w_pending == 0 and s.w_end <= cycle:
            swap(cycle, g, s, a)
            return cycle + 1
        wake = min(wake, s.w_end if s.w_end > cycle else NEVER)
    elif s.f_waiting:
        wake = cycle + 1
    if s.f_left and not s.f_waiting and s.f_from <= cycle and s.f_at == NEVER:
        if flight < AT_A_TIME:
            best = -1
            for t in range(g.tables):
                following = a.table[t].next
                if following < g.layers and (best < 0 or following < a.table[best].next):
                    best = t
            s.f_table, s.f_layer = best, a.table[best].next
            s.f_address = address(best, a.table[best].row, a.table[best].next, g, a)
            a.table[best].next += 1
            s.f_left -= 1
            s.f_at = cycle + 1
            wake = cycle + 1
    elif s.f_from > cycle:
        wake = min(wake, s.f_from)
    # Write-back, once all has been asked for.
    if s.w_pending and (s.f_left == 0 or s.f_waiting):
        if s.w_at <= cycle:
            for n in range(g.tables * g.layers):
                t, layer = n // g.layers, n % g.layers
                if a.row[t, layer].old:
                    a.row[t, layer].old = 0
                    s.w_pending -= 1
                    s.w_send = cycle + 2 + g.row_beats
                    s.w_address = address(t, a.table[t].old_row, layer, g, a)
                    s.w_at = cycle + 4 + g.row_beats
                    break
            wake = min(wake, s.w_send)
        else:
            wake = min(wake, s.w_at)
    if s.w_send <= cycle:
        _, last = access(cycle, s.w_address, g.row_beats, g, s, a)
        k.row_beats_written += g.row_beats
        s.w_end = max(s.w_at, last + 1)
        s.w_send = NEVER
        wake = min(wake, s.w_at)
    elif s.w_send < NEVER:
        wake = min(wake, s.w_send)
    return wake
