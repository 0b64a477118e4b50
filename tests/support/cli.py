"""What tests of the command line share."""

import re

__all__ = ["refused"]


def refused(result, *words):
    """``result`` of the ``stmoe`` fixture is exit 2 and one line of error that holds ``words``."""
    code, out, err = result
    assert (code, out) == (2, ""), err
    message = re.fullmatch(r"(?:\x1b\[[^m]*m|\s)*stmoe: error: ([^\n]+)\n", err)
    assert message, err
    assert all(word in message[1] for word in words), err
