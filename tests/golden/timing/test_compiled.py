"""Compiled code is of the sources that are there, and PEs whose slots are taken back late."""

import hashlib
import importlib
from pathlib import Path

import numba

from stmoe_golden.model.trace import default_trace
from stmoe_golden.timing import SOURCES, machine
from stmoe_sim.policies import parse_policies
from stmoe_sim.timing import model
from stmoe_sim.validation import points, replay_of

HELD = 51
"""Number of a point of ``stmoe validate``: PEs of 16 x 16 are done with an expert of 24 words
before the manager, busy with prefetches that land, takes back the slot of the one before."""
NETLIST_CYCLES = 14_243


def test_all_files_that_are_compiled_are_in_the_name_of_the_compiled_code():
    state = hashlib.sha256(b"".join(file.read_bytes() for file in SOURCES)).hexdigest()
    assert state[:16] in Path(machine.play.stats.cache_path).parts
    assert state[:16] not in numba.config.CACHE_DIR
    modules = [importlib.import_module(f"stmoe_golden.timing.{file.stem}")
               for file in SOURCES[:-1] if file.stem != "__init__"]
    called = {Path(value.py_func.__code__.co_filename) for module in modules
              for value in vars(module).values() if hasattr(value, "py_func")}
    assert SOURCES[-1] in called and called <= set(SOURCES)


def test_a_pe_holds_a_last_word_until_the_slot_before_is_taken_back():
    point = points(HELD + 1, seed=1, traces=1, tokens=3)[HELD]
    replay = replay_of(point, [default_trace()], Path("build"))
    policy, = parse_policies(point.policy)
    assert model(replay, policy, replay.stimulus(), start=0).cycles == NETLIST_CYCLES
