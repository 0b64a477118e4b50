"""Replay of a trace under a retention policy, compiled."""

import numpy as np
from numba import njit

__all__ = ["FREQUENCY_ONE", "LEADERS", "LEADER_ONE", "LED", "PATTERNS", "POLICIES", "SHIFTS",
           "WAIT", "WEIGHTS", "age", "expected", "replay", "wait"]

SHIFTS = (1, 3, 5, 4)  # of the two averages over all visits, of those by pattern, by leader
WEIGHTS = (1, 2, 5, 8)
LEADERS = 16
PATTERNS = 4
FREQUENCY_ONE, LEADER_ONE = 4095, 255
WAIT = tuple(round(4096 / (index + 4)) for index in range(64))

POLICIES = ("lru", "lfu", "ewma", "told", "clairvoyant", "bound")
LRU, LFU, EWMA, TOLD, CLAIRVOYANT, BOUND = range(6)
NEVER = 1 << 40
LED = 2 + PATTERNS  # averages by leader begin behind the others
WAITS = np.array(WAIT)


@njit(cache=True)
def wait(layers, tokens):  # pragma: no cover - compiled
    """Quarters of layer visits in ``tokens`` / 64 tokens."""
    return (layers * tokens) >> 4


@njit(cache=True)
def age(frequency, pattern, former, used):  # pragma: no cover - compiled
    """The averages of an expert, all in one row, those of its pattern and of the visit's former
    leader among them, take in whether it was used."""
    for i, which in enumerate((0, 1, 2 + pattern, LED + former)):
        f, one = frequency[which], FREQUENCY_ONE if which < LED else LEADER_ONE
        frequency[which] = f + ((one - f) >> SHIFTS[i]) if used else f - (f >> SHIFTS[i])


@njit(cache=True)
def expected(frequency, pattern, leader, layers):  # pragma: no cover - compiled
    """Quarters of layer visits until the expert of these averages is used."""
    mixed = (WEIGHTS[0] * frequency[0] + WEIGHTS[1] * frequency[1]
             + WEIGHTS[2] * frequency[2 + pattern] + WEIGHTS[3] * frequency[LED + leader] * 16)
    return wait(layers, WAITS[mixed >> 10])


@njit(cache=True)
def next_uses(experts, num_experts):  # pragma: no cover - compiled
    """[token, layer, rank]: layer visit at which the expert is used again, else ``NEVER``."""
    tokens, layers, ranks = experts.shape
    upcoming = np.full((layers, num_experts), NEVER)
    found = np.empty_like(experts)
    for t in range(tokens - 1, -1, -1):
        for layer in range(layers):
            for r in range(ranks):
                found[t, layer, r] = upcoming[layer, experts[t, layer, r]]
                upcoming[layer, experts[t, layer, r]] = t * layers + layer
    return found


@njit(cache=True)
def visit(key, frequency, pattern, uses, following, policy, now,
          layers):  # pragma: no cover - compiled
    """The layer's experts get new keys; the resident of the largest is the first that goes.

    ``pattern`` [experts + 1]: by expert, and the number of the visit's leader last.
    """
    for r in range(len(uses)):
        e = uses[r]
        if policy == LRU:
            key[e] = -(now * len(uses) + r)
        elif policy == LFU:
            key[e] -= 1
        elif policy >= CLAIRVOYANT:
            key[e] = following[r]
    if policy == EWMA or policy == TOLD:
        former, leader = pattern[-1], uses[0] % LEADERS
        for e in range(len(key)):
            used = (uses == e).any()
            age(frequency[e], pattern[e], former, used)
            pattern[e] = (2 * pattern[e] + used) % PATTERNS
            key[e] = 4 * now + expected(frequency[e], pattern[e], leader, layers)
        pattern[-1] = leader


@njit(cache=True)
def replay(experts, num_experts, slots, policy):  # pragma: no cover - compiled
    """Share of hits. Under ``EWMA`` a layer's first victim is chosen before its keys are new."""
    tokens, layers, ranks = experts.shape
    following = next_uses(experts, num_experts) if policy >= CLAIRVOYANT else experts
    key = np.zeros((layers, num_experts), np.int64)
    frequency = np.zeros((layers, num_experts, LED + LEADERS), np.int64)
    pattern = np.zeros((layers, num_experts + 1), np.int64)
    layer_of, expert_of = np.full(slots, -1), np.zeros(slots, np.int64)
    slot_of = np.full((layers, num_experts), -1)
    pinned = np.zeros(slots, np.bool_)
    hits = 0
    for t in range(tokens):
        if policy == TOLD:  # who is not used by this token is due a token later
            key += 4 * layers
            for layer in range(layers):
                for expert in experts[t, layer]:
                    key[layer, expert] = 4 * (t * layers + layer + 1)
        for layer in range(layers):
            uses = experts[t, layer]
            now = t * layers + layer + 1
            for r in range(ranks):
                slot = slot_of[layer, uses[r]]
                if slot >= 0:
                    hits += 1
                    pinned[slot] = True
            visited = policy != EWMA and policy != TOLD
            if visited:
                visit(key[layer], frequency[layer], pattern[layer], uses, following[t, layer],
                      policy, now, layers)
            for r in range(ranks):
                if slot_of[layer, uses[r]] >= 0:
                    continue
                victim, worst = -1, -NEVER
                for slot in range(slots):
                    if layer_of[slot] < 0:
                        victim, worst = slot, 2 * NEVER
                        break
                    value = key[layer_of[slot], expert_of[slot]]
                    if not pinned[slot] and value > worst:
                        victim, worst = slot, value
                if policy == BOUND and (victim < 0 or key[layer, uses[r]] >= worst):
                    continue
                if layer_of[victim] >= 0:
                    slot_of[layer_of[victim], expert_of[victim]] = -1
                layer_of[victim], expert_of[victim] = layer, uses[r]
                slot_of[layer, uses[r]] = victim
                pinned[victim] = True
                if not visited:
                    visited = True
                    visit(key[layer], frequency[layer], pattern[layer], uses, uses, policy, now,
                          layers)
            if not visited:
                visit(key[layer], frequency[layer], pattern[layer], uses, uses, policy, now,
                      layers)
            pinned[:] = False
    return hits / experts.size
