"""Messages between the command line and a running simulator: a line of JSON, then bytes."""

import json
import socket
from typing import Any

__all__ = ["Wire", "WireError"]


class WireError(RuntimeError):
    """The other side is gone, or did not answer in time."""


class Wire:
    """One end of a connected stream socket. A message is a JSON object and some bytes."""

    def __init__(self, end: socket.socket):
        self.socket, self.file = end, end.makefile("rwb")

    def send(self, message: dict[str, Any], data: bytes = b"") -> None:
        """Send ``message`` and ``data``; :class:`WireError` if the other side is gone."""
        try:
            self.file.write(json.dumps(message | {"bytes": len(data)}).encode() + b"\n" + data)
            self.file.flush()
        except OSError as error:
            raise WireError(f"the connection broke: {error}") from None

    def receive(self) -> tuple[dict[str, Any], bytes]:
        """The next message; :class:`WireError` where there is none to come."""
        try:
            line = self.file.readline()
            message = json.loads(line) if line else None
            data = self.file.read(message["bytes"]) if message else b""
        except OSError as error:
            raise WireError(f"no answer: {error}") from None
        if message is None or len(data) != message["bytes"]:
            raise WireError("the connection was closed")
        return message, data

    def close(self) -> None:
        self.file.close()
        self.socket.close()
