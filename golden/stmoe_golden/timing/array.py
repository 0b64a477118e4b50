"""PEs: which word is read when, of experts that have landed or are landing."""

from numba import njit

from .state import NEVER

__all__ = ["arrive", "hand_over", "step_array", "took_back"]

SEEN = 2  # cycles from a watermark to the first word that it lets through
TAKEN = 2  # from taking an expert to its first word
QUEUED = 2  # from pushing work to its being offered


@njit(cache=True)
def interval(begin, end, s, a):  # pragma: no cover - compiled
    """A PE is active from ``begin`` to before ``end``."""
    if s.i_count and a.intervals[s.i_count - 1, 1] >= begin >= a.intervals[s.i_count - 1, 0]:
        a.intervals[s.i_count - 1, 1] = max(a.intervals[s.i_count - 1, 1], end)
    elif s.i_count < len(a.intervals):
        a.intervals[s.i_count, 0] = begin
        a.intervals[s.i_count, 1] = end
        s.i_count += 1


@njit(cache=True)
def issue(pe, cycle, g, s, a):  # pragma: no cover - compiled
    """The words of a PE's expert that can be read now are, as soon as they may."""
    slot = a.pe[pe].slot
    mark = a.slot[slot].mark
    whole = mark >= g.blob_beats
    done, total = a.pe[pe].words, g.weight_words
    upto = total if whole else min(total, max(0, (mark - g.side_beats) // g.word_beats))
    if upto <= done:
        return
    at = max(a.pe[pe].next, max(a.pe[pe].start, cycle + SEEN))
    begin = at
    first = g.gu_groups * g.in_words
    if done < g.in_words:
        at = max(at, s.x_from + 1 + done)
    while done < min(upto, first):  # gate and up, group by group
        group = done // g.in_words
        stop = min(upto, (group + 1) * g.in_words)
        at += stop - done
        done = stop
        a.group[pe, group] = at - 1
    while done < upto:  # down, tile by tile
        tile = (done - first) // g.out_groups
        needs = -(-(tile + 1) * g.lanes // g.pairs) - 1
        stop = min(upto, first + (tile + 1) * g.out_groups)
        if tile == g.dn_tiles - 1 and done == first + tile * g.out_groups:
            a.pe[pe].ready = at
        at = max(at, a.group[pe, min(needs, g.gu_groups - 1)] + g.hidden)
        at += stop - done
        done = stop
    a.pe[pe].words = done
    a.pe[pe].next = at
    if whole:
        a.pe[pe].complete = max(a.pe[pe].start, cycle + SEEN) + 1
    if done == total and a.pe[pe].release == NEVER:
        a.pe[pe].end = at - 1
    interval(begin, at, s, a)


@njit(cache=True)
def took_back(pe, cycle, g, s, a):  # pragma: no cover - compiled
    """The manager takes a slot back: a PE holds an expert's last word until it has the one before
    it."""
    at = a.pe[pe].next
    a.pe[pe].release = NEVER
    if a.pe[pe].slot >= 0 and a.pe[pe].words == g.weight_words and a.pe[pe].end == NEVER:
        a.pe[pe].end = max(at - 1, cycle + 1)
        if cycle + 2 > at:
            interval(at, cycle + 2, s, a)


@njit(cache=True)
def arrive(cycle, slot, beats, g, s, a):  # pragma: no cover - compiled
    """The watermark of a slot is moved."""
    a.slot[slot].mark = beats
    for pe in range(g.pes):
        if a.pe[pe].slot == slot:
            issue(pe, cycle, g, s, a)


@njit(cache=True)
def begin(pe, slot, start, cycle, g, s, a):  # pragma: no cover - compiled
    """A PE turns to an expert, whose first word may be read in ``start``."""
    a.pe[pe].slot = slot
    a.pe[pe].words = 0
    a.pe[pe].start = a.pe[pe].next = start
    a.pe[pe].end = a.pe[pe].ready = a.pe[pe].complete = NEVER
    issue(pe, start - SEEN, g, s, a)


@njit(cache=True)
def hand_over(cycle, slot, s, a):  # pragma: no cover - compiled
    """Work is pushed into the queue."""
    work = a.rank[s.q_tail % len(a.rank)]
    work.slot, work.at = slot, cycle + QUEUED
    s.q_tail += 1


@njit(cache=True)
def step_array(cycle, g, s, a):  # pragma: no cover - compiled
    """What the PEs do in a cycle; the next one in which they may do more."""
    wake = NEVER
    if s.q_head < s.q_tail:
        work = a.rank[s.q_head % len(a.rank)]
        slot, at = work.slot, work.at
        if at > cycle:
            wake = at
        else:
            taker = -1
            for pe in range(g.pes):
                if a.pe[pe].slot < 0:
                    taker = pe
                    break
            if taker >= 0:
                begin(taker, slot, cycle + TAKEN, cycle, g, s, a)
            else:
                for pe in range(g.pes):
                    ready = max(a.pe[pe].ready, a.pe[pe].complete)
                    if ready > cycle:
                        wake = min(wake, ready)
                    elif a.pe[pe].follow < 0 and cycle <= a.pe[pe].end:
                        taker = pe
                        a.pe[pe].follow = slot
                        a.pe[pe].follow_at = cycle
                        break
            if taker >= 0:
                s.q_head += 1
                wake = cycle + 1
    for pe in range(g.pes):
        if a.pe[pe].slot >= 0:
            if a.pe[pe].end == cycle:
                a.pe[pe].release = cycle + g.released
                a.pe[pe].release_slot = a.pe[pe].slot
                s.last_finish = max(s.last_finish, cycle + g.summed)
                s.unfinished -= 1
                if a.pe[pe].follow >= 0:
                    slot = a.pe[pe].follow
                    a.pe[pe].follow = -1
                    begin(pe, slot, max(cycle + 1, a.pe[pe].follow_at + TAKEN), cycle, g, s, a)
                else:
                    a.pe[pe].slot = -1
                wake = min(wake, cycle + 1)
            if a.pe[pe].slot >= 0:
                wake = min(wake, a.pe[pe].end)
        if a.pe[pe].release > cycle:
            wake = min(wake, a.pe[pe].release)
    return wake
