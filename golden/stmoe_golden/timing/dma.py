"""Prefetch DMA: transfers in hand, bursts, reports; as ``hw/stmoe/prefetch`` has them."""

from numba import njit

from .array import arrive
from .memory import READS, access, free_at, taken
from .state import NEVER

__all__ = ["accept", "busy", "can_take", "cancel", "demanding", "promote", "slack_to", "step_dma"]

LOCATE = 4  # cycles from the order to where its bursts can be chosen
ISSUE = 2
RING = 64
CHECKED = 3  # from a tile's last beat to the verdict
TURN = 2  # from the end of a channel's burst to that of its next
FIRST, DONE = 0, 1
SOME = 2  # has landed, which is not reported
DRAIN_MAX, SLACK_ONE, SLACK_MAX = 65535, 16, 63


@njit(cache=True)
def demanding(cycle, a):  # pragma: no cover - compiled
    """Whether a demand is in hand."""
    for c in range(len(a.channel)):
        if a.channel[c].valid and a.channel[c].demand <= cycle:
            return True
    return False


@njit(cache=True)
def any_valid(a):  # pragma: no cover - compiled
    """Whether a transfer is in hand."""
    for c in range(len(a.channel)):
        if a.channel[c].valid:
            return True
    return False


@njit(cache=True)
def busy(s, a):  # pragma: no cover - compiled
    """Whether a transfer is in hand, or a burst in flight."""
    return s.b_head != s.b_tail or any_valid(a)


@njit(cache=True)
def can_take(cycle, prefetch, s, a):  # pragma: no cover - compiled
    """Whether an order is accepted in this cycle."""
    if cycle < s.locate_end:
        return False
    count, prefetching = 0, 0
    for c in range(len(a.channel)):
        count += a.channel[c].valid
        prefetching += a.channel[c].valid and a.channel[c].demand > cycle
    channels = len(a.channel)
    return count < channels and (not prefetch or prefetching < channels // 2)


@njit(cache=True)
def accept(cycle, prefetch, layer, expert, slot, g, s, a):  # pragma: no cover - compiled
    """An order is accepted."""
    for c in range(len(a.channel)):
        if not a.channel[c].valid:
            a.channel[c].valid = 1
            a.channel[c].slot = slot
            a.channel[c].address = (layer * g.ids + expert) * g.stride
            a.channel[c].issued = 0
            a.channel[c].demand = NEVER if prefetch else cycle + 1
            a.channel[c].located = cycle + LOCATE
            a.channel[c].first = a.channel[c].done = NEVER
            a.channel[c].order = s.sequence
            a.channel[c].written = 0
            break
    s.sequence += 1
    s.locate_end = cycle + LOCATE
    s.accepted_at = cycle
    a.slot[slot].mark = 0


@njit(cache=True)
def promote(cycle, slot, s, a):  # pragma: no cover - compiled
    """The transfer to ``slot`` becomes a demand."""
    s.poked = cycle + 1
    for c in range(len(a.channel)):
        if a.channel[c].valid and a.channel[c].slot == slot:
            a.channel[c].demand = min(a.channel[c].demand, cycle + 1)


@njit(cache=True)
def part(b, n, a):  # pragma: no cover - compiled
    """Of burst ``b`` of the ring, the stretch without a pause that beat ``n`` (from 0) is in: beats
    before it, in it, first and last cycle."""
    burst = a.burst[b]
    if n < burst.gap_at:
        return 0, burst.gap_at, burst.first, burst.gap_from
    if burst.gap_at:
        return burst.gap_at, burst.beats - burst.gap_at, burst.gap_to, burst.last
    return 0, burst.beats, burst.first, burst.last


@njit(cache=True)
def beat_cycle(b, n, g, a):  # pragma: no cover - compiled
    """Cycle in which beat ``n`` (from 0) comes: columns in equal steps, in each a beat a cycle."""
    before, beats, first, last = part(b, n, a)
    per = g.column_bytes // g.axi_bytes
    columns, n = (beats - 1) // per, n - before
    step = last - (beats - 1) % per - first
    return first + (n // per) * step // max(1, columns) + n % per


@njit(cache=True)
def beats_before(cycle, b, g, a):  # pragma: no cover - compiled
    """Beats of burst ``b`` of the ring that have come before ``cycle``."""
    burst = a.burst[b]
    if cycle <= burst.first:
        return 0
    if cycle > burst.last:
        return burst.beats
    n = 0 if burst.gap_at == 0 or cycle <= burst.gap_to else burst.gap_at
    before, beats, first, last = part(b, n, a)
    if cycle > last:
        return before + beats
    per = g.column_bytes // g.axi_bytes
    columns = (beats - 1) // per
    step = last - (beats - 1) % per - first
    at = min(columns, (cycle - 1 - first) * columns // max(1, step))
    while at < columns and first + (at + 1) * step // columns < cycle:
        at += 1
    return before + min(beats, at * per + min(per, cycle - first - at * step // max(1, columns)))


@njit(cache=True)
def cancel(cycle, slot, g, s, a):  # pragma: no cover - compiled
    """The transfer to ``slot`` is forgotten: beats asked for, and beats written."""
    issued, written = g.blob_beats, g.content_beats
    s.poked = cycle + 1
    for c in range(len(a.channel)):
        if a.channel[c].valid and a.channel[c].slot == slot:
            issued, written = a.channel[c].issued, a.channel[c].written
            for i in range(s.b_head, s.b_tail):
                b = i % RING
                if a.burst[b].channel == c and not a.burst[b].dropped:
                    got = beats_before(cycle, b, g, a)
                    if g.integrity:
                        got -= got // g.tile_beats + (
                            got == a.burst[b].beats and got % g.tile_beats != 0)
                    written += got
                    a.burst[b].dropped = 1
            a.channel[c].valid = 0
    if s.st_slot == slot:
        s.st_slot = -1
    return issued, written


@njit(cache=True)
def slack_to(cycle, s):  # pragma: no cover - compiled
    """Slack is counted up to, not including, ``cycle``."""
    if s.quiet and cycle > s.quiet_from:
        s.phase += cycle - s.quiet_from
        s.slack = min(SLACK_MAX, s.slack + s.phase // s.unit)
        s.phase %= s.unit
    s.quiet_from = max(s.quiet_from, cycle)


@njit(cache=True)
def drained(b, cycle, g, s, a):  # pragma: no cover - compiled
    """A burst has come whole: the drain may be measured anew."""
    size = g.prefetch_bursts * g.burst_beats
    beats = a.burst[b].beats
    while s.drain_count + beats >= size:
        need = size - s.drain_count
        total = a.burst[b].beats
        at = beat_cycle(b, total - beats + need - 1, g, a)
        active = s.active_before + (cycle - s.active_from if s.busy else 0) - (cycle - at) + 1
        passed = min(DRAIN_MAX, active - s.drain_start)
        slack_to(at + 1, s)
        s.unit = max(1, passed // SLACK_ONE)
        s.drain_start = active
        s.drain_count = 0
        beats -= need
    s.drain_count += beats


@njit(cache=True)
def received(cycle, g, s, a):  # pragma: no cover - compiled
    """Beats that have come before ``cycle``, of all bursts so far."""
    while s.r_head < s.b_tail and a.burst[s.r_head % RING].last < cycle:
        s.r_before += a.burst[s.r_head % RING].beats
        s.r_head += 1
    if s.r_head < s.b_tail:
        return s.r_before + beats_before(cycle, s.r_head % RING, g, a)
    return s.r_before


@njit(cache=True)
def due_at(cycle, most, g, s, a):  # pragma: no cover - compiled
    """First cycle, after this one, before which at most ``most`` beats are due, if all asked for
    are on AR."""
    missing = s.asked - most
    before = s.r_before
    for i in range(s.r_head, s.b_tail):
        b = i % RING
        if before + a.burst[b].beats >= missing:
            at = beat_cycle(b, max(0, missing - before - 1), g, a)
            return max(cycle + 1, at + 2)
        before += a.burst[b].beats
    return cycle + 1


@njit(cache=True)
def wanting(cycle, c, g, a):  # pragma: no cover - compiled
    """Whether a channel has bursts to be asked for."""
    channel = a.channel[c]
    return channel.valid and channel.located <= cycle and channel.issued < g.blob_beats


@njit(cache=True)
def pick(cycle, ahead, g, s, a):  # pragma: no cover - compiled
    """Channel whose burst is chosen next, -1 = none."""
    best, demand = -1, False
    for c in range(len(a.channel)):
        if wanting(cycle, c, g, a):
            wants = a.channel[c].demand <= cycle
            if (wants and not demand) or (wants == demand and (wants or ahead) and (
                    best < 0 or a.channel[c].order < a.channel[best].order)):
                best, demand = c, wants
    return best


@njit(cache=True)
def burst_of(c, demand, g, a):  # pragma: no cover - compiled
    """Beats of the next burst of a channel; whole tiles where bursts are lumped together."""
    issued = a.channel[c].issued
    page, tile = 4096 // g.axi_bytes, g.tile_beats
    at = (a.channel[c].address // g.axi_bytes + issued) % page
    beats = min(min(page - at, tile - issued % tile), min(g.blob_beats - issued, g.burst_beats))
    lump = g.grain if demand else g.prefetch_grain
    if lump > 1:
        left = (g.blob_beats - issued) // g.burst_beats
        beats = min(g.blob_beats - issued, g.burst_beats * max(1, min(lump, left // 4)))
    return beats


@njit(cache=True)
def step_dma(cycle, row_on_ar, g, s, k, a):  # pragma: no cover - compiled
    """What the DMA does in a cycle; the next one in which it may do more.

    ``row_on_ar``: the predictor's rows have AR in this cycle.
    """
    wake = s.poked if s.poked > cycle else NEVER
    # AR.
    if s.ar_at <= cycle:
        if not row_on_ar and taken(cycle, g, s, a):
            b = s.b_tail - 1
            first, last = access(cycle, a.burst[b % RING].begin, a.burst[b % RING].beats, g, s, a)
            a.burst[b % RING].first = first
            a.burst[b % RING].last = last
            a.burst[b % RING].gap_at = s.gap_at
            a.burst[b % RING].gap_from, a.burst[b % RING].gap_to = s.gap_from, s.gap_to
            a.reads[s.read_tail % READS] = last
            s.read_tail += 1
            s.ar_at = NEVER
            k.bursts += 1
            if s.timing_from >= 0:
                s.next_lat, s.lat_at = min(g.latency_most, first - s.timing_from), first + 3
                s.timing_from = -1
        else:
            wake = min(wake, cycle + 1 if row_on_ar else free_at(cycle, g, s, a))
    # Order.
    if s.lat_at <= cycle:
        s.lat, s.lat_at = s.next_lat, NEVER
    flight = s.b_tail - s.b_head
    due = s.asked - received(cycle - 1, g, s, a)  # a cycle before
    if s.sent_at == cycle - 1:
        due -= s.sent_beats
    most = min(s.lat + ISSUE, (g.prefetch_bursts - 1) * g.burst_beats)
    ahead = due <= most
    sent = False
    c = s.chosen
    room = s.ar_at == NEVER and flight < g.outstanding
    if c >= 0 and wanting(cycle, c, g, a):
        if room and (ahead or a.channel[c].demand <= cycle):
            beats = burst_of(c, a.channel[c].demand <= cycle, g, a)
            b = s.b_tail % RING
            a.burst[b].channel = c
            a.burst[b].dropped = 0
            a.burst[b].beats = beats
            a.burst[b].begin = a.channel[c].address + a.channel[c].issued * g.axi_bytes
            a.burst[b].first = a.burst[b].last = NEVER
            a.burst[b].gap_at = 0
            s.b_tail += 1
            a.channel[c].issued += beats
            s.ar_at = cycle + 1
            if s.asked == received(cycle, g, s, a):
                s.timing_from = cycle
            s.asked += beats
            s.sent_at, s.sent_beats = cycle, beats
            s.chosen = -1
            sent = True
            wake = cycle + 1
    if not sent:
        before = s.chosen
        s.chosen = pick(cycle, ahead, g, s, a)
        if s.chosen >= 0 and s.chosen != before:
            wake = cycle + 1
        elif s.chosen < 0 and not ahead and due:
            if pick(cycle, True, g, s, a) >= 0:
                if s.ar_at == NEVER:
                    wake = min(wake, due_at(cycle, most, g, s, a))
                else:
                    wake = min(wake, cycle + 1)
        for c in range(len(a.channel)):
            if a.channel[c].valid and a.channel[c].located > cycle:
                wake = min(wake, a.channel[c].located)
    if s.lat_at > cycle:
        wake = min(wake, s.lat_at)
    # Bursts that are over.
    if s.land_slot >= 0 and s.accepted_at != cycle:
        arrive(cycle, s.land_slot, s.land_mark, g, s, a)
        if s.land_is == DONE:
            a.channel[s.land_channel].done = cycle + 1
        elif s.land_is == FIRST:
            a.channel[s.land_channel].first = cycle + 1
        s.land_slot = -1
    landed = s.land_slot >= 0
    if landed:
        wake = min(wake, cycle + 1)
    while s.b_head < s.b_tail:
        b = s.b_head % RING
        over = a.burst[b].last + (CHECKED if g.integrity else 0)
        if a.burst[b].dropped:
            if cycle < over:
                wake = min(wake, over)
                break
        else:
            c = a.burst[b].channel
            over = max(over + 1, a.channel[c].retired + TURN)
            if landed or cycle < over:
                wake = min(wake, max(cycle + 1, over))
                break
            landed = True
            a.channel[c].retired = cycle
            end = (a.burst[b].begin - a.channel[c].address) // g.axi_bytes + a.burst[b].beats
            crcs = end // g.tile_beats if g.integrity else 0
            a.channel[c].written = g.content_beats if end == g.blob_beats else end - crcs
            s.land_slot, s.land_channel, s.land_is = a.channel[c].slot, c, SOME
            s.land_mark = end if end == g.blob_beats else end - crcs
            if end == g.blob_beats:
                s.land_is = DONE
            elif g.chase and end >= g.tile_beats > end - a.burst[b].beats:
                s.land_is = FIRST
        k.beats_link += a.burst[b].beats
        received(cycle, g, s, a)
        drained(b, cycle, g, s, a)
        s.b_head += 1
        wake = min(wake, cycle + 1)
    # Reports.
    if s.st_slot < 0:
        for c in range(len(a.channel)):
            if a.channel[c].valid and min(a.channel[c].first, a.channel[c].done) <= cycle:
                s.st_slot, s.st_at = a.channel[c].slot, cycle + 1
                if a.channel[c].first <= cycle:
                    s.st_kind = FIRST
                    a.channel[c].first = NEVER
                else:
                    s.st_kind = DONE
                    a.channel[c].valid = 0
                wake = min(wake, cycle + 1)
                break
    for c in range(len(a.channel)):
        if a.channel[c].valid:
            soon = min(a.channel[c].first, a.channel[c].done)
            if soon > cycle:
                wake = min(wake, soon)
    return wake
