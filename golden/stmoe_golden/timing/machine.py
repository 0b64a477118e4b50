"""The machine: sequencer and host around the other parts, and the loop over cycles with events."""

from numba import njit

from .array import step_array
from .dma import busy, demanding, slack_to, step_dma
from .manager import step_manager
from .predictor import step_predictor
from .rows import step_rows
from .state import NEVER

__all__ = ["play"]

TOKEN, LAYER, RUN = range(3)
TURN = 3  # cycles from a command's end to the next one's first word
BUSY = 2  # from a layer's last result to where the next command is taken
ANSWER = 2  # from the merge's begin to the first result, less one


@njit(cache=True)
def account(g, s, k, a):  # pragma: no cover - compiled
    """Cycles of a layer, from its begin to its last result, by cause."""
    begin, end = s.run_from - 1, s.result_at + 1
    merge = min(max(begin, s.last_ack + 1), end)
    k.cycles_merge += end - merge
    # Active intervals, sorted and united.
    n = s.i_count
    for i in range(1, n):
        low, high = a.intervals[i, 0], a.intervals[i, 1]
        j = i - 1
        while j >= 0 and a.intervals[j, 0] > low:
            a.intervals[j + 1, 0], a.intervals[j + 1, 1] = a.intervals[j, 0], a.intervals[j, 1]
            j -= 1
        a.intervals[j + 1, 0], a.intervals[j + 1, 1] = low, high
    d_from, d_end = s.d_from, s.d_end
    l_from, l_end = s.l_from, s.l_end
    at, i = begin, 0
    while at < merge:
        while i < n and a.intervals[i, 1] <= at:
            i += 1
        if i < n and a.intervals[i, 0] <= at:
            stop = min(merge, a.intervals[i, 1])
            k.cycles_compute += stop - at
            at = stop
            continue
        stop = min(merge, a.intervals[i, 0]) if i < n else merge
        demand = max(0, min(stop, d_end) - max(at, d_from))
        late = max(0, min(stop, l_end) - max(at, l_from))
        both = max(0, min(stop, min(d_end, l_end)) - max(at, max(d_from, l_from)))
        k.cycles_stall_demand += demand
        k.cycles_stall_late += late - both
        k.cycles_verify += stop - at - demand - (late - both)
        at = stop


@njit(cache=True)
def step_sequencer(cycle, g, s, k, a):  # pragma: no cover - compiled
    """Host and sequencer; the next cycle in which there is more to do."""
    if s.q_state == TOKEN:
        if cycle < s.q_at:
            return s.q_at
        s.token_due = s.round_due = cycle + 1
        k.tokens += 1
        s.done_at = cycle + 1
        s.q_state, s.q_layer = LAYER, 0
        s.q_at = s.done_at + max(TURN, g.attention + 2)
        s.attention_to = s.done_at + g.attention
        return cycle + 1
    if s.q_state == LAYER:
        if cycle < s.q_at:
            return s.q_at
        if s.token_due != NEVER or s.round_due != NEVER:
            return NEVER
        k.cycles_receive += g.top_k + 1
        s.x_from = cycle + g.top_k + 2
        s.run_from = s.x_from + 1
        s.count = a.computed[s.q_token, s.q_layer]
        s.routed_left = s.unread = s.unfinished = s.count
        s.observe_from = s.run_from
        s.last_ack = s.last_finish = s.i_count = 0
        s.d_from = s.d_end = s.l_from = s.l_end = -1
        s.d_left = s.l_left = 0
        s.q_state, s.result_at = RUN, NEVER
        return s.run_from
    if s.unread == 0 and s.unfinished == 0:
        if s.result_at == NEVER:
            s.result_at = max(s.last_ack, s.last_finish) + 1 + ANSWER + g.out_groups
        if cycle < s.result_at:
            return s.result_at
        if cycle == s.result_at:
            account(g, s, k, a)
        if s.observe_from != NEVER:
            return NEVER
        idle = max(s.result_at, s.observed_at) + BUSY
        s.q_layer += 1
        if s.q_layer < g.layers:
            s.q_state = LAYER
            s.q_at = max(idle, s.result_at + max(TURN, g.attention + 2))
            s.attention_to = s.result_at + g.attention
        else:
            s.q_state, s.q_token, s.q_layer = TOKEN, s.q_token + 1, 0
            s.q_at = max(idle, s.result_at + TURN)
            s.ended = s.result_at
        return s.q_at
    return s.run_from if s.run_from > cycle else NEVER


@njit(cache=True)
def play(until, g, s, k, a):  # pragma: no cover - compiled
    """From ``s.now`` on until the last result of token ``until`` - 1; False if nothing happens
    any more before."""
    cycle = s.now
    while s.q_state != TOKEN or s.q_token != until:
        s.visits += 1
        wake = step_manager(cycle, g, s, k, a)
        if g.tables:
            wake = min(wake, step_rows(cycle, g, s, k, a))
        wake = min(wake, step_dma(cycle, s.f_on_ar == cycle, g, s, k, a))
        wake = min(wake, step_predictor(cycle, g, s, k, a))
        wake = min(wake, step_array(cycle, g, s, a))
        wake = min(wake, step_sequencer(cycle, g, s, k, a))
        quiet = s.missed == 0 and not demanding(cycle + 1, a)
        if quiet != s.quiet:
            slack_to(cycle + 1, s)
            s.quiet, s.quiet_from = quiet, cycle + 1
        in_use = busy(s, a)
        if in_use != s.busy:
            if in_use:
                s.active_from = cycle + 1
            else:
                s.active_before += cycle + 1 - s.active_from
            s.busy = in_use
            wake = cycle + 1
        if wake >= NEVER:
            return False
        cycle = s.now = max(cycle + 1, wake)
    k.dma_active = s.active_before + (s.ended + 1 - s.active_from if s.busy else 0)
    return True
