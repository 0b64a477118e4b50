"""The timing model on the settings of a replay."""

import numpy as np

from stmoe.config import AcceleratorConfig
from stmoe_golden.timing.model import MemoryTiming, Settings, Timing
from stmoe_golden.timing.model import simulate as play
from stmoe_golden.timing.stimulus import Rounds, Stimulus, rounds_of

from .job import PUBLISHED_THRESHOLD
from .memory import Memory
from .policies import Policy
from .replay import Replay

__all__ = ["memory_timing", "model", "rounds", "settings"]

TIMES = ("column", "latency", "cas", "rcd", "rp", "ras", "rrd", "faw", "refresh_interval",
         "refresh")


def memory_timing(memory: Memory, clock_mhz: int) -> MemoryTiming:
    """The timing of ``memory`` as the simulated one has it at this clock."""
    ports = memory.ports(clock_mhz)
    return MemoryTiming(
        **{name: ports[f"{name}_ps"] for name in TIMES}, banks=ports["banks"],
        row_bytes=ports["row_bytes"], outstanding=ports["mem_outstanding"],
        ideal=bool(ports["ideal"]))


def settings(policy: Policy, config: AcceleratorConfig, attention: int) -> Settings:
    """What ``policy`` sets."""
    threshold = PUBLISHED_THRESHOLD
    if policy.predictor == "linear":
        threshold = policy.threshold << config.linear.fraction - 4
    return Settings(
        retain=policy.retain, retention=policy.retention, prefetch=policy.prefetch,
        predictor=policy.predictor, worth=policy.worth, threshold=threshold, attention=attention)


def rounds(replay: Replay, policy: Policy, stimulus: dict[str, np.ndarray],
           withheld: np.ndarray | None = None) -> Rounds | None:
    """The candidates that golden's prediction unit names in ``replay``, if rows by identity are
    ``withheld``, int [token], of tokens with 1."""
    token = stimulus["token"] if withheld is None else np.where(withheld, -1, stimulus["token"])
    return rounds_of(replay.config, replay.unit(policy), stimulus["experts"], token,
                     stimulus["first"], stimulus.get("ahead") if policy.lookahead else None)


def model(replay: Replay, policy: Policy, stimulus: dict[str, np.ndarray], *, start: int = 0,
          log: int = 0, grain: int = 0, found: Rounds | None = None) -> Timing:
    """What the model says of ``replay`` under ``policy``, of the tokens behind the warm-up.

    ``found``: the candidates, if they are known. The rest as of ``stmoe_golden.timing``.

    Of which tokens rows are withheld, the run itself tells; it follows from the tokens before, so
    that what is predicted with that knowledge comes to the same after a few runs.
    """
    config = replay.config
    withheld = np.zeros(len(stimulus["token"]), np.int64)
    while True:
        timing = play(
            replay.geometry, settings(policy, config, replay.attention_cycles),
            memory_timing(replay.memory, config.clock_mhz),
            Stimulus(stimulus["experts"], stimulus["token"], stimulus["first"],
                     rounds(replay, policy, stimulus, withheld) if found is None else found),
            warmup=replay.window.warmup, start=start, log=log, grain=grain)
        if found is not None or np.array_equal(timing.withheld, withheld):
            return timing
        withheld = timing.withheld
