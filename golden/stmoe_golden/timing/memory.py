"""Expert memory: bursts on open rows, in the order in which they were taken."""

from numba import njit

__all__ = ["access", "free_at", "taken"]

CLOSED = -1
READS = 256  # entries of the ring of reads


@njit(cache=True)
def column(now, at, g, s, a):  # pragma: no cover - compiled
    """Picosecond at which the data of a column access decided on at ``now`` are over."""
    line = at // g.row_bytes
    bank, row = line % g.banks, line // g.banks
    t = max(now, a.bank[bank].ready)
    column_at = max(0, s.bus_free - g.cas)
    if g.refresh_interval and max(t, column_at) >= s.next_refresh:
        over = s.next_refresh + g.refresh
        t = max(t, over)
        for i in range(len(a.bank)):
            a.bank[i].open = 0
            a.bank[i].ready = max(a.bank[i].ready, over)
        s.next_refresh += g.refresh_interval
        if s.next_refresh < t:
            s.next_refresh = t + g.refresh_interval
    if not (a.bank[bank].open and a.bank[bank].row == row):
        if a.bank[bank].open:
            t = max(t, a.bank[bank].activated + g.ras) + g.rp
        t = max(t, max(s.last_activate + g.rrd, s.w3 + g.faw))
        s.w3, s.w2, s.w1, s.w0 = s.w2, s.w1, s.w0, t
        s.last_activate = t
        a.bank[bank].activated = t
        a.bank[bank].open = 1
        a.bank[bank].row = row
        t += g.rcd
    t = max(t, column_at)
    a.bank[bank].ready = t
    s.bus_free = max(t + g.cas, s.bus_free) + s.column
    return s.bus_free


@njit(cache=True)
def more_columns(now, count, g, s, a, bank):  # pragma: no cover - compiled
    """How many of ``count`` further columns of the open row come before a refresh; they are read.

    One is decided on per cycle, from ``now`` on.
    """
    if g.refresh_interval:
        step = max(s.column, g.clk)
        count = min(count, (s.next_refresh - 1 - now) // g.clk,
                    (s.next_refresh - 1 - max(s.bus_free, now + g.cas + s.column)) // step)
    if count <= 0:
        return 0
    last = now + (count - 1) * g.clk
    before = s.bus_free + (count - 1) * s.column
    before = max(before, last - g.clk + g.cas + s.column) if count > 1 else before
    a.bank[bank].ready = max(last, before - g.cas)
    s.bus_free = max(before, a.bank[bank].ready + g.cas) + s.column
    return count


@njit(cache=True)
def access(cycle, at, beats, g, s, a):  # pragma: no cover - compiled
    """A burst is taken in ``cycle``: first and last cycle with a beat of it on R.

    ``s.gap_at``: beats before its longest pause, if that is long, which are over in ``s.gap_from``;
    the next one comes in ``s.gap_to``.
    """
    s.column = g.column
    if 0 < g.attention_part < 1000 and cycle < s.attention_to:
        s.column = g.column * 1000 // (1000 - g.attention_part)
    wide = g.column_bytes
    long = 2 * max(wide // g.axi_bytes, -(-s.column // g.clk))
    sent = 0
    s.gap_at = 0
    edge = max(cycle, s.sched)
    left = beats * g.axi_bytes
    now = (edge + 1) * g.clk
    if not g.ideal and g.refresh_interval:
        while now > s.next_refresh + g.refresh:
            s.next_refresh += g.refresh_interval
            for i in range(len(a.bank)):
                a.bank[i].open = 0
    first = 0
    v = s.last_v
    while left > 0:
        piece = min(left, wide - at % wide)
        here = piece // g.axi_bytes
        if g.ideal:
            done = now
        else:
            done = column(now, at, g, s, a)
        begin = max(v + 1, max(-(-(done + g.latency) // g.clk), edge + 2))
        if first == 0:
            first = begin
        elif begin - v > long:
            long = begin - v
            s.gap_at, s.gap_from, s.gap_to = sent, v, begin
        v = begin + here - 1
        sent += here
        edge += 1
        now += g.clk
        at += piece
        left -= piece
        row_left = min(left, -at % g.row_bytes) // wide
        if row_left > 0:
            if g.ideal:
                count = row_left
                done = now + (count - 1) * g.clk
            else:
                count = more_columns(now, row_left, g, s, a, ((at - 1) // g.row_bytes) % g.banks)
                done = s.bus_free
            if count:
                edge += count
                now += count * g.clk
                at += count * wide
                left -= count * wide
                per = wide // g.axi_bytes
                sent += count * per
                v = max(v + count * per,
                        max(-(-(done + g.latency) // g.clk), edge + 1) + per - 1)
    s.sched = edge
    s.last_v = v
    return first, v


@njit(cache=True)
def taken(cycle, g, s, a):  # pragma: no cover - compiled
    """Whether AR is ready: the memory has fewer than its most reads, and attention leaves some of
    its bandwidth."""
    while s.read_head < s.read_tail and a.reads[s.read_head % READS] < cycle:
        s.read_head += 1
    if g.attention_part == 1000 and cycle < s.attention_to:
        return False
    return s.read_tail - s.read_head < g.mem_outstanding


@njit(cache=True)
def free_at(cycle, g, s, a):  # pragma: no cover - compiled
    """When AR may be ready again, of a cycle in which it was not."""
    if g.attention_part == 1000 and cycle < s.attention_to:
        return s.attention_to
    return a.reads[s.read_head % READS] + 1
