"""An expert as the bytes that lie in expert memory."""

import zlib

import numpy as np

from stmoe.config import Geometry

from .arithmetic import Requantiser, Requantisers
from .expert import Expert
from .four_bit import FourBits
from .matrix import Matrix

__all__ = ["CorruptTile", "pack", "pack_matrix", "unpack"]


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
    group = g.config.weight_group
    have = want[1] // expert.codes[0].scales.shape[1] if expert.codes else 0
    if have != group:
        raise ValueError(f"an expert with weight_group = {have} was given where the configuration "
                         f"has {group}")


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


def _words(both: np.ndarray, down: np.ndarray, rows: int, lanes: int) -> np.ndarray:
    """``both`` [hidden, gate | up, input] and ``down`` [output, hidden], a flat array in the order
    of words of ``rows`` x ``lanes``."""
    first = both.reshape(-1, rows, both.shape[-1] // lanes, lanes).transpose(0, 2, 1, 3)
    return np.concatenate([first.ravel(), _down_words(down, rows, lanes)])


def _down_words(down: np.ndarray, rows: int, lanes: int) -> np.ndarray:
    """``down`` [output, input], flat: of each ``lanes`` inputs all outputs, ``rows`` at a time."""
    parts = down.reshape(-1, rows, down.shape[-1] // lanes, lanes)
    return parts.transpose(2, 0, 1, 3).ravel()


def _matrices(words: np.ndarray, hidden: int, inputs: int, outputs: int, rows: int, lanes: int,
              group: int = 1) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Gate, up and down of :func:`_words`, of something that there is once for ``group`` inputs."""
    split = 2 * hidden * inputs // group
    first = words[:split].reshape(-1, inputs // group // lanes, rows, lanes)
    second = words[split:].reshape(hidden // group // lanes, -1, rows, lanes)
    both = first.transpose(0, 2, 1, 3).reshape(hidden, 2, inputs // group)
    down = second.transpose(1, 2, 0, 3).reshape(outputs, hidden // group)
    return both[:, 0], both[:, 1], down


def _nibbles(codes: np.ndarray) -> bytes:
    return (codes[0::2] & 15 | codes[1::2] << 4).astype(np.uint8).tobytes()


def pack_matrix(part: Matrix, g: Geometry) -> bytes:
    """The blob of a part of a matrix, ``g.matrix_beats`` long: that of an expert without the
    weights of gate and up, whose parameters are 0. :class:`ValueError` as of :func:`pack`."""
    want = (g.config.model.d_model, g.matrix_columns)
    if part.weights.shape != want:
        raise ValueError(f"a part of d_model x inputs = {part.weights.shape} was given where the "
                         f"configuration has {want}")
    if (part.codes is None) != (g.config.weight_group == 0):
        raise ValueError(f"a matrix of other weights was given than of weight_group = "
                         f"{g.config.weight_group}")
    rows, lanes = g.config.rows, g.config.lanes
    table = np.zeros(g.param_words * g.side_bytes // 4, np.uint32)
    start = rows + 2 * g.ff
    table[start:start + want[0]] = _entries(*part.scale)
    blob = table.astype("<u4").tobytes()
    if part.codes is None:
        blob += _down_words(part.weights, rows, lanes).tobytes()
    else:
        blob += _down_words(part.codes.scales, rows, 1).tobytes().ljust(
            g.scale_words * g.side_bytes, b"\0")
        blob += _nibbles(_down_words(part.codes.weights, rows, lanes))
    if g.config.integrity:
        blob = _seal(blob, g)
    assert len(blob) == g.matrix_beats * g.axi_bytes
    return blob


def pack(expert: Expert, g: Geometry) -> bytes:
    """The blob, ``g.blob_bytes`` long; layout in docs/architecture.md. :class:`ValueError` if the
    configuration is of another shape, or its weights of other bits or groups."""
    _check(expert, g)
    rows, lanes = g.config.rows, g.config.lanes
    table = np.zeros(g.param_words * g.side_bytes // 4, np.uint32)
    table[0] = _entries(np.array(expert.hidden_scale.mult), np.array(expert.hidden_scale.shift))
    pairs = np.stack([_entries(*expert.gate_scale), _entries(*expert.up_scale)], 1).ravel()
    table[rows:rows + 2 * g.ff] = pairs
    start = rows + 2 * g.ff
    table[start:start + len(expert.down)] = _entries(*expert.out_scale)
    blob = table.astype("<u4").tobytes()
    if expert.codes:
        gate, up, down = expert.codes
        scales = _words(np.stack([gate.scales, up.scales], 1), down.scales, rows, 1)
        codes = _words(np.stack([gate.weights, up.weights], 1), down.weights, rows, lanes)
        blob += scales.tobytes().ljust(g.scale_words * g.side_bytes, b"\0")
        blob += _nibbles(codes)
    else:
        blob += _words(np.stack([expert.gate, expert.up], 1), expert.down, rows, lanes).tobytes()
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
    table = np.frombuffer(blob, "<u4", g.param_words * g.side_bytes // 4)

    def scales(entries: np.ndarray) -> Requantisers:
        return Requantisers((entries & 0xffff).astype(np.uint16),
                            (entries >> 16 & 63).astype(np.uint8))

    pairs = table[rows:rows + 2 * g.ff]
    out = table[rows + 2 * g.ff:rows + 2 * g.ff + width]
    hidden = Requantiser(int(table[0] & 0xffff), int(table[0] >> 16 & 63))
    words = np.frombuffer(blob, np.uint8, offset=g.side_words * g.side_bytes)
    shape, group = (g.ff, width, width, rows), g.config.weight_group
    codes: tuple[FourBits, ...] = ()
    if group:
        found = np.frombuffer(blob, np.uint8, g.scale_groups * rows, g.param_words * g.side_bytes)
        q = (np.stack([words & 15, words >> 4], 1).ravel().astype(np.int8) ^ 8) - 8
        codes = tuple(
            FourBits(weights, scale) for weights, scale in zip(
                _matrices(q, *shape, lanes), _matrices(found, *shape, 1, group), strict=True))
        gate, up, down = (code.int8() for code in codes)
    else:
        gate, up, down = _matrices(words.view(np.int8), *shape, lanes)
    return Expert(gate, up, down, scales(pairs[0::2]), scales(pairs[1::2]), hidden, scales(out),
                  codes)
