"""The command line: one module per verb."""

import signal
import sys

from .app import app

__all__ = ["app", "main"]


def main() -> None:
    """Run the command line.

    The project's own exceptions are messages to the user: exit 2 for wrong input (ValueError),
    1 for what failed on the way. So are the operating system's (disk full, file gone): exit 1.
    Any other exception is a defect and keeps its traceback. Asked to terminate, it ends the tools
    that it has started.
    """
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    try:
        app()
    except (ValueError, RuntimeError) as error:
        if type(error).__module__.partition(".")[0] not in ("stmoe", "stmoe_golden", "stmoe_sim"):
            raise
        print(f"stmoe: error: {error}", file=sys.stderr)
        sys.exit(2 if isinstance(error, ValueError) else 1)
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        print(f"stmoe: error: {where}{error.strerror or error}", file=sys.stderr)
        sys.exit(1)
