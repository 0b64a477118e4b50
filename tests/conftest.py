"""What all tests share: no deadlines, a cache of what takes long to make, the command line."""

import os

import pytest
from hypothesis import settings

from stmoe_sim.cli import main

settings.register_profile("patient", deadline=None)  # machines are busy
settings.load_profile("patient")


@pytest.fixture(scope="session")
def cache(tmp_path_factory):
    """Folder of netlists, simulators, images and synthesis, one for all processes of a run."""
    base = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        base = base.parent
    folder = base / "build"
    folder.mkdir(exist_ok=True)
    return folder


@pytest.fixture
def stmoe(monkeypatch, capsys):
    """Run the command line; returns exit code, standard output and standard error."""
    def run(*arguments):
        monkeypatch.setattr("sys.argv", ["stmoe", *map(str, arguments)])
        try:
            main()
            code = 0
        except SystemExit as end:
            code = end.code or 0
        captured = capsys.readouterr()
        return code, captured.out, captured.err
    return run
