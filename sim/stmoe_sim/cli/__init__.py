"""The command line: one module per verb."""

import sys

from .app import app

__all__ = ["app", "main"]


def main() -> None:
    """Run the command line.

    The project's own exceptions are messages to the user: exit 2 for wrong input (ValueError),
    1 for what failed on the way. Any other exception is a defect and keeps its traceback.
    """
    try:
        app()
    except (ValueError, RuntimeError) as error:
        if type(error).__module__.partition(".")[0] not in ("stmoe", "stmoe_golden", "stmoe_sim"):
            raise
        print(f"stmoe: error: {error}", file=sys.stderr)
        sys.exit(2 if isinstance(error, ValueError) else 1)
