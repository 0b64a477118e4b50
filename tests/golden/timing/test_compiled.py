"""Compiled code is of the sources that are there, and PEs whose slots are taken back late."""

import hashlib
from pathlib import Path

import numba

from stmoe_golden.model.trace import default_trace
from stmoe_golden.timing import machine
from stmoe_sim.policies import parse_policies
from stmoe_sim.timing import model
from stmoe_sim.validation import points, replay_of

HELD = 51
"""Number of a point of ``stmoe validate``: PEs of 16 x 16 are done with an expert of 24 words
before the manager, busy with prefetches that land, takes back the slot of the one before."""
NETLIST_CYCLES = 14_243


def test_all_files_of_the_model_are_in_the_name_of_its_compiled_code():
    sources = sorted(Path(machine.__file__).parent.glob("*.py"))
    state = hashlib.sha256(b"".join(file.read_bytes() for file in sources)).hexdigest()
    assert state[:16] in Path(machine.play.stats.cache_path).parts
    assert state[:16] not in numba.config.CACHE_DIR


def test_a_pe_holds_a_last_word_until_the_slot_before_is_taken_back():
    point = points(HELD + 1, seed=1, traces=1, tokens=3)[HELD]
    replay = replay_of(point, [default_trace()], Path("build"))
    policy, = parse_policies(point.policy)
    assert model(replay, policy, replay.stimulus(), start=0).cycles == NETLIST_CYCLES
