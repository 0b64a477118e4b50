"""Which slot goes next, and what a candidate is worth: golden's decisions, compiled.

The same as ``buffer/manager.py``, ``buffer/retention.py`` and ``buffer/worth.py``, which the tests
hold these against event by event.
"""

from numba import njit

from ..buffer.retention_kernel import LEADERS, PATTERNS, age, expected, wait
from .state import NEVER

__all__ = ["changed", "decided", "follow_slack", "forget", "list_op", "pays", "reach_due",
           "refresh", "spares", "use", "victim", "visit"]

PUSH_FRONT, PUSH_BACK, REMOVE, MOVE_BACK = range(4)
FREE = 0
CLOCK = 1 << 24
VISIT = 4
LATENCY = 7  # of the use frequencies
LRU, EWMA, CLAIRVOYANT, LFU, STATIC = range(5)
ONE, FORGETS, EVEN, BUCKETS = 1 << 16, 7, 4, 16
FINE, FOLLOWS, SLACK_ONE = 4, 3, 16


@njit(cache=True)
def ahead(due, clock):  # pragma: no cover - compiled
    """Quarters of layer visits from ``clock`` to ``due``, signed."""
    return (due - clock + CLOCK // 2) % CLOCK - CLOCK // 2


@njit(cache=True)
def unlink(slot, s, a):  # pragma: no cover - compiled
    """A slot leaves the list."""
    before, after = a.slot[slot].before, a.slot[slot].after
    if before >= 0:
        a.slot[before].after = after
    else:
        s.front = after
    if after >= 0:
        a.slot[after].before = before
    else:
        s.back = before
    a.slot[slot].in_list = 0
    s.listed -= 1


@njit(cache=True)
def link(slot, front, s, a):  # pragma: no cover - compiled
    """A slot enters the list at one of its ends."""
    a.slot[slot].in_list = 1
    s.listed += 1
    if front:
        a.slot[slot].before, a.slot[slot].after = -1, s.front
        if s.front >= 0:
            a.slot[s.front].before = slot
        else:
            s.back = slot
        s.front = slot
    else:
        a.slot[slot].after, a.slot[slot].before = -1, s.back
        if s.back >= 0:
            a.slot[s.back].after = slot
        else:
            s.front = slot
        s.back = slot


@njit(cache=True)
def changed(cycle, g, s):  # pragma: no cover - compiled
    """Victims are to be looked for again: a slot's state or due time changed in ``cycle``."""
    if g.retention:
        s.scan_at = max(cycle, s.ret_end) + 5 + g.scan_rows


@njit(cache=True)
def victim(g, s, a):  # pragma: no cover - compiled
    """The slot that is given out next, -1 = none."""
    if not g.retention:
        return s.front
    best, far = -1, -NEVER
    for slot in range(g.slots):
        if a.slot[slot].in_list:
            if a.slot[slot].state == FREE:
                return slot
            if g.retention >= LFU:
                distance = -a.known[a.slot[slot].layer, a.slot[slot].expert].uses
            else:
                distance = ahead(a.slot[slot].due, s.clock)
            if distance > far:
                best, far = slot, distance
    return best


@njit(cache=True)
def list_op(cycle, kind, slot, g, s, a):  # pragma: no cover - compiled
    """An operation on the list of slots that may go, and how long it takes."""
    if kind == PUSH_FRONT or kind == PUSH_BACK:
        link(slot, kind == PUSH_FRONT, s, a)
        s.list_at = cycle + 1
        changed(cycle, g, s)
    elif kind == REMOVE:
        if g.retention and (cycle + 1 < s.scan_at or slot == victim(g, s, a)):
            changed(cycle, g, s)
        unlink(slot, s, a)
        s.list_at = cycle + 2
    else:
        unlink(slot, s, a)
        link(slot, False, s, a)
        s.list_at = cycle + 3


@njit(cache=True)
def waiting_time(layer, expert, g, a):  # pragma: no cover - compiled
    """Quarters of layer visits until an expert is expected to be used, or is."""
    if g.retention == CLAIRVOYANT:
        return a.known[layer, expert].wait
    if expert >= g.experts:
        return wait(g.layers, 64)
    return expected(a.frequency[layer, expert], a.known[layer, expert].pattern, a.leader[layer],
                    g.layers)


@njit(cache=True)
def visit(cycle, layer, g, s, a):  # pragma: no cover - compiled
    """A layer's use frequencies, and the due times of what the buffer holds of it."""
    if not g.retention:
        return
    s.ret_end = cycle + g.ids + LATENCY
    former = a.leader[layer]
    a.leader[layer] = a.routing[s.q_token, layer, 0] % LEADERS
    for e in range(g.ids):
        pattern = a.known[layer, e].pattern
        if g.retention == EWMA:
            age(a.frequency[layer, e], pattern, former, a.id[e].used)
        a.known[layer, e].pattern = (2 * pattern + a.id[e].used) % PATTERNS
        if a.id[e].used and g.retention == LFU:
            a.known[layer, e].uses += 1
        slot = a.known[layer, e].slot
        if slot >= 0 and (a.id[e].used or g.retention != CLAIRVOYANT):
            a.slot[slot].due = (s.clock + waiting_time(layer, e, g, a)) % CLOCK
    changed(cycle, g, s)


@njit(cache=True)
def refresh(cycle, layer, expert, slot, g, s, a):  # pragma: no cover - compiled
    """An expert that came after its layer's visit gets its due time."""
    if g.retention:
        a.slot[slot].due = (s.clock + waiting_time(layer, expert, g, a)) % CLOCK
        s.ret_end = cycle + 1 + LATENCY
        changed(cycle, g, s)


@njit(cache=True)
def reach_due(layer, s):  # pragma: no cover - compiled
    """When a layer, the one that comes next or a later one, is visited."""
    return (s.clock + VISIT * (layer - s.about + 1)) % CLOCK


@njit(cache=True)
def spares(slot, layer, deep, g, s, a):  # pragma: no cover - compiled
    """Whether ``slot``, the next to go, is given to a candidate."""
    if slot < 0 or s.promises == g.round_size or (deep and s.listed <= g.active):
        return False
    if g.retention == LRU or g.retention >= LFU:
        return not a.slot[slot].wanted
    return a.slot[slot].state == FREE or (
        ahead(a.slot[slot].due, s.clock) > ahead(reach_due(layer, s), s.clock))


@njit(cache=True)
def bucket(score, g):  # pragma: no cover - compiled
    """Of a score."""
    if not g.counted:
        score = (score * 4 >> g.fraction) + EVEN
    return min(max(score, 0), BUCKETS - 1)


@njit(cache=True)
def pays(expert, score, g, s, a):  # pragma: no cover - compiled
    """Whether a candidate is worth a transfer."""
    least = max(g.worth_floor, min(255, 256 * SLACK_ONE // (SLACK_ONE + (s.average >> FINE))))
    return expert >= g.experts or a.worth[bucket(score, g)].rate >> 8 >= least


@njit(cache=True)
def decided(expert, score, deep, g, a):  # pragma: no cover - compiled
    """A candidate of the layer that comes next has been decided on."""
    if g.worth and not deep and expert < g.experts:
        b = bucket(score, g)
        a.id[expert].noted = b
        a.worth[b].rate -= a.worth[b].rate >> FORGETS


@njit(cache=True)
def forget(a):  # pragma: no cover - compiled
    """What was noted of candidates counts no more."""
    for e in range(len(a.id)):
        a.id[e].noted = -1


@njit(cache=True)
def use(expert, a):  # pragma: no cover - compiled
    """An expert that was decided on is used."""
    b = a.id[expert].noted
    if b >= 0:
        a.worth[b].rate = min(a.worth[b].rate + (ONE >> FORGETS), ONE - 1)


@njit(cache=True)
def follow_slack(slack, s):  # pragma: no cover - compiled
    """The average takes the slack of a layer in."""
    s.average += ((slack << FINE) - s.average) >> FOLLOWS
