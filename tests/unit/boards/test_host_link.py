"""The host's link, as it is, against the engine behind a pseudo-terminal, lines of every kind."""

import random
import struct
import threading
import time

import pytest

from stmoe_sim.host.device import Device, WrongBuild
from stmoe_sim.host.frames import Opcode, Status
from stmoe_sim.host.link import Link, LinkError
from stmoe_sim.host.transport import SerialTransport
from support.link_bench import BAUD, CONFIG, MEMORY, PtyBoard


class Moving(SerialTransport):
    """Opens the terminal that the board has now, as a name under /dev/serial does."""

    def __init__(self, board):
        self.board = board
        super().__init__("", BAUD)

    @property
    def name(self):
        return self.board.path

    @name.setter
    def name(self, value):
        pass


def connect(board, **options):
    return Link(Moving(board), **{"timeout": 0.5, "patience": 20.0} | options)


def write_word(value):
    return Opcode.REG_WRITE, struct.pack("<HI", 4 * (value % 8), value)


class Harm:
    """Flips or drops bytes of a direction, at random."""

    def __init__(self, seed, flip, drop):
        self.rng, self.flip, self.drop, self.harmed = random.Random(seed), flip, drop, 0

    def __call__(self, line):
        out = bytearray()
        for byte in line:
            chance = self.rng.random()
            if chance < self.flip:
                out.append(byte ^ 1 << self.rng.randrange(8))
            elif chance >= self.flip + self.drop:
                out.append(byte)
            self.harmed += chance < self.flip + self.drop
        return bytes(out)


def test_a_window_of_requests_each_executed_once():
    with PtyBoard() as board:
        link = connect(board)
        got = list(link.stream(write_word(value) for value in range(40)))
        link.close()
    assert [frame.status for frame in got] == [0] * 40
    assert [value for _, value in board.around.writes] == list(range(40))
    assert link.statistics.repeated == 0 and link.statistics.bad_frames == 0


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize(("flip", "drop"), [(0.01, 0.0), (0.0, 0.01)])
def test_noise_and_losses_both_ways_execute_nothing_twice_and_lose_nothing(seed, flip, drop):
    down, up = Harm(seed, flip, drop), Harm(seed + 10, flip, drop)
    content = random.Random(seed).randbytes(1500 // 8 * 8)
    with PtyBoard(down=down, up=up) as board:
        link = connect(board)
        device = Device(link, CONFIG)
        list(link.stream(write_word(value) for value in range(60)))
        assert down.harmed + up.harmed > 5
        down.flip, down.drop = down.flip / 10, down.drop / 10  # long frames must come through
        up.flip, up.drop = up.flip / 10, up.drop / 10
        device.write_memory(64, content)
        assert device.read_memory(64, len(content)) == content
        link.close()
    assert [value for _, value in board.around.writes] == list(range(60))
    assert link.statistics.repeated > 0


def test_without_the_numbers_the_same_losses_execute_twice(monkeypatch):
    """The bench can fail: a host that gives what it repeats new numbers."""
    original = Link._send

    def renumber(self, entries, again=False):
        for sent in entries if again else ():
            sent.sequence, self.next = self.next, (self.next + 1) % 256
        original(self, entries, again)
    monkeypatch.setattr(Link, "_send", renumber)
    with PtyBoard(up=Harm(1, 0.0, 0.02)) as board:
        link = connect(board, patience=3.0)
        try:
            list(link.stream(write_word(value) for value in range(60)))
        except (LinkError, KeyError):
            pass
        link.close()
    values = [value for _, value in board.around.writes]
    assert len(set(values)) < len(values)


def test_a_cable_that_is_pulled_costs_nothing_but_time():
    with PtyBoard() as board:
        link = connect(board)

        def pull():
            for _ in range(2):
                time.sleep(0.6)
                board.unplug()
                time.sleep(0.3)
                board.plug()
        hand = threading.Thread(target=pull)
        hand.start()
        value = 0
        while hand.is_alive() or value % 10:
            assert link.request(*write_word(value)).status == Status.OK
            value += 1
        hand.join()
        link.close()
    assert [value for _, value in board.around.writes] == list(range(value))
    assert link.statistics.reopened == 2


def test_a_cable_that_stays_away_is_named():
    with PtyBoard() as board:
        link = connect(board, patience=1.0)
        path = board.path
        board.unplug()
        with pytest.raises(LinkError, match="is gone .*is the cable plugged in"):
            link.request(*write_word(1))
        board.plug()
        assert path


def test_a_second_host_takes_the_session_and_the_first_one_learns_it():
    with PtyBoard() as board:
        first = connect(board)
        first.request(*write_word(1))
        first.close()
        second = connect(board)
        second.request(*write_word(2))
        second.close()
        with pytest.raises(LinkError, match="lost the session"):
            first.request(*write_word(3))
        first.close()
    assert [value for _, value in board.around.writes] == [1, 2]


def test_a_silent_board_is_named():
    with (PtyBoard(up=lambda line: b"") as board,
          pytest.raises(LinkError, match="the board is silent: is the bitstream loaded")):
        connect(board, patience=1.0)


def test_a_wrong_rate_is_named():
    with (PtyBoard(up=lambda line: bytes(byte | 0x11 for byte in line)) as board,
          pytest.raises(LinkError, match="bytes came but no valid frame: is the rate")):
        connect(board, patience=1.5)


def test_a_board_whose_memory_hangs_is_named():
    with PtyBoard() as board:
        board.around.memory_hangs = True
        link = connect(board, patience=2.0)
        with pytest.raises(LinkError, match="MEM_READ is not executed: does expert memory answer"):
            link.request(Opcode.MEM_READ, struct.pack("<QH", 0, 8))
        link.close()


def test_a_port_that_is_not_there_is_named():
    with pytest.raises(LinkError, match="/dev/no-such-port cannot be opened .*dialout"):
        Link(SerialTransport("/dev/no-such-port", BAUD))


def test_another_configuration_is_refused():
    with PtyBoard() as board:
        link = connect(board)
        with pytest.raises(WrongBuild, match=f"holds configuration {CONFIG.hash:016x}"):
            Device(link, CONFIG.replace(slots=4))
        link.close()


def test_an_error_of_the_bus_is_told_with_the_request():
    with PtyBoard() as board:
        device = Device(connect(board), CONFIG)
        with pytest.raises(LinkError, match="MEM_WRITE 0040.* answered with a bus error"):
            device.write_memory(MEMORY, bytes(16))
        device.write_memory(0, bytes(16))
        device.link.close()
