"""Expert manager: one decision after the other, each in its cycle."""

from numba import njit

from .array import hand_over, took_back
from .dma import DONE, FIRST, accept, busy, can_take, cancel, promote, slack_to
from .retention import (
    CLOCK,
    FINE,
    FREE,
    MOVE_BACK,
    PUSH_BACK,
    PUSH_FRONT,
    REMOVE,
    VISIT,
    changed,
    decided,
    follow_slack,
    forget,
    list_op,
    pays,
    reach_due,
    refresh,
    spares,
    use,
    victim,
    visit,
)
from .state import NEVER

__all__ = ["step_manager"]

(IDLE, STATUS, RELEASE, CLASSIFY, PROMISE, SETTLE, CANCELLED, DEMAND_EVICT, DEMAND, DECIDE,
 PREFETCH) = range(11)
FILLING, READY = 1, 2
# Events.
(ROUTE, HIT_RESIDENT, HIT_PREFETCHED, HIT_LATE, MISS, CANCEL, DROP, EVICT, DEMANDED, PREFETCHED,
 TOUCH, STOP, IS_READY, FAIL, RELEASED, IS_FIRST, HAS_LANDED, TOKEN, SKIP) = range(1, 20)
CANDIDATE, END = 0, 1


@njit(cache=True)
def log(cycle, kind, layer, expert, slot, arg, s, a):  # pragma: no cover - compiled
    """An event, reported in the cycle after the decision."""
    if s.events < len(a.events):
        row = a.events[s.events]
        row[0], row[1], row[2], row[3], row[4], row[5] = (
            cycle + 1, kind, layer, expert, slot, arg)
    s.events += 1


@njit(cache=True)
def free_slot(cycle, slot, g, s, a):  # pragma: no cover - compiled
    """A slot is freed."""
    a.known[a.slot[slot].layer, a.slot[slot].expert].slot = -1
    a.slot[slot].state = FREE
    a.slot[slot].layer = a.slot[slot].expert = 0
    a.slot[slot].pinned = a.slot[slot].promised = a.slot[slot].first = a.slot[slot].demanded = 0
    list_op(cycle, PUSH_FRONT, slot, g, s, a)


@njit(cache=True)
def begin_round(layer, guessing, s, a):  # pragma: no cover - compiled
    """A round of candidates about ``layer``."""
    s.about, s.guessing = layer, guessing
    s.rounds += 1
    s.stopped = s.p_index = s.p_kept = 0
    for slot in range(len(a.slot)):
        a.slot[slot].wanted = 0


@njit(cache=True)
def evict(cycle, slot, s, k, a):  # pragma: no cover - compiled
    """What a slot holds leaves it."""
    if a.slot[slot].state != FREE:
        log(cycle, EVICT, a.slot[slot].layer, a.slot[slot].expert, slot, 0, s, a)
        a.known[a.slot[slot].layer, a.slot[slot].expert].slot = -1
        k.evictions += 1


@njit(cache=True)
def fill(slot, layer, expert, demanded, a):  # pragma: no cover - compiled
    """A slot is to hold an expert."""
    a.slot[slot].layer, a.slot[slot].expert, a.slot[slot].state = layer, expert, FILLING
    a.slot[slot].pinned = a.slot[slot].demanded = demanded
    a.slot[slot].promised = not demanded
    a.slot[slot].first = 0
    a.known[layer, expert].slot = slot


@njit(cache=True)
def choose(cycle, g, s, k, a):  # pragma: no cover - compiled
    """The next decision, in order of priority."""
    wake = NEVER
    if s.st_slot >= 0:
        if s.st_at <= cycle:
            s.p_slot, s.m_rank = s.st_slot, s.st_kind
            s.st_slot = -1
            s.m_state, s.m_next = STATUS, cycle + 1
            return cycle + 1
        wake = s.st_at
    pe = s.rel_pe
    if pe < 0:
        for i in range(g.pes):
            if a.pe[i].release <= cycle:
                pe = i
                break
    if pe >= 0:
        s.rel_pe = pe
        s.m_state, s.m_next = RELEASE, cycle + 1
        return cycle + 1
    if cycle <= s.ret_end:
        return min(wake, s.ret_end + 1)
    if s.round_due <= cycle:
        s.round_due = NEVER
        s.q_at = max(s.q_at, cycle + 1)
        forget(a)
        withheld = g.worth and s.average >> FINE < g.rows_slack
        a.withheld[s.q_token] = withheld
        k.rows_withheld += withheld
        log(cycle, TOKEN, 0, 0, 0, withheld, s, a)
        interrupted = s.about != 0
        begin_round(0, 0, s, a)
        s.settle_all = interrupted
        if interrupted:
            s.m_state, s.m_next = PROMISE, cycle + 1
        return cycle + 1
    if s.routed_left and s.run_from <= cycle:
        slack_to(cycle, s)
        log(cycle, ROUTE, s.q_layer, 0, 0, s.count + 256 * s.slack, s, a)
        k.layers_done += 1
        expected = s.q_layer == s.about
        begin_round((s.q_layer + 1) % g.layers, s.q_layer + 1 == g.layers, s, a)
        s.clock = (s.clock + VISIT) % CLOCK
        if g.worth:
            if expected:
                for rank in range(s.count - g.shared):
                    use(a.routing[s.q_token, s.q_layer, rank], a)
            follow_slack(s.slack, s)
        s.slack = s.phase = 0
        s.quiet_from = cycle + 1
        forget(a)
        for e in range(g.ids):
            a.id[e].used = 0
        s.m_layer, s.m_rank, s.visit_due, s.settle_all = s.q_layer, 0, 1, not expected
        s.missed = 0
        s.m_state, s.m_next = CLASSIFY, cycle + 2
        return cycle + 2
    if s.missed:
        slot = victim(g, s, a)
        at = max(s.list_at, s.scan_at if g.retention else 0)
        if cycle >= at and slot >= 0 and can_take(cycle, False, s, a):
            s.victim = slot
            s.m_state, s.m_next = DEMAND_EVICT, cycle + 1
            return cycle + 1
        if at > cycle:
            wake = min(wake, at)
        return min(wake, s.locate_end if s.locate_end > cycle else NEVER)
    if s.out_at <= cycle:
        if s.out_kind == END:
            s.rounds -= 1
            s.out_at = NEVER
            s.o_pick = cycle  # when it was taken
            return cycle + 1
        if s.rounds != 1 or s.stopped or not g.prefetch:
            s.out_at = NEVER
            s.o_pick = cycle
            k.predicted += 1
            return cycle + 1
        c = s.out_candidate
        s.tag_layer, s.tag_expert = s.out_layer, a.candidate[c].expert
        s.tag_score = a.candidate[c].score
        s.tag_deep = s.guessing or s.tag_layer != s.about
        if s.listed == 0 and s.promises < g.slots:
            return wake
        at = max(s.list_at, s.scan_at if g.retention and s.front >= 0 else 0)
        if cycle >= at and can_take(cycle, True, s, a) and not (s.tag_deep and busy(s, a)):
            s.m_state, s.m_next = DECIDE, cycle + 2
            return cycle + 2
        if at > cycle:
            wake = min(wake, at)
        return min(wake, s.locate_end if s.locate_end > cycle else NEVER)
    return wake


@njit(cache=True)
def classify(cycle, g, s, k, a):  # pragma: no cover - compiled
    """An expert of the layer, by rank."""
    rank, layer = s.m_rank, s.m_layer
    expert = a.routing[s.q_token, layer, rank]
    slot, shared = a.known[layer, expert].slot, expert >= g.experts
    a.id[expert].used = 1
    a.known[layer, expert].wait = a.future[s.q_token, layer, rank]
    k.map_reads += 1
    k.routed += not shared
    if slot < 0:
        log(cycle, MISS, layer, expert, 0, 0, s, a)
        a.rank[s.missed].missing = rank
        s.missed += 1
        if s.d_left == 0:
            s.d_from = cycle + 1
        s.d_left += 1
        k.missed += not shared
        k.shared_missed += shared
    else:
        if a.slot[slot].state == FILLING:
            log(cycle, HIT_LATE, layer, expert, slot, 0, s, a)
            promote(cycle, slot, s, a)
            if s.l_left == 0 and s.l_end < 0:
                s.l_from = cycle + 1
            s.l_left += 1
            k.hit_late += not shared
            k.shared_late += shared
            k.beats_useful += g.blob_beats
        elif a.slot[slot].promised:
            log(cycle, HIT_PREFETCHED, layer, expert, slot, 0, s, a)
            k.hit_prefetched += not shared
            k.shared_hit += shared
            k.beats_useful += g.blob_beats
        else:
            log(cycle, HIT_RESIDENT, layer, expert, slot, 0, s, a)
            k.hit_resident += not shared
            k.shared_hit += shared
            list_op(cycle, REMOVE, slot, g, s, a)
        a.slot[slot].pinned, a.slot[slot].promised, a.slot[slot].rank = 1, 0, rank
        if a.slot[slot].state == READY or a.slot[slot].first:
            hand_over(cycle, slot, s, a)
            a.slot[slot].first = 1
    s.m_rank += 1
    s.routed_left -= 1
    if s.routed_left:
        s.m_next = cycle + 3
    else:
        s.m_state, s.m_next = PROMISE, cycle + 1
        s.next_missed = 0


@njit(cache=True)
def settle(cycle, g, s, k, a):  # pragma: no cover - compiled
    """A promise is kept, cancelled or dropped."""
    slot = a.promise[s.p_index]
    s.p_index += 1
    s.m_state, s.m_next = PROMISE, cycle + 1
    if not a.slot[slot].promised:
        return
    if a.slot[slot].layer > s.m_layer and not s.settle_all:
        a.promise[s.p_kept] = slot
        s.p_kept += 1
    elif a.slot[slot].state == FILLING:
        s.victim, s.tag_layer, s.tag_expert = slot, a.slot[slot].layer, a.slot[slot].expert
        free_slot(cycle, slot, g, s, a)
        s.m_state, s.m_next = CANCELLED, cycle + 2
    else:
        log(cycle, DROP, a.slot[slot].layer, a.slot[slot].expert, slot, 0, s, a)
        k.dropped += 1
        k.beats_wasted += g.blob_beats
        if g.retain:
            a.slot[slot].promised = 0
            list_op(cycle, PUSH_FRONT, slot, g, s, a)
        else:
            free_slot(cycle, slot, g, s, a)


@njit(cache=True)
def report(cycle, g, s, a):  # pragma: no cover - compiled
    """A report of the DMA."""
    slot = s.p_slot
    if s.m_rank == FIRST:
        log(cycle, IS_FIRST, a.slot[slot].layer, a.slot[slot].expert, slot, 0, s, a)
    else:
        log(cycle, IS_READY, a.slot[slot].layer, a.slot[slot].expert, slot, 0, s, a)
        a.slot[slot].state = READY
    if a.slot[slot].pinned:
        if not a.slot[slot].first:
            hand_over(cycle, slot, s, a)
        if s.m_rank == DONE:
            if a.slot[slot].demanded:
                s.d_left -= 1
                s.d_end = cycle + 1
            else:
                s.l_left -= 1
                s.l_end = cycle + 1
    if s.m_rank == FIRST:
        a.slot[slot].first = 1


@njit(cache=True)
def decide(cycle, g, s, k, a):  # pragma: no cover - compiled
    """A candidate is resident, not worth it, the last of its round, or ordered."""
    layer, expert = s.tag_layer, s.tag_expert
    slot = a.known[layer, expert].slot
    s.m_state, s.m_next = IDLE, cycle + 1
    s.victim = victim(g, s, a)
    if slot >= 0:
        log(cycle, TOUCH, layer, expert, slot, 0, s, a)
        if a.slot[slot].in_list:
            list_op(cycle, MOVE_BACK, slot, g, s, a)
            a.slot[slot].wanted = 1
            a.slot[slot].due = reach_due(layer, s)
            changed(cycle, g, s)
        decided(expert, s.tag_score, s.tag_deep, g, a)
    elif g.worth and not pays(expert, s.tag_score, g, s, a):
        log(cycle, SKIP, layer, expert, 0, 0, s, a)
        k.skipped += 1
        decided(expert, s.tag_score, s.tag_deep, g, a)
    elif not spares(s.victim, layer, s.tag_deep, g, s, a):
        log(cycle, STOP, layer, expert, 0, 0, s, a)
        s.stopped = 1
    else:
        evict(cycle, s.victim, s, k, a)
        s.m_state = PREFETCH
        return
    k.map_reads += 1
    k.predicted += 1
    s.out_at = NEVER
    s.o_pick = cycle


@njit(cache=True)
def step_manager(cycle, g, s, k, a):  # pragma: no cover - compiled
    """What the manager does in a cycle; the next one in which it may do more."""
    state = s.m_state
    if state == IDLE:
        return choose(cycle, g, s, k, a)
    if cycle < s.m_next:
        return s.m_next
    if state != PROMISE and state != DEMAND_EVICT and state != DEMAND and cycle < s.list_at:
        return s.list_at
    s.m_next = cycle + 1
    if state == STATUS:
        report(cycle, g, s, a)
        s.m_state = IDLE
    elif state == RELEASE:
        slot = a.pe[s.rel_pe].release_slot
        s.m_state = IDLE
        if a.slot[slot].state != FILLING:
            log(cycle, RELEASED, a.slot[slot].layer, a.slot[slot].expert, slot, 0, s, a)
            k.mac_words += g.weight_words
            k.bank_reads += g.weight_words
            k.side_reads += g.param_rows
            took_back(s.rel_pe, cycle, g, s, a)
            s.rel_pe = -1
            s.unread -= 1
            s.last_ack = cycle
            if g.retain:
                a.slot[slot].pinned = a.slot[slot].first = a.slot[slot].demanded = 0
                list_op(cycle, PUSH_BACK, slot, g, s, a)
            else:
                free_slot(cycle, slot, g, s, a)
    elif state == CLASSIFY:
        classify(cycle, g, s, k, a)
    elif state == PROMISE:
        if s.p_index == s.promises:
            s.promises = s.p_kept
            s.m_state = IDLE
            if s.visit_due and not s.missed:
                s.visit_due = 0
                visit(cycle, s.m_layer, g, s, a)
        else:
            s.m_state, s.m_next = SETTLE, cycle + 2
    elif state == SETTLE:
        settle(cycle, g, s, k, a)
    elif state == CANCELLED:
        issued, written = cancel(cycle, s.victim, g, s, a)
        log(cycle, CANCEL, s.tag_layer, s.tag_expert, s.victim, issued, s, a)
        log(cycle + 1, HAS_LANDED, s.tag_layer, s.tag_expert, s.victim, written, s, a)
        k.cancelled += 1
        k.beats_wasted += issued
        k.bank_writes += written - g.content_beats
        s.m_state = PROMISE
    elif state == DEMAND_EVICT:
        evict(cycle, s.victim, s, k, a)
        s.m_state = DEMAND
    elif state == DEMAND:
        if not can_take(cycle, False, s, a):
            return s.locate_end if s.locate_end > cycle else NEVER
        slot, rank = s.victim, a.rank[s.next_missed].missing
        expert = a.routing[s.q_token, s.m_layer, rank]
        log(cycle, DEMANDED, s.m_layer, expert, slot, 0, s, a)
        accept(cycle, False, s.m_layer, expert, slot, g, s, a)
        list_op(cycle, REMOVE, slot, g, s, a)
        fill(slot, s.m_layer, expert, 1, a)
        k.beats_demand += g.blob_beats
        k.bank_writes += g.content_beats
        s.next_missed += 1
        s.missed -= 1
        if s.visit_due:
            s.visit_due = 0
            visit(cycle, s.m_layer, g, s, a)
        else:
            refresh(cycle, s.m_layer, expert, slot, g, s, a)
        s.m_state = IDLE
    elif state == DECIDE:
        decide(cycle, g, s, k, a)
    else:
        if not can_take(cycle, True, s, a):
            return s.locate_end if s.locate_end > cycle else NEVER
        slot = s.victim
        log(cycle, PREFETCHED, s.tag_layer, s.tag_expert, slot, 0, s, a)
        accept(cycle, True, s.tag_layer, s.tag_expert, slot, g, s, a)
        list_op(cycle, REMOVE, slot, g, s, a)
        fill(slot, s.tag_layer, s.tag_expert, 0, a)
        a.slot[slot].due = reach_due(s.tag_layer, s)
        changed(cycle, g, s)
        a.promise[s.promises] = slot
        s.promises += 1
        k.prefetches += 1
        k.bank_writes += g.content_beats
        k.map_reads += 1
        k.predicted += 1
        decided(s.tag_expert, s.tag_score, s.tag_deep, g, a)
        s.out_at = NEVER
        s.o_pick = cycle
        s.m_state = IDLE
    return s.m_next
