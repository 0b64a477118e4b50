"""What tests of the command line share."""

import pytest

from stmoe_sim.cli import main


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
