"""An expert as the bytes that lie in expert memory."""

import zlib

import numpy as np

from stmoe.config import Geometry

from .arithmetic import Requantiser, Requantisers
from .expert import Expert

__all__ = ["CorruptTile", "pack", "unpack"]


class CorruptTile(ValueError):
    """A tile whose CRC-32 is not that of its content, or followed by other than zeros."""

    def __init__(self, tile: int, found: int, want: int):
        super().__init__(f"tile {tile} ends with 0x{found:x}, its CRC-32 is 0x{want:08x}")
        self.tile = tile


def _check(expert: Expert, g: Geometry) -> None:
    want = (g.ff, g.config.model.d_model)
    if expert.gate.shape != want:
        raise ValueError(f"an expert of d_ff, d_model = {expert.gate.shape} was given where the "
                         f"configuration has {want}")


def _entries(mult: np.ndarray, shift: np.ndarray) -> np.ndarray:
    return np.asarray(mult, np.uint32) | np.asarray(shift, np.uint32) << 16


def _seal(content: bytes, g: Geometry) -> bytes:
    """``content`` cut into tiles, each closed by a bus beat: its CRC-32, then zeros."""
    room = (g.tile_beats - 1) * g.axi_bytes
    tiles = [content[at:at + room] for at in range(0, len(content), room)]
    return b"".join(tile + zlib.crc32(tile).to_bytes(g.axi_bytes, "little") for tile in tiles)


def _open(blob: bytes, g: Geometry) -> bytes:
    """The content of sealed tiles; :class:`CorruptTile` of the first that is not as sealed."""
    content = b""
    for number, at in enumerate(range(0, len(blob), g.tile_bytes)):
        tile = blob[at:at + g.tile_bytes]
        part, end = tile[:-g.axi_bytes], int.from_bytes(tile[-g.axi_bytes:], "little")
        if end != zlib.crc32(part):
            raise CorruptTile(number, end, zlib.crc32(part))
        content += part
    return content


def pack(expert: Expert, g: Geometry) -> bytes:
    """The blob, ``g.blob_bytes`` long; layout in docs/architecture.md."""
    _check(expert, g)
    rows, lanes = g.config.rows, g.config.lanes
    table = np.zeros(g.side_words * g.side_bytes // 4, np.uint32)
    table[0] = _entries(np.array(expert.hidden_scale.mult), np.array(expert.hidden_scale.shift))
    pairs = np.stack([_entries(*expert.gate_scale), _entries(*expert.up_scale)], 1).ravel()
    table[rows:rows + 2 * g.ff] = pairs
    start = rows + 2 * g.ff
    table[start:start + len(expert.down)] = _entries(*expert.out_scale)
    both = np.stack([expert.gate, expert.up], 1)  # [hidden, gate | up, input]
    first = both.reshape(g.gu_groups, rows, g.in_words, lanes).transpose(0, 2, 1, 3)
    second = expert.down.reshape(g.out_groups, rows, g.dn_tiles, lanes).transpose(2, 0, 1, 3)
    blob = table.astype("<u4").tobytes() + first.tobytes() + second.tobytes()
    if g.config.integrity:
        blob = _seal(blob, g)
    assert len(blob) == g.blob_bytes
    return blob


def unpack(blob: bytes, g: Geometry) -> Expert:
    """The inverse of :func:`pack`; :class:`ValueError` on another length or a wrong CRC."""
    if len(blob) != g.blob_bytes:
        raise ValueError(f"a blob must have {g.blob_bytes} bytes, not {len(blob)}")
    if g.config.integrity:
        blob = _open(blob, g)
    rows, lanes, width = g.config.rows, g.config.lanes, g.config.model.d_model
    table = np.frombuffer(blob, "<u4", g.side_words * g.side_bytes // 4)

    def scales(entries: np.ndarray) -> Requantisers:
        return Requantisers((entries & 0xffff).astype(np.uint16),
                            (entries >> 16 & 63).astype(np.uint8))

    pairs = table[rows:rows + 2 * g.ff]
    out = table[rows + 2 * g.ff:rows + 2 * g.ff + width]
    at = g.side_words * g.side_bytes
    split = g.gu_groups * g.in_words * g.word_bytes
    first = np.frombuffer(blob, np.int8, split, at)
    second = np.frombuffer(blob, np.int8, offset=at + split)
    tiles = first.reshape(g.gu_groups, g.in_words, rows, lanes)
    both = tiles.transpose(0, 2, 1, 3).reshape(g.ff, 2, width)
    down = second.reshape(g.dn_tiles, g.out_groups, rows, lanes).transpose(1, 2, 0, 3)
    hidden = Requantiser(int(table[0] & 0xffff), int(table[0] >> 16 & 63))
    return Expert(both[:, 0], both[:, 1], down.reshape(width, g.ff), scales(pairs[0::2]),
                  scales(pairs[1::2]), hidden, scales(out))
