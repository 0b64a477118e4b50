"""What all tests share: no deadlines, and the command line."""

import pytest
from hypothesis import settings

from stmoe_sim.cli import main

settings.register_profile("patient", deadline=None)  # machines are busy
settings.load_profile("patient")


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
