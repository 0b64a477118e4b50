"""Caches: made once, whole or not at all."""

import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from stmoe_sim.kept import keep


def test_of_many_that_want_a_folder_one_makes_it(tmp_path):
    made = []

    def make(scratch):
        time.sleep(0.05)
        (scratch / "whole").write_text("yes")
        made.append(scratch)

    with ThreadPoolExecutor(4) as several:
        list(several.map(lambda _: keep(tmp_path / "cache" / "x", make), range(4)))
    assert len(made) == 1 and (tmp_path / "cache" / "x" / "whole").read_text() == "yes"


def test_what_fails_leaves_nothing_that_counts_as_made(tmp_path):
    def fail(scratch):
        (scratch / "half").write_text("")
        raise RuntimeError("ended")

    with pytest.raises(RuntimeError, match="ended"):
        keep(tmp_path / "x", fail)
    assert not (tmp_path / "x").exists()
    keep(tmp_path / "x", lambda scratch: (scratch / "whole").touch())
    assert [path.name for path in (tmp_path / "x").iterdir()] == ["whole"]
