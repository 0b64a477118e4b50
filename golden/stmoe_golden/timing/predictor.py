"""Prediction units: when the rounds of candidates, which golden works out before, come out."""

from numba import njit

from .rows import begin_rows, rows_ready
from .state import NEVER

__all__ = ["step_predictor"]

IDLE, BEGIN, WORK, DEEPER, DEEP_BEGIN, DEEP_SCORE = range(6)
OFF, TABLE, LINEAR = range(3)
CANDIDATE, END = 0, 1
WALK = 2  # cycles from a walk's start to its first row
ADDED = 2  # from the last row named to where it is added, and the unit goes on in the next
FINAL, FINAL_STAGED = 4, 6  # cycles from the walk's start to the sum, beside one per row
LEARNED, LEARNED_STAGED = 9, 11  # from there to the end of learning, beside groups and rows
FILLED = 3  # from the order's start to its first pick, beside one per group
AGAIN = 4  # from a pick to the next
TABLE_FINAL, TABLE_LEARNED = 4, 6


@njit(cache=True)
def order(start, segment, close, g, s, a):  # pragma: no cover - compiled
    """Candidates of a segment, -1 = none, go out from ``start`` on; ``close``: then an end."""
    s.o_active, s.o_segment, s.o_close = 1, segment, close
    if segment < 0:
        s.o_next = s.o_stop = 0
        s.o_at = start + 1
        return
    s.o_next, s.o_stop = a.segment[segment].first, a.segment[segment + 1].first
    if g.unit == LINEAR:
        s.o_at = start + 1 if g.shared else start + FILLED + g.order_groups
    elif g.shared:
        s.o_at, s.o_ready = start + 1, start + TABLE_FINAL + 1
    elif s.o_next < s.o_stop:
        s.o_at = start + TABLE_FINAL + 1 + g.top_score - a.candidate[s.o_next].score
    else:
        s.o_at = start + TABLE_FINAL + 2 + g.top_score - g.threshold


@njit(cache=True)
def following(cycle, g, s, a):  # pragma: no cover - compiled
    """When the next pick is possible, after one in ``cycle``."""
    expert, score = a.candidate[s.o_next - 1].expert, a.candidate[s.o_next - 1].score
    more = s.o_next < s.o_stop
    if g.unit == LINEAR:
        if expert < g.experts:
            return cycle + AGAIN
        if more and a.candidate[s.o_next].expert >= g.experts:
            return cycle + 1
        return cycle + FILLED + g.order_groups
    if expert >= g.experts:
        if more and a.candidate[s.o_next].expert >= g.experts:
            return cycle + 1
        cycle, score = max(cycle, s.o_ready - 1), g.top_score
    if more:
        return cycle + 1 + score - a.candidate[s.o_next].score
    return cycle + 2 + score - g.threshold


@njit(cache=True)
def step_order(cycle, g, s, a):  # pragma: no cover - compiled
    """Candidates are put out; the next cycle in which there is more to do."""
    if not s.o_active:
        return NEVER
    if cycle < s.o_at:
        return s.o_at
    if s.o_cut:
        s.o_active, s.o_ended = 0, cycle
        return cycle + 1
    if s.out_at != NEVER:
        return NEVER
    if s.o_pick == cycle:  # of which the unit hears in the next
        return cycle + 1
    if s.o_next < s.o_stop:
        s.out_at, s.out_kind, s.out_candidate = cycle + 1, CANDIDATE, s.o_next
        s.out_layer = a.segment[s.o_segment].about
        s.o_next += 1
        s.o_at = following(cycle, g, s, a)
    else:
        s.o_active, s.o_ended = 0, cycle
        if s.o_close:
            s.out_at, s.out_kind = cycle + 1, END
    return cycle + 1


@njit(cache=True)
def idle(cycle, g, s, k, a):  # pragma: no cover - compiled
    """A token or an observation is taken."""
    if s.o_active or s.o_ended == cycle:
        return NEVER if s.o_active else cycle + 1
    if s.token_due <= cycle:
        s.token_due = NEVER
        s.q_at = max(s.q_at, cycle + 1)
        s.p_round = s.q_token * (g.layers + 1)
        s.p_learn = 0
        if g.unit == LINEAR:
            begin_rows(cycle, s.q_token, g, s, a)
            s.p_state, s.p_at = BEGIN, cycle + 1
        else:
            order(cycle, -1, 1, g, s, a)
            s.p_state, s.p_at = WORK, cycle + 2
        s.p_segment = a.round[s.p_round].segment
        return cycle + 1
    if s.observe_from <= cycle:
        heard = cycle + g.top_k - 1
        s.observe_from = NEVER
        s.observed_at = heard
        s.p_round += 1
        s.p_segment = a.round[s.p_round].segment
        s.p_learn = a.round[s.p_round].learn_rows
        s.p_layer = s.q_layer
        if g.unit == LINEAR:
            s.p_state, s.p_at = BEGIN, heard + 1
        else:
            any_segment = a.round[s.p_round + 1].segment > s.p_segment
            order(heard, s.p_segment if any_segment else -1, 1, g, s, a)
            s.p_state, s.p_at = WORK, heard + max(TABLE_LEARNED - 1, s.p_learn)
        return s.p_at
    return min(s.token_due, s.observe_from)


@njit(cache=True)
def score(cycle, g, s, k, a):  # pragma: no cover - compiled
    """The score of the next layer begins, if its rows are there; learning follows."""
    some = a.round[s.p_round + 1].segment - s.p_segment
    s.p_guess = s.p_round % (g.layers + 1) == g.layers
    near = some > 0 and not s.p_guess
    learning = g.error_groups * g.stages
    staged = g.stages > 1
    final = cycle + 1
    if near:
        ready = rows_ready(a.segment[s.p_segment].about, s, a)
        if ready > cycle:
            return ready if ready < NEVER else NEVER
        rows = a.segment[s.p_segment].score_rows
        final = cycle + rows + (FINAL_STAGED if staged else FINAL)
        k.weight_reads += rows
        k.rows_added += rows
        order(final, s.p_segment, some == 1, g, s, a)
        s.p_segment += 1
    elif some == 0:
        order(final, -1, 1, g, s, a)
    s.p_at = final + 1
    if near or s.p_learn:
        s.p_at = final + learning + 3
    if s.p_learn:
        s.p_at = final + learning + s.p_learn + (LEARNED_STAGED if staged else LEARNED)
        k.weight_reads += s.p_learn
        for t in range(g.tables):
            if a.table[t].used:
                a.row[t, s.p_layer].changed = 1
    s.p_state = WORK
    return s.p_at


@njit(cache=True)
def stopped(cycle, g, s, k, a):  # pragma: no cover - compiled
    """A walk is cut short: its rows so far count; the cycle in which the last one is added."""
    segment = a.segment[s.p_segment]
    marks = 2 if g.stages > 1 else 0
    named = min(max(0, cycle - s.p_walk - WALK + 1), segment.score_rows + marks)
    rows = named
    if marks:
        rows -= (named > segment.rows_a) + (named > segment.rows_b + 1)
    k.weight_reads += rows
    k.rows_added += rows
    return s.p_walk + WALK + named + ADDED if named else cycle + 1


@njit(cache=True)
def step_unit(cycle, g, s, k, a):  # pragma: no cover - compiled
    """The same, without what the order does next."""
    waiting = s.token_due <= cycle or s.observe_from <= cycle
    s.o_cut = waiting and s.p_deep and s.p_state == DEEPER
    wake = step_order(cycle, g, s, a)
    if cycle < s.p_at:
        return min(wake, s.p_at)
    if s.p_state == IDLE:
        return min(wake, idle(cycle, g, s, k, a))
    if s.p_state == BEGIN:
        return min(wake, score(cycle, g, s, k, a))
    if s.p_state == WORK:
        if g.unit != LINEAR:
            if s.o_active:
                return wake
            s.p_state, s.p_at = IDLE, max(cycle + 1, s.o_ended + 2)
            return min(wake, s.p_at)
        deeper = a.round[s.p_round + 1].segment > s.p_segment
        s.p_state = DEEPER if deeper else IDLE
        return cycle + 1
    if s.p_state == DEEPER:
        if s.o_active or s.o_ended == cycle:
            return wake if s.o_active else cycle + 1
        if waiting or a.round[s.p_round + 1].segment == s.p_segment:
            order(cycle, -1, 1, g, s, a)
            s.p_state, s.p_deep, s.o_cut = IDLE, 0, 0
        else:
            s.p_state, s.p_deep = DEEP_BEGIN, 1
        s.p_at = cycle + 1
    elif s.p_state == DEEP_BEGIN:
        if waiting:
            s.p_state, s.p_at = DEEPER, cycle + 1
            return cycle + 1
        ready = 0 if s.p_guess else rows_ready(a.segment[s.p_segment].about, s, a)
        if ready > cycle:
            return min(wake, ready)
        rows = a.segment[s.p_segment].score_rows
        s.p_walk = cycle
        s.p_final = cycle + rows + (FINAL_STAGED if g.stages > 1 else FINAL)
        s.p_state, s.p_at = DEEP_SCORE, cycle + 1
        return min(s.p_final, cycle + 1)
    elif s.p_state == DEEP_SCORE:
        if waiting:
            s.p_state, s.p_at = DEEPER, stopped(cycle, g, s, k, a)
            return min(wake, s.p_at)
        if cycle >= s.p_final:
            k.weight_reads += a.segment[s.p_segment].score_rows
            k.rows_added += a.segment[s.p_segment].score_rows
            order(cycle, s.p_segment, 0, g, s, a)
            s.p_segment += 1
            s.p_state = DEEPER
            s.p_at = cycle + 1
        else:
            return min(wake, s.p_final)
    return cycle + 1


@njit(cache=True)
def step_predictor(cycle, g, s, k, a):  # pragma: no cover - compiled
    """What the prediction unit does in a cycle; the next one in which it may do more."""
    wake = step_unit(cycle, g, s, k, a)
    if s.o_active and s.out_at == NEVER:
        wake = min(wake, max(cycle + 1, s.o_at))
    return wake
