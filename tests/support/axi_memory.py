"""A memory on AXI4 read and write channels, as awkward as the protocol allows."""

import random
from collections import deque

__all__ = ["AxiMemory"]

OKAY, SLVERR, DECERR = 0, 2, 3
PAGE = 4096


class AxiMemory:
    """Background process that answers a manager's channels from ``data``.

    Reads of different ids are answered in any order, with ``interleave`` beat by beat; read data
    are those of the moment at which a beat is offered, and written data are there only when their
    response is: who does not wait for it, reads what was before. ``stall`` is the chance of not
    being ready, or of withholding, per channel and cycle. A fault is an address that a burst begins
    at, with the number of times that it fails; a write that fails changes nothing.

    ``posted``: written data are there only so many cycles after their response. That breaks the
    protocol: for tests of what must be noticed.
    """

    def __init__(self, read, write=None, *, axi_bytes, size=0, seed=1, stall=0.0, latency=(3, 20),
                 interleave=False, read_faults=None, write_faults=None, ids=None, posted=0):
        self.read, self.write, self.axi_bytes = read, write, axi_bytes
        self.data = bytearray(size)
        self.rng, self.stall, self.latency = random.Random(seed), stall, latency
        self.interleave, self.ids = interleave, ids
        self.read_faults, self.write_faults = dict(read_faults or {}), dict(write_faults or {})
        self.posted, self.later = posted, []
        self.cycle = 0
        self.reads, self.writes = [], []  # addresses, in order of acceptance
        self.read_beats = self.write_beats = 0
        self.asked = []  # cycles in which a read was accepted

    def chance(self):
        return self.rng.random() >= self.stall

    def due(self):
        return self.cycle + self.rng.randint(*self.latency)

    def burst(self, request, faults):
        """A legal burst: [due, id, address, beats left, response]."""
        beats = request.len + 1
        assert 1 << request.size == self.axi_bytes and request.burst == 1
        assert request.addr % self.axi_bytes == 0
        assert request.addr % PAGE + beats * self.axi_bytes <= PAGE, "crosses 4 KiB"
        fails = faults.get(request.addr, 0)
        if fails:
            faults[request.addr] = fails - 1
        return [self.due(), request.id, request.addr, beats,
                self.rng.choice([SLVERR, DECERR]) if fails else OKAY]

    def next_of(self, waiting):
        """Of the oldest bursts per id, one that is due, or None."""
        oldest = {}
        for burst in waiting:
            oldest.setdefault(burst[1], burst)
        ripe = [burst for burst in oldest.values() if burst[0] <= self.cycle]
        return self.rng.choice(ripe) if ripe else None

    def get(self, address):
        return int.from_bytes(self.data[address:address + self.axi_bytes], "little")

    async def serve_reads(self, ctx):
        ar, r = self.read.ar, self.read.r
        waiting, burst, offered, held = [], None, False, None
        while True:
            ready = self.chance()
            ctx.set(ar.ready, ready)
            if not offered:
                if burst is None or (self.interleave and self.rng.random() < 0.5):
                    burst = self.next_of(waiting)
                offered = burst is not None and self.chance()
                if offered:
                    _, name, address, left, resp = burst
                    ctx.set(r.payload, {"data": self.get(address), "id": name, "last": left == 1,
                                        "resp": resp if left == 1 else OKAY})
            ctx.set(r.valid, offered)
            _, _, valid, request, taken = await ctx.tick().sample(ar.valid, ar.payload, r.ready)
            self.cycle += 1
            if offered and taken:
                self.read_beats += 1
                burst[2] += self.axi_bytes
                burst[3] -= 1
                offered = False
                if burst[3] == 0:
                    waiting.remove(burst)
                    burst = None
            assert held is None or (valid and request == held), "AR changed while stalled"
            held = request if valid and not ready else None
            if valid and ready:
                assert request.id not in [b[1] for b in waiting], "id in flight twice"
                assert self.ids is None or request.id in self.ids
                self.reads.append(request.addr)
                self.asked.append(self.cycle)
                waiting.append(self.burst(request, self.read_faults))

    async def serve_writes(self, ctx):
        aw, w, b = self.write.aw, self.write.w, self.write.b
        bursts, beats, waiting = deque(), deque(), []
        offered, aw_held, w_held = None, None, None
        while True:
            aw_ready, w_ready = self.chance(), self.chance()
            ctx.set(aw.ready, aw_ready)
            ctx.set(w.ready, w_ready)
            if offered is None and self.chance():
                offered = self.next_of(waiting)
                if offered:
                    waiting.remove(offered)
                    _, name, address, content, resp = offered
                    if not resp:
                        self.later.append((self.cycle + self.posted, address, content))
                    ctx.set(b.payload, {"id": name, "resp": resp})
            while self.later and self.later[0][0] <= self.cycle:
                _, address, content = self.later.pop(0)
                self.data[address:address + len(content)] = content
            ctx.set(b.valid, offered is not None)
            _, _, aw_valid, request, w_valid, beat, taken = await ctx.tick().sample(
                aw.valid, aw.payload, w.valid, w.payload, b.ready)
            if offered is not None and taken:
                offered = None
            assert aw_held is None or (aw_valid and request == aw_held), "AW changed while stalled"
            assert w_held is None or (w_valid and beat == w_held), "W changed while stalled"
            aw_held = request if aw_valid and not aw_ready else None
            w_held = beat if w_valid and not w_ready else None
            if aw_valid and aw_ready:
                bursts.append(self.burst(request, self.write_faults))
                self.writes.append(request.addr)
            if w_valid and w_ready:
                assert beat.strb == (1 << self.axi_bytes) - 1
                self.write_beats += 1
                beats.append((beat.data, beat.last))
            while bursts and len(beats) >= bursts[0][3]:
                burst = bursts.popleft()
                parts = [beats.popleft() for _ in range(burst[3])]
                assert [last for _, last in parts] == [0] * (len(parts) - 1) + [1], "WLAST"
                burst[0] = self.due()
                burst[3] = b"".join(data.to_bytes(self.axi_bytes, "little") for data, _ in parts)
                waiting.append(burst)

    def attach(self, sim):
        """Adds the processes to a simulator."""
        sim.add_testbench(self.serve_reads, background=True)
        if self.write is not None:
            sim.add_testbench(self.serve_writes, background=True)
