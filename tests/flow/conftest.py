"""What tests of ``stmoe explore`` share: a small trace, and sweeps over it."""

import pytest

from stmoe_golden.trace import save
from stmoe_sim.explore.sweep import load_sweep
from support.sweeps import SWEEP
from support.synthetic import synthetic


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    folder = tmp_path_factory.mktemp("explore")
    save(synthetic(layers=3, experts=16, top_k=2, tokens=60, sequences=3), folder / "t.npz")
    (folder / "sweep.toml").write_text(SWEEP)
    return folder


@pytest.fixture
def sweep_of(home):
    def made(text, code="c"):
        (home / "other.toml").write_text('name = "other"\n' + text)
        return load_sweep(home / "other.toml", code)
    return made
