"""Retention ``ewma``: the expert goes that is expected to be used last.

Exact formats, from which hardware is built:

use
    of every (layer, expert): averages f of 12 bits that forget. At a visit of the layer f +=
    (4095 - f) >> s if the expert was used, else f -= f >> s. Two are over its visits, s = 1 and 3.
    Four more, s = 5, are over those visits only that followed one of the four patterns of use in
    the two visits before: number = 2 * (used in the one before the last) + (used in the last).
    Sixteen averages c of 8 bits (one = 255), s = 4, are over those visits only that followed one
    led by an expert of this number modulo 16; a visit's leader is the first expert of its routing.
    All, the pattern and the leader, start at 0 after a flush.
expected time to the next use
    index = (f[0] + 2 f[1] + 5 f[2 + pattern] + 8 * 16 c[leader]) >> 10, 6 bits, after pattern and
    leader have moved on;
    ``WAIT[index]`` = round(4096 / (index + 4)) is the reciprocal of the use frequency, in units of
    1/64 token: 1 to 16 tokens. A shared expert waits one token. In quarters of a layer visit:
    (layers * WAIT) >> 4.
clock
    counts quarters of layer visits, + 4 per ROUTE, from 0 after a flush, modulo 2**24.
due time
    of a slot, modulo 2**24, the clock when its expert is expected to be used: clock + expected time
    at its layer's last visit; for a prefetched expert, or a resident one that is predicted, the
    clock of its layer's next visit.
victim
    a free slot, else the evictable one whose due time is farthest ahead of the clock; of equals,
    that of the lower number. Due time - clock is taken as a signed number of 24 bits: right as long
    as no resident expert's layer goes unvisited for 2**21 layer visits.

An expert that was just used and is due later than every other is thereby the first that goes.
"""

import numpy as np

from .retention_kernel import (
    FREQUENCY_ONE,
    LEADER_ONE,
    LEADERS,
    PATTERNS,
    POLICIES,
    SHIFTS,
    WAIT,
    WEIGHTS,
    replay,
    wait,
)

__all__ = ["CLOCK_BITS", "FREQUENCY_ONE", "LEADERS", "LEADER_ONE", "PATTERNS", "SHIFTS", "VISIT",
           "WAIT", "WEIGHTS", "UseFrequencies", "ahead", "hit_rates"]

VISIT = 4
CLOCK_BITS = 24


def ahead(due: int, clock: int) -> int:
    """Quarters of layer visits from ``clock`` to ``due``, signed."""
    half = 1 << (CLOCK_BITS - 1)
    return (due - clock + half) % (2 * half) - half


class UseFrequencies:
    """Ageing use frequency of every expert of every layer.

    Parameters
    ----------
    layers, experts, shared: of the model; ids of the ``shared`` experts follow the others.
    """

    def __init__(self, layers: int, experts: int, shared: int = 0):
        self.layers, self.experts = layers, experts
        self.frequency = np.zeros((layers, experts + shared, 2 + PATTERNS), np.int64)
        self.pattern = np.zeros((layers, experts + shared), np.int64)
        self.led = np.zeros((layers, experts + shared, LEADERS), np.int64)
        self.leader = np.zeros(layers, np.int64)

    def visit(self, layer: int, used: list[int]) -> None:
        """A layer was routed to the experts ``used``, in rank order."""
        frequency, pattern = self.frequency[layer], self.pattern[layer]
        ids = np.arange(len(pattern))
        hit = np.isin(ids, used)
        averages = [(frequency, which, FREQUENCY_ONE) for which in (0, 1, 2 + pattern)]
        averages.append((self.led[layer], self.leader[layer], LEADER_ONE))
        for (table, which, one), shift in zip(averages, SHIFTS, strict=True):
            f = table[ids, which]
            table[ids, which] = np.where(hit, f + ((one - f) >> shift), f - (f >> shift))
        pattern[:] = (2 * pattern + hit) % PATTERNS
        self.leader[layer] = used[0] % LEADERS if used else 0

    def wait(self, layer: int, expert: int) -> int:
        """Expected quarters of layer visits from the layer's last visit to the expert's use."""
        if expert >= self.experts:
            return wait(self.layers, 64)
        f = self.frequency[layer, expert]
        led = 16 * self.led[layer, expert, self.leader[layer]]
        mixed = np.array(WEIGHTS) @ [*f[[0, 1, 2 + self.pattern[layer, expert]]], led]
        index = int(mixed) >> 10
        return wait(self.layers, WAIT[index])


def hit_rates(experts: np.ndarray, num_experts: int, slots: int,
              policies: tuple[str, ...] = POLICIES) -> dict[str, float]:
    """Share of uses that find their expert in the buffer, by policy; nothing is prefetched.

    Each missed expert takes a slot of its own, as in the machine, which experts of the layer in
    work do not give up. ``bound`` is the clairvoyant optimum of a machine that need not hold an
    expert to compute it: no policy is better. ``told`` is ``ewma`` that knows at a token's start,
    in truth, which experts the token will use: no predictor of the token gives retention more.

    Parameters
    ----------
    experts: [token, layer, rank], integers below ``num_experts``.
    slots: of the buffer, at least as many as ranks.
    policies: of ``lru``, ``lfu`` (uses ever), ``ewma``, ``told``, ``clairvoyant``, ``bound``.
    """
    if experts.ndim != 3 or not experts.size:
        raise ValueError(f"experts has the shape {experts.shape}, not [token, layer, rank]")
    if not 0 <= experts.min() <= experts.max() < num_experts:
        raise ValueError(f"experts are {experts.min()} to {experts.max()}, "
                         f"not 0 to {num_experts - 1}")
    if slots < experts.shape[2]:
        raise ValueError(f"slots is {slots}, not at least {experts.shape[2]}, the experts in use")
    for name in policies:
        if name not in POLICIES:
            raise ValueError(f"policy is {name}, not one of {', '.join(POLICIES)}")
    uses = np.ascontiguousarray(experts, np.int64)
    return {name: float(replay(uses, num_experts, slots, POLICIES.index(name)))
            for name in policies}
