"""The host's link against a board that does what docs/host-link.md says, on lines of every kind."""

import random
import struct

import pytest

from stmoe_sim.host.device import Device, WrongBuild
from stmoe_sim.host.frames import Opcode, Status
from stmoe_sim.host.link import Link, LinkError
from stmoe_sim.host.transport import SerialTransport
from support.link_bench import BAUD, CONFIG
from support.model_board import ModelBoard


def connect(board, **options):
    return Link(board, **{"timeout": 0.02, "patience": 5.0} | options)


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
    board = ModelBoard()
    link = connect(board)
    got = list(link.stream(write_word(value) for value in range(600)))
    assert [frame.status for frame in got] == [0] * 600
    assert [value for _, value in board.writes] == list(range(600))
    assert link.statistics.repeated == 0 and link.statistics.bad_frames == 0


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(("flip", "drop"), [(0.01, 0.0), (0.0, 0.01), (0.005, 0.005)])
def test_noise_and_losses_both_ways_execute_nothing_twice_and_lose_nothing(seed, flip, drop):
    down, up = Harm(seed, flip, drop), Harm(seed + 10, flip, drop)
    content = random.Random(seed).randbytes(4000)
    board = ModelBoard(CONFIG.hash, down=down, up=up)
    link = connect(board)
    device = Device(link, CONFIG)
    list(link.stream(write_word(value) for value in range(400)))
    assert [value for _, value in board.writes] == list(range(400))
    assert down.harmed + up.harmed > 20 and link.statistics.repeated > 0
    for harm in (down, up):
        harm.flip, harm.drop = harm.flip / 10, harm.drop / 10  # long frames must come through
    device.write_memory(64, content)
    assert device.read_memory(64, len(content)) == content


def test_without_the_numbers_the_same_losses_execute_twice(monkeypatch):
    """The bench can fail: a host that gives what it repeats new numbers."""
    original = Link._send

    def renumber(self, entries, again=False):
        for sent in entries if again else ():
            sent.sequence, self.next = self.next, (self.next + 1) % 256
        original(self, entries, again)
    monkeypatch.setattr(Link, "_send", renumber)
    board = ModelBoard(up=Harm(1, 0.0, 0.02))
    list(connect(board).stream(write_word(value) for value in range(100)))
    values = [value for _, value in board.writes]
    assert len(set(values)) < len(values)


def test_a_cable_that_is_pulled_costs_nothing_but_time():
    board = ModelBoard()
    link = connect(board)
    for value in range(60):
        if value % 20 == 10:
            board.pull(0.1)
        assert link.request(*write_word(value)).status == Status.OK
    assert [value for _, value in board.writes] == list(range(60))
    assert link.statistics.reopened == board.pulls == 3


def test_a_cable_that_is_pulled_with_a_window_on_its_way_costs_nothing_either():
    calls = iter(range(10**9))

    def losing(line):  # the board has executed them, their replies are lost with the cable
        if next(calls) % 20 == 19:
            board.pull(0.05)
            return b""
        return line
    board = ModelBoard()
    link = connect(board)
    board.up = losing
    list(link.stream(write_word(value) for value in range(300)))
    assert [value for _, value in board.writes] == list(range(300))
    assert link.statistics.reopened >= 2


def test_a_cable_that_stays_away_is_named():
    board = ModelBoard()
    link = connect(board, patience=0.3)
    board.pull(100)
    with pytest.raises(LinkError, match=r"is gone .*is the cable plugged in"):
        link.request(*write_word(1))


@pytest.mark.parametrize("done", [9, 256])  # then 0, which a fresh board expects
@pytest.mark.parametrize("cable", [True, False])
def test_a_board_that_was_reset_is_told_from_one_that_waited(cable, done):
    board = ModelBoard()
    link = connect(board, patience=0.3)
    list(link.stream(write_word(value) for value in range(done)))
    board.power_on()
    if cable:
        board.pull(0.05)
    with pytest.raises(LinkError, match="lost the session: it was reset or loaded anew"):
        link.request(*write_word(9))
    assert len(board.writes) == done


def test_a_second_host_takes_the_session_and_the_first_one_learns_it():
    board = ModelBoard()
    first = connect(board, patience=0.5)
    first.request(*write_word(1))
    first.close()
    second = connect(board)
    second.request(*write_word(2))
    second.close()
    with pytest.raises(LinkError, match="lost the session"):
        first.request(*write_word(3))
    assert [value for _, value in board.writes] == [1, 2]


def test_a_silent_board_is_named():
    with pytest.raises(LinkError, match="the board is silent: is the bitstream loaded"):
        connect(ModelBoard(up=lambda line: b""), patience=0.2)


def test_a_wrong_rate_is_named():
    with pytest.raises(LinkError, match="bytes came but no valid frame: is the rate"):
        connect(ModelBoard(up=lambda line: bytes(byte | 0x11 for byte in line)), patience=0.2)


def test_another_version_of_the_link_is_named(monkeypatch):
    monkeypatch.setattr("stmoe_sim.host.link.PROTOCOL", 2)
    with pytest.raises(LinkError, match="speaks version 1 of the link, this host 2"):
        connect(ModelBoard())


def test_a_board_whose_memory_hangs_is_named():
    board = ModelBoard()
    link = connect(board, patience=0.3)
    board.hangs = True
    with pytest.raises(LinkError, match="MEM_READ is not executed: does expert memory answer"):
        link.request(Opcode.MEM_READ, struct.pack("<QH", 0, 8))


def test_a_port_that_is_not_there_is_named():
    with pytest.raises(LinkError, match=r"/dev/no-such-port cannot be opened .*dialout"):
        Link(SerialTransport("/dev/no-such-port", BAUD))


def test_a_line_that_goes_while_it_is_opened_is_named():
    def gone(line):
        raise OSError(5, "Input/output error")
    with pytest.raises(LinkError, match=r"the line went away while the board was asked who it is"):
        connect(ModelBoard(up=gone), timeout=0.1)


def test_another_configuration_is_refused():
    link = connect(ModelBoard(CONFIG.hash))
    with pytest.raises(WrongBuild, match=f"holds configuration {CONFIG.hash:016x}"):
        Device(link, CONFIG.replace(slots=4))


def test_an_error_of_the_bus_is_told_with_the_request():
    board = ModelBoard(CONFIG.hash)
    device = Device(connect(board), CONFIG)
    with pytest.raises(LinkError, match=r"MEM_WRITE 0040.* answered with a bus error"):
        device.write_memory(1 << 14, bytes(16))
    device.write_memory(0, bytes(16))


def test_replies_that_nobody_took_are_not_those_of_later_requests():
    held = [b""]

    def late(line):  # by a read
        held.append(line)
        return held.pop(0)
    board = ModelBoard(CONFIG.hash, up=late)
    link = connect(board, timeout=0.2)
    wrong = [(Opcode.MEM_WRITE, struct.pack("<Q", 1 << 14) + bytes(8))] * 3
    with pytest.raises(LinkError, match="answered with a bus error"):
        list(link.stream(wrong))
    for value in range(300):
        assert link.request(*write_word(value)).status == Status.OK
        assert board.writes[-1][1] == value
