"""The engine of the link, frame by frame: what is executed, what is answered, what is refused."""

import random
import struct

import pytest

from stmoe.boards import protocol
from stmoe_sim.host import frames
from stmoe_sim.host.frames import Opcode, Status, encode, parse_identity
from support.link_bench import BAUD, CLOCK, CONFIG, GEOMETRY, MEMORY, play

RNG = random.Random(4)
HELLO = encode(0x77, Opcode.HELLO)


def write_word(sequence, address, value):
    return encode(sequence, Opcode.REG_WRITE, struct.pack("<HI", address, value))


def write_memory(sequence, address, content):
    return encode(sequence, Opcode.MEM_WRITE, struct.pack("<Q", address) + content)


def read_memory(sequence, address, size):
    return encode(sequence, Opcode.MEM_READ, struct.pack("<QH", address, size))


def result(sequence, wait):
    return encode(sequence, Opcode.RESULT, struct.pack("<H", wait))


def summary(got):
    return [(frame.sequence, frame.opcode, frame.status) for frame in got]


def test_host_and_hardware_number_alike():
    for name in ("Opcode", "Status"):
        ours, theirs = getattr(protocol, name), getattr(frames, name)
        assert {m.name: m.value for m in ours} == {m.name: m.value for m in theirs}
    assert protocol.PROTOCOL == frames.PROTOCOL


def test_a_board_says_what_it_is():
    async def script(port):
        await port.send(b"\0" + HELLO + encode(0, Opcode.HELLO, struct.pack("<I", 0xC0FFEE)))
        await port.send(HELLO)
        got = await port.replies()
        assert {frame.opcode for frame in got} == {Opcode.HELLO}
        who = parse_identity(got[-1].data)
        assert (who.protocol, who.expected, who.session) == (1, 0, 0xC0FFEE)
        assert who.config_hash == CONFIG.hash and who.memory_bytes == MEMORY
        assert (who.clock_hz, who.baud) == (CLOCK, BAUD)
        assert (who.write_bytes, who.read_bytes, who.window, who.buffer_bytes) == (
            protocol.WRITE_BYTES, protocol.READ_BYTES, protocol.WINDOW, protocol.BUFFER_BYTES)
        assert (who.axi_bytes, who.lanes, who.rows) == (8, CONFIG.lanes, CONFIG.rows)
    play(script)


@pytest.mark.parametrize("stall", [0.0, 0.5])
def test_registers_are_written_and_read(stall):
    async def script(port):
        await port.send(write_word(0, 0x20, 0x01020304) + write_word(1, 0x24, 5)
                        + encode(2, Opcode.REG_READ, b"\x20\0")
                        + encode(3, Opcode.REG_READ, b"\x28\0"))
        got = await port.replies()
        assert summary(got) == [(0, 3, 0), (1, 3, 0), (2, 2, 0), (3, 2, Status.BUS)]
        assert got[2].data == b"\4\3\2\1"
        await port.send(write_word(4, 0x804, 5))
        assert summary(await port.replies()) == [(4, 3, Status.BUS)]
    around = play(script, stall=stall)
    assert around.writes == [(0x20, 0x01020304), (0x24, 5), (0x804, 5)]


@pytest.mark.parametrize(("address", "size"), [
    (8, 8), (4096 - 24, 120), (3 * 4096 - 8, 520), (4096 - 1016, 1024)])
def test_memory_is_written_and_read_across_pages(address, size):
    content = RNG.randbytes(size)

    async def script(port):
        await port.send(write_memory(0, address, content))
        assert summary(await port.replies()) == [(0, 5, 0)]
        parts = []
        for number, at in enumerate(range(0, size, 512)):
            await port.send(read_memory(1 + number, address + at, min(512, size - at)))
            parts += [frame.data for frame in await port.replies(8000)]
        assert b"".join(parts) == content
    around = play(script)
    assert around.memory[address:address + size] == content


def test_an_error_of_the_memory_is_told_and_the_next_request_works():
    async def script(port):
        await port.send(write_memory(0, MEMORY, bytes(16)) + read_memory(1, MEMORY - 8, 16)
                        + read_memory(2, 0, 8))
        assert summary(await port.replies()) == [(0, 5, Status.BUS), (1, 4, Status.BUS), (2, 4, 0)]
    play(script)


def test_wrong_requests_are_refused_and_change_nothing():
    wrong = [(0x30, b""), (Opcode.NAK, b""), (Opcode.REG_READ, b"\0"),
             (Opcode.REG_WRITE, bytes(7)), (Opcode.MEM_WRITE, bytes(8)),
             (Opcode.MEM_WRITE, bytes(8 + 12)), (Opcode.MEM_WRITE, b"\4" + bytes(15)),
             (Opcode.MEM_WRITE, bytes(7) + b"\1" + bytes(8)), (Opcode.MEM_WRITE, bytes(8 + 1032)),
             (Opcode.MEM_READ, bytes(10)), (Opcode.MEM_READ, struct.pack("<QH", 0, 520)),
             (Opcode.MEM_READ, struct.pack("<QH", 0, 12)), (Opcode.COMMAND, b""),
             (Opcode.COMMAND, bytes(9)), (Opcode.ACTIVATIONS, bytes(CONFIG.lanes + 1)),
             (Opcode.RESULT, b""), (Opcode.RESET, b"\0")]

    async def script(port):
        for number, (opcode, payload) in enumerate(wrong):
            await port.send(encode(number, opcode, payload))
            assert summary(await port.replies()) == [(number, opcode, Status.MALFORMED)], number
        await port.send(read_memory(len(wrong), 0, 8))
        assert [frame.data for frame in await port.replies()] == [bytes(8)]
    around = play(script)
    assert not around.memory_writes and not around.writes and not around.commands


def test_a_duplicate_is_answered_again_and_not_executed():
    async def script(port):
        requests = [write_word(n, 4 * n, n) for n in range(3)] + [
            encode(3, Opcode.REG_READ, b"\4\0")]
        await port.send(b"".join(requests))
        first = await port.replies()
        port.around.registers[4] = 99  # a second execution would see it
        await port.send(requests[3] + requests[0] + requests[1] + requests[3])
        again = await port.replies()
        assert {*summary(again)} == {summary(first)[n] for n in (0, 1, 3)}
        assert {frame.data for frame in again if frame.sequence == 3} == {b"\1\0\0\0"}
    assert len(play(script).writes) == 3


def test_a_gap_is_told_once_and_nothing_behind_it_is_executed():
    async def script(port):
        await port.send(write_word(0, 0, 0) + write_word(2, 0, 2) + write_word(3, 0, 3))
        assert sorted(summary(await port.replies())) == [(0, 3, 0), (1, Opcode.NAK, 0)]
        await port.send(write_word(1, 0, 1) + write_word(2, 0, 2) + write_word(3, 0, 3))
        assert summary(await port.replies()) == [(1, 3, 0), (2, 3, 0), (3, 3, 0)]
    assert play(script).writes == [(0, value) for value in range(4)]


def flip(line, at):
    return line[:at] + bytes([line[at] ^ 0x10]) + line[at + 1:]


@pytest.mark.parametrize("harm", [
    lambda line: flip(line, 5), lambda line: line[:4] + line[5:], lambda line: line[:7] + line[-1:],
    lambda line: [*line[:4], -1, *line[4:]], lambda line: line[:-1] + b"\x33" + line[-1:]])
def test_a_frame_that_is_harmed_is_told_and_sent_again(harm):
    async def script(port):
        await port.send(write_word(0, 0, 0))
        await port.send(harm(write_word(1, 4, 1)))
        await port.send(write_word(2, 8, 2))
        got = summary(await port.replies())
        assert sorted(got) == [(0, 3, 0), (1, Opcode.NAK, 0)]
        await port.send(write_word(1, 4, 1) + write_word(2, 8, 2))
        assert summary(await port.replies()) == [(1, 3, 0), (2, 3, 0)]
    assert play(script).writes == [(0, 0), (4, 1), (8, 2)]


def test_a_frame_is_found_behind_any_noise():
    async def script(port):
        for number in range(12):
            noise = RNG.randbytes(RNG.randrange(1, 60))
            await port.send(noise + b"\0" + write_word(number, 0, number))
            assert (number, 3, 0) in summary(await port.replies())
        await port.send(RNG.randbytes(4600) + b"\0" + write_word(12, 0, 12))
        assert (12, 3, 0) in summary(await port.replies())
    assert [value for _, value in play(script).writes] == list(range(13))


def test_numbers_wrap():
    async def script(port):
        for start in range(0, 264, 4):
            numbers = range(start, start + 4)
            await port.send(b"".join(write_word(n % 256, 0, n) for n in numbers))
            assert summary(await port.replies()) == [(n % 256, 3, 0) for n in numbers]
    assert [value for _, value in play(script, stall=0.0).writes] == list(range(264))


def test_words_that_find_no_room_are_refused_whole():
    commands = [RNG.getrandbits(64) for _ in range(128)]

    async def script(port):
        port.around.listening = False
        words = struct.pack("<128Q", *commands)
        await port.send(encode(0, Opcode.COMMAND, words))
        assert summary(await port.replies()) == [(0, 6, 0)]
        await port.send(encode(1, Opcode.COMMAND, words[:64]))
        assert summary(await port.replies()) == [(1, 6, Status.BUSY)]
        port.around.listening = True
        await port.ctx.tick().repeat(400)
        await port.send(encode(2, Opcode.COMMAND, words[:64]))
        assert summary(await port.replies()) == [(2, 6, 0)]
        await port.ctx.tick().repeat(100)
        port.around.listening = False
        await port.send(encode(3, Opcode.ACTIVATIONS, bytes(range(CONFIG.lanes)) * 3)
                        + encode(4, Opcode.RESET) + encode(5, Opcode.COMMAND, words[:8]))
        assert summary(await port.replies()) == [(3, 7, 0), (4, 9, 0), (5, 6, 0)]
        port.around.listening = True
        await port.ctx.tick().repeat(100)
    around = play(script)
    assert around.commands == commands + commands[:8] + commands[:1]
    assert not around.activations  # RESET emptied the queue


def beats(count, error=0):
    return [{"data": RNG.getrandbits(16 * CONFIG.rows), "last": at == count - 1, "error": error}
            for at in range(count)]


def content(packet):
    return b"".join(beat["data"].to_bytes(2 * CONFIG.rows, "little") for beat in packet)


def test_results_come_whole_and_late_ones_are_waited_for():
    short, failed, long = beats(GEOMETRY.out_groups), beats(3, error=1), beats(100)

    async def script(port):
        await port.send(result(0, 2))
        assert [(frame.status, frame.data) for frame in await port.replies()] == [
            (Status.NOT_YET, b"")]
        port.around.hold_results = True
        port.around.results = short + failed + long
        await port.send(result(1, 0xFFFF))
        await port.ctx.tick().repeat(2000)
        port.around.hold_results = False
        await port.send(result(2, 0xFFFF) + result(3, 0xFFFF) + result(4, 0xFFFF))
        got = await port.replies(9000)
        assert [frame.status for frame in got] == [Status.OK, Status.FAILED, Status.MORE,
                                                   Status.OK]
        assert got[0].data == content(short) and got[1].data == content(failed)
        assert got[2].data + got[3].data == content(long)
    play(script)


def test_a_board_whose_memory_hangs_still_says_what_it_is():
    async def script(port):
        port.around.memory_hangs = True
        await port.send(read_memory(0, 0, 8) + HELLO)
        await port.ctx.tick().repeat(400)
        who = parse_identity((await port.replies(10))[0].data)
        assert who.busy and who.expected == 1
    play(script)


def test_a_full_window_of_long_frames_is_kept():
    parts = [RNG.randbytes(1024) for _ in range(3)]

    async def script(port):
        port.around.memory_hangs = True
        await port.send(read_memory(0, 0, 8))
        for number, part in enumerate(parts):
            await port.send(write_memory(1 + number, 1024 * number, part))
        await port.send(write_word(4, 0, 4))  # one more than the window has
        assert Opcode.NAK in {frame.opcode for frame in await port.replies(300)}
        port.around.memory_hangs = False
        got = await port.replies(20000)
        assert summary(got) == [(0, 4, 0), (1, 5, 0), (2, 5, 0), (3, 5, 0)]
    around = play(script)
    assert around.memory[:3072] == b"".join(parts) and not around.writes


def test_nothing_is_executed_before_a_session_is_open(monkeypatch):
    monkeypatch.setattr("support.link_bench.SESSION", 0)

    async def script(port):
        await port.send(write_word(0, 0, 0) + write_word(255, 0, 0))
        assert summary(await port.replies()) == [(0, Opcode.NAK, 0)]
        await port.send(encode(0, Opcode.HELLO, b"\1\0\0\0") + write_word(0, 4, 7))
        assert (0, 3, 0) in summary(await port.replies())
    assert play(script).writes == [(4, 7)]
