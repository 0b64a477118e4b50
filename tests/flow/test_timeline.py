"""The timeline by a short run written by hand."""

from stmoe_golden.buffer.manager import Kind
from stmoe_sim.report.timeline import chrome_trace

EVENTS = [  # cycle, kind, layer, expert, slot, arg
    [100, Kind.ROUTE, 0, 0, 0, 2], [103, Kind.HIT_RESIDENT, 0, 5, 3, 0],
    [106, Kind.MISS, 0, 7, 0, 0], [110, Kind.DEMAND, 0, 7, 1, 0],
    [120, Kind.PREFETCH, 1, 4, 2, 0], [180, Kind.FIRST, 0, 7, 1, 0],
    [200, Kind.RELEASE, 0, 5, 3, 0], [300, Kind.READY, 0, 7, 1, 0],
    [340, Kind.RELEASE, 0, 7, 1, 0], [400, Kind.READY, 1, 4, 2, 0],
    [500, Kind.ROUTE, 1, 0, 0, 1], [503, Kind.HIT_PREFETCHED, 1, 4, 2, 0],
    [560, Kind.RELEASE, 1, 4, 2, 0]]


def spans(events=EVENTS, clock_mhz=100):
    found = chrome_trace([("table", events)], clock_mhz)["traceEvents"]
    return {(span["tid"], span["name"]): span for span in found if span["ph"] == "X"}


def test_spans_last_from_cause_to_end():
    cycles = {key: (span["args"]["cycle"], span["args"]["cycles"])
              for key, span in spans().items()}
    assert cycles == {
        (0, "layer 0"): (100, 240), (0, "layer 1"): (500, 60), (4, "L0 E5 in use"): (103, 97),
        (2, "L0 E7 demand load"): (110, 190), (2, "L0 E7 in use"): (300, 40),
        (3, "L1 E4 prefetch"): (120, 280), (3, "L1 E4 in use, was prefetched"): (503, 57)}


def test_times_are_microseconds_of_the_clock():
    span = spans()[2, "L0 E7 demand load"]
    assert (span["ts"], span["dur"]) == (1.1, 1.9)
    assert spans(clock_mhz=200)[2, "L0 E7 demand load"]["ts"] == 0.55


def test_a_prefetch_that_is_late_changes_its_name_when_it_is_waited_for():
    events = [[10, Kind.PREFETCH, 1, 4, 2, 0], [50, Kind.ROUTE, 1, 0, 0, 1],
              [53, Kind.HIT_LATE, 1, 4, 2, 0], [90, Kind.READY, 1, 4, 2, 0],
              [120, Kind.RELEASE, 1, 4, 2, 0]]
    found = [(name, span["args"]["cycles"]) for (track, name), span in spans(events).items()
             if track == 3]
    assert found == [("L1 E4 prefetch", 43), ("L1 E4 prefetch, waited for", 37),
                     ("L1 E4 in use", 30)]


def test_processes_and_tracks_have_names():
    found = chrome_trace([("lru", EVENTS), ("table", EVENTS)], 100)["traceEvents"]
    names = {(span["pid"], span.get("tid")): span["args"]["name"] for span in found
             if span["ph"] == "M"}
    assert names[1, None] == "lru" and names[2, None] == "table"
    assert names[1, 0] == "layers" and names[2, 4] == "slot 3"
