"""Byte streams to a board: a serial port, or anything that behaves like one."""

import contextlib
import os
from typing import Protocol

import serial

__all__ = ["LinkError", "SerialTransport", "Transport"]


class LinkError(RuntimeError):
    """The board does not answer, or not as it should; behind the last colon, what to check."""


class Transport(Protocol):
    """A byte stream that may break and be opened again."""

    name: str

    def open(self) -> None:
        """Open, again after :meth:`close`; OSError if there is nothing now."""

    def read(self, seconds: float) -> bytes:
        """What has come, after waiting at most ``seconds``; OSError if the line is gone."""

    def write(self, line: bytes) -> None:
        """Send everything; OSError if the line is gone."""

    def close(self) -> None:
        """Close; open or not."""


class SerialTransport:
    """A port of the system, 8N1 without flow control, through pyserial; needs no root.

    Parameters
    ----------
    name: as /dev/ttyUSB0, or what pyserial's serial_for_url takes. baud: rate.
    """

    def __init__(self, name: str, baud: int):
        self.name, self.baud = name, baud
        self.port: serial.SerialBase | None = None

    def open(self) -> None:
        self.close()
        try:
            self.port = serial.serial_for_url(self.name, baudrate=self.baud, timeout=0,
                                              write_timeout=2, exclusive=True)
        except serial.SerialException as error:
            reason = os.strerror(error.errno) if error.errno else str(error)
            raise OSError(error.errno or 0, reason, self.name) from None

    def _opened(self) -> serial.SerialBase:
        if self.port is None:
            raise OSError(0, "not open", self.name)
        return self.port

    def read(self, seconds: float) -> bytes:
        port = self._opened()
        try:
            port.timeout = seconds
            first = port.read(1)
            return first + port.read(port.in_waiting) if first else b""
        except (serial.SerialException, TypeError) as error:  # TypeError: closed meanwhile
            raise OSError(0, f"the line is gone: {error}", self.name) from None

    def write(self, line: bytes) -> None:
        try:
            self._opened().write(line)
        except serial.SerialException as error:
            raise OSError(0, f"the line is gone: {error}", self.name) from None

    def close(self) -> None:
        if self.port is not None:
            with contextlib.suppress(OSError, serial.SerialException):
                self.port.close()
            self.port = None
