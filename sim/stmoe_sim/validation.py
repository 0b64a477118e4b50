"""Random configurations, memories, policies and stretches of traces, on netlist and model."""

import hashlib
import json
import random
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from stmoe.config import AcceleratorConfig, preset
from stmoe_golden.metrics import CAUSES
from stmoe_golden.timing.state import COUNTERS
from stmoe_golden.trace import Trace, Window, decode_slice

from .image import write_image
from .memory import memory
from .policies import parse_policies
from .replay import Replay, fit, measure
from .timing import model
from .verilator import digest

__all__ = ["COUNTS", "NETLISTS", "Point", "compare", "points", "replay_of", "summary"]

NETLISTS: tuple[dict[str, Any], ...] = (  # what needs a build of its own
    {},
    {"pes": 1, "slots": 40, "axi_data_bits": 128, "tile_bytes": 1024},
    {"pes": 4, "slots": 160, "outstanding": 16, "clock_mhz": 400},
    {"pes": 2, "rows": 8, "lanes": 8, "integrity": False, "slots": 24, "burst_beats": 16},
    {"pes": 3, "axi_data_bits": 32, "tile_bytes": 256, "outstanding": 4, "prefetch_round": 6},
    {"pes": 2, "slots": 300, "rows": 8, "lanes": 16, "axi_data_bits": 256, "tile_bytes": 2048,
     "outstanding": 2},
    # Wide, with eight transfers in hand.
    {"pes": 2, "rows": 16, "lanes": 16, "axi_data_bits": 512, "tile_bytes": 4096,
     "outstanding": 32},
    {"pes": 4, "slots": 120, "rows": 8, "lanes": 16, "axi_data_bits": 256, "tile_bytes": 1024,
     "burst_beats": 32, "outstanding": 16, "integrity": False})
POLICY_NAMES = ("on-demand", "lru", "ewma", "ht", "cct", "table", "table:none", "table:ewma",
                "table:ewma:worth", "table:worth", "linear", "linear:none", "linear:ewma",
                "linear:worth", "st-moe", "st-moe:lru", "st-moe:static")
MEMORIES = ("lpddr4-3200", "lpddr5-6400", "ddr4-3200", "hbm2-2000", "ideal")
ATTENTION = (0, 50, 400, 1500, 6000)
SCALES = (0.125, 0.25, 0.5, 1.0, 2.0, 4.0)
COUNTS = tuple(name for name in COUNTERS if not name.startswith("cycles_")
               and name != "dma_active")


@dataclass(frozen=True)
class Point:
    """One comparison. ``netlist``: of :data:`NETLISTS`. ``d_ff``: hidden width at run time.
    ``start``: first token, from the trace's first decode token behind those profiled."""

    number: int
    netlist: int
    trace: int
    d_ff: int
    memory: str
    scale: float
    attention: int
    policy: str
    start: int
    tokens: int

    @property
    def key(self) -> str:
        """Name of the point among those kept."""
        text = json.dumps(asdict(self), sort_keys=True)
        return f"{self.number}-{hashlib.sha256(text.encode()).hexdigest()[:10]}"


def points(count: int, seed: int, traces: int, tokens: int) -> list[Point]:
    """``count`` points, the first ones the same whatever the count."""
    found = []
    for number in range(count):
        rng = random.Random(seed * 1_000_003 + number)
        name = rng.choice(MEMORIES)
        found.append(Point(
            number, rng.randrange(len(NETLISTS)), rng.randrange(traces),
            rng.choice((16, 32, 48, 64)), name, 1.0 if name == "ideal" else rng.choice(SCALES),
            rng.choice(ATTENTION), rng.choice(POLICY_NAMES), rng.randrange(200),
            rng.randint(2, tokens)))
    return found


def replay_of(point: Point, traces: list[Trace], cache: Path) -> Replay:
    """The machine and the stretch of a trace that ``point`` names."""
    trace = traces[point.trace]
    base: AcceleratorConfig = preset("tiny").replace(**NETLISTS[point.netlist])
    whole = decode_slice(trace, 1)
    window = Window(whole.trace, whole.profile, whole.start + point.start, 0, point.tokens)
    return Replay(config=fit(base, trace), window=window,
                  memory=memory(point.memory).scaled(point.scale),
                  attention_cycles=point.attention, d_ff=point.d_ff, cache=cache)


def simulated(point: Point, replay: Replay, stimulus: dict[str, np.ndarray],
              folder: Path) -> dict[str, Any]:
    """What the netlist did, from ``folder`` if it did it there, else simulated and kept there."""
    g = replay.geometry
    netlist = digest(replay.config, g.total_bytes // g.axi_bytes)
    file = folder / f"{point.key}-{netlist}.json"
    if file.exists():
        return dict(json.loads(file.read_text()))
    policy, = parse_policies(point.policy)
    outcome, events = measure(replay, policy, replay.simulator(),
                              write_image(replay.experts(), replay.cache), stimulus)
    found = {"point": asdict(point), "ended": outcome["ended"],
             "counters": outcome["counters_all"], "events": events}
    temporary = file.with_suffix(".part")
    temporary.write_text(json.dumps(found))
    temporary.replace(file)
    return found


def compare(point: Point, traces: list[Trace], cache: Path, folder: Path) -> dict[str, Any]:
    """The point on both sides: cycles by cause, counts, and where the first event differs."""
    replay = replay_of(point, traces, cache)
    policy, = parse_policies(point.policy)
    stimulus = replay.stimulus()
    outcome = simulated(point, replay, stimulus, folder)
    events = outcome["events"]
    start = events[0][0] - 2  # the first token's command, an event's being two cycles later
    found = model(replay, policy, stimulus, start=start, log=len(events) + 64, grain=1)
    rtl, ours = outcome["counters"], found.counters
    total = outcome["ended"] - start
    inside = sum(rtl[f"cycles_{cause}"] for cause in CAUSES if cause != "attention")
    rtl_causes = {cause: rtl[f"cycles_{cause}"] for cause in CAUSES}
    rtl_causes["attention"] = total - inside
    log = np.array(events)
    length = min(len(log), len(found.events))
    same = (log[:length] == found.events[:length]).all(axis=1)
    return {
        **asdict(point), "cycles_rtl": total, "cycles_model": ours["cycles_total"],
        "error": ours["cycles_total"] / total - 1,
        "causes_rtl": rtl_causes, "causes_model": found.causes,
        "counts": {name: [rtl[name], ours[name]] for name in COUNTS if rtl[name] != ours[name]},
        "events": len(log), "events_same": int(length if same.all() else same.argmin())}


def summary(results: list[dict[str, Any]]) -> dict[str, Any]:
    """Errors over all points: of cycles, by cause in shares of the total; counts that differ."""
    errors = np.abs([one["error"] for one in results])
    causes = {}
    for cause in results[0]["causes_model"]:
        off = [abs(one["causes_model"][cause] - one["causes_rtl"][cause]) / one["cycles_rtl"]
               for one in results]
        causes[cause] = {"median": float(np.median(off)), "worst": float(np.max(off))}
    exact = sum(not one["counts"] for one in results)
    return {"points": len(results), "median": float(np.median(errors)),
            "worst": float(errors.max()), "exact_cycles": int((errors == 0).sum()),
            "exact_counts": exact, "causes": causes,
            "exact_events": sum(one["events"] == one["events_same"] for one in results)}


def run(wanted: list[Point], traces: list[Trace], cache: Path, folder: Path,
        done: Callable[[int, int], None]) -> list[dict[str, Any]]:
    """Compare all of ``wanted``, netlist by netlist; what was simulated is kept in ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    results = []
    for index, point in enumerate(sorted(wanted, key=lambda one: (one.netlist, one.number))):
        done(index, len(wanted))
        results.append(compare(point, traces, cache, folder))
    return results
