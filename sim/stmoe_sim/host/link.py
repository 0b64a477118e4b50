"""Requests to a board, each executed once, whatever the line loses: docs/host-link.md."""

import secrets
import struct
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from .frames import PROTOCOL, Frame, FrameReader, Identity, Opcode, Status, encode, parse_identity
from .transport import LinkError, Transport

__all__ = ["Link", "LinkError", "Statistics"]

CRC_BYTES = 4


@dataclass
class Statistics:
    """What a link went through: frames sent (again), bad frames received, times it was reopened."""

    requests: int = 0
    repeated: int = 0
    bad_frames: int = 0
    reopened: int = 0


@dataclass
class _Sent:
    sequence: int
    opcode: int
    payload: bytes
    at: float = 0.0  # when it was sent, 0 once it was sent again


class Link:
    """A session with a board: go-back-N over a transport that may lose, harm and break.

    A request that is not answered is sent again, with all behind it, after twice the time each
    time, so that a slow board is not flooded; the board executes each once and keeps the last
    replies. If the transport breaks, it is opened again for ``patience``
    seconds and the session goes on, if the board still has it.

    Parameters
    ----------
    transport: where the board is. timeout: least seconds until a request is sent again; four
        times as long as replies took lately, if that is more. patience: seconds without a valid
        reply until the link gives up.

    Attributes
    ----------
    identity: what the board said when the link was opened. statistics: see there.
    """

    def __init__(self, transport: Transport, *, timeout: float = 0.25, patience: float = 5.0):
        self.transport, self.timeout, self.patience = transport, timeout, patience
        self.statistics = Statistics()
        self.reader = FrameReader()
        self.session = secrets.randbelow(2**32 - 1) + 1
        self.next = 0
        self.flying: deque[_Sent] = deque()
        self.answered: dict[int, Frame] = {}
        self.refused: int | None = None  # number of the last NAK, if there were no news since
        self.trip = 0.0  # seconds from a request to its reply, smoothed
        self.identity = self._open()

    def close(self) -> None:
        """Close the transport."""
        self.transport.close()

    def _open(self) -> Identity:
        """Open the transport and a session; the board's identity."""
        try:
            self.transport.open()
        except OSError as error:
            raise LinkError(f"{self.transport.name} cannot be opened ({error.strerror}): is the "
                            "board plugged in, and may this user use the port (group dialout)?"
                            ) from None
        try:
            self._drain()
            identity = self._hello(self.session)
        except OSError as error:
            raise LinkError(f"{self.transport.name}: the line went away while the board was asked "
                            f"who it is ({error.strerror}): is the cable firm?") from None
        if identity.session != self.session:
            raise LinkError(f"{self.transport.name}: the board did not take the session")
        self.next = identity.expected
        return identity

    def _drain(self) -> None:
        """Drop what was on its way to somebody else."""
        end = time.monotonic() + self.timeout
        while time.monotonic() < end and self.transport.read(0.02):
            pass
        self.reader = FrameReader()

    def _hello(self, session: int) -> Identity:
        """Ask the board who it is, and open ``session`` unless it is 0."""
        line = b"\0" + encode(0, Opcode.HELLO, struct.pack("<I", session))
        end = time.monotonic() + self.patience
        heard = 0
        while time.monotonic() < end:
            self.transport.write(line)
            again = time.monotonic() + self.timeout
            while time.monotonic() < again:
                got = self.transport.read(self.timeout / 4)
                heard += len(got)
                for frame in self.reader.feed(got):
                    if frame.opcode != Opcode.HELLO:
                        continue
                    if frame.data[:1] != bytes([PROTOCOL]):
                        raise LinkError(f"the board speaks version {frame.data[0]} of the link, "
                                        f"this host {PROTOCOL}: build both from one version")
                    identity = parse_identity(frame.data)
                    if identity is not None and session in (0, identity.session):
                        return identity
        if heard:
            raise LinkError(f"{self.transport.name}: {heard} bytes came but no valid frame: is the "
                            "rate (--baud) that of the bitstream, and its clock right?")
        raise LinkError(
            f"{self.transport.name}: the board is silent: is the bitstream loaded (heartbeat LED "
            "changes every half second), is this the port of the board's UART, are RX and TX not "
            "swapped?")

    # Requests.
    def request(self, opcode: Opcode, payload: bytes = b"", *, takes: float = 0.0) -> Frame:
        """The reply to one request, which itself may take ``takes`` seconds.

        :class:`LinkError` unless the board's status is OK, NOT_YET, MORE, FAILED or BUSY.
        """
        (frame,) = self.stream([(opcode, payload)], takes=takes)
        return frame

    def stream(self, requests: Iterable[tuple[Opcode, bytes]], *,
               takes: float = 0.0) -> Iterator[Frame]:
        """Replies in order; as many requests are under way as the board's window allows."""
        source, waiting = iter(requests), deque[_Sent]()
        order: deque[_Sent] = deque()
        more, quiet = True, time.monotonic()
        sent_at, tries = quiet, 0
        while True:
            while more and not waiting:
                entry = next(source, None)
                if entry is None:
                    more = False
                else:
                    waiting.append(_Sent(0, int(entry[0]), entry[1]))
            while waiting and self._fits(waiting[0]):
                sent = waiting.popleft()
                sent.sequence, self.next = self.next, (self.next + 1) % 256
                self.answered.pop(sent.sequence, None)  # of a caller that went away
                self.flying.append(sent)
                order.append(sent)
                self.statistics.requests += 1
                sent.at = time.monotonic()
                self._send([sent])
                entry = next(source, None) if more else None
                if entry is not None:
                    waiting.append(_Sent(0, int(entry[0]), entry[1]))
                else:
                    more = False
            if not order:
                return
            if self._receive(self.timeout / 8):
                quiet = sent_at = time.monotonic()
                tries = 0
            while order and order[0].sequence in self.answered:
                yield self._checked(order.popleft())
                quiet = sent_at = time.monotonic()
            now = time.monotonic()
            if now - quiet > self.patience + takes:
                self._give_up()
            overdue = (max(self.timeout, 4 * self.trip) + takes) * 2**min(tries, 4)
            if order and now - sent_at > overdue:
                sent_at, tries = now, tries + 1
                self._send(self.flying, again=True)

    def _fits(self, entry: _Sent) -> bool:
        used = sum(len(sent.payload) + CRC_BYTES for sent in self.flying)
        return (len(self.flying) < self.identity.window
                and used + len(entry.payload) + CRC_BYTES <= self.identity.buffer_bytes)

    def _checked(self, sent: _Sent) -> Frame:
        frame = self.answered.pop(sent.sequence)
        if frame.status in (Status.BUS, Status.MALFORMED):
            what = {Status.BUS: "answered with a bus error: is the address one that the board has?",
                    Status.MALFORMED: "was refused: are board and host of one version?"}
            raise LinkError(f"request {Opcode(sent.opcode).name} {sent.payload[:10].hex()} "
                            f"{what[Status(frame.status)]}")
        return frame

    def _give_up(self) -> None:
        sent = self.flying[0]
        name = Opcode(sent.opcode).name
        identity = self._hello(0)  # its own message, if the board is silent
        if identity.session != self.session:
            self._lost()
        raise LinkError(f"the board answers, but request {name} is not executed: "
                        + ("does expert memory answer? Reset the board" if identity.busy
                           else "frames of its size do not come through; is the line noisy?"))

    def _lost(self) -> None:
        raise LinkError("the board has lost the session: it was reset or loaded anew, or another "
                        "program uses the port; begin again")

    # The line.
    def _send(self, entries: Iterable[_Sent], again: bool = False) -> None:
        entries = list(entries)
        line = b"".join(encode(sent.sequence, sent.opcode, sent.payload) for sent in entries)
        if again:
            for sent in entries:
                sent.at = 0.0
            self.statistics.repeated += len(entries)
            line = b"\0" + line  # ends what a loss left open
        self._guarded(lambda: self.transport.write(line))

    def _receive(self, seconds: float) -> bool:
        """File what comes within ``seconds``; whether a reply that was waited for was among it."""
        got = bytearray()
        self._guarded(lambda: got.extend(self.transport.read(seconds)))
        news = False
        for frame in self.reader.feed(bytes(got)):
            if frame.opcode == Opcode.NAK:
                self._refused(frame.sequence)
            for sent in self.flying:
                if (sent.sequence, sent.opcode) == (frame.sequence, frame.opcode):
                    news = True
                    if sent.at and sent.sequence not in self.answered:
                        self.trip += (time.monotonic() - sent.at - self.trip) / 4
                    self.answered[sent.sequence] = frame
        while self.flying and self.flying[0].sequence in self.answered:
            self.flying.popleft()
            self.refused = None
        self.statistics.bad_frames += self.reader.bad
        self.reader.bad = 0
        return news

    def _refused(self, sequence: int) -> None:
        """The board waits for ``sequence``: send it and all behind it; if it is asked for again, it
        alone, or on a bad line each frame that is lost would bring a window of them."""
        numbers = [sent.sequence for sent in self.flying]
        if sequence in numbers:
            first = numbers.index(sequence)
            last = first + 1 if self.refused == sequence else len(numbers)
            self.refused = sequence
            self._send(list(self.flying)[first:last], again=True)

    def _guarded(self, action: Callable[[], None]) -> None:
        """Do it; if the line is gone, wait for it to come back and send all again."""
        try:
            action()
        except OSError:
            self._reopen()

    def _reopen(self) -> None:
        end = time.monotonic() + self.patience
        while True:
            self.transport.close()
            try:
                self.transport.open()
                self.reader = FrameReader()
                identity = self._hello(0)
                break
            except OSError as error:
                if time.monotonic() > end:
                    raise LinkError(f"{self.transport.name} is gone ({error.strerror}): is the "
                                    "cable plugged in?") from None
                time.sleep(0.05)
        if identity.session != self.session:
            self._lost()
        self.statistics.reopened += 1
        self._send(self.flying, again=True)
