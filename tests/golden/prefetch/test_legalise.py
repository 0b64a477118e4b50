"""Bursts: whole, in order, within every limit, and as few as the limits allow."""



import itertools

from hypothesis import given
from hypothesis import strategies as st

from stmoe.config import Geometry, preset
from stmoe_golden.prefetch.legalise import legalise


@given(st.sampled_from([32, 64, 128, 512]), st.integers(1, 256), st.sampled_from([64, 512, 4096]),
       st.integers(0, 1 << 20), st.integers(1, 3000))
def test_bursts_are_legal_and_whole(width, burst, tile, unit, beats):
    size = width // 8
    base = unit * size
    g = Geometry(preset("tiny").replace(axi_data_bits=width, burst_beats=burst, tile_bytes=tile,
                                        rows=8, lanes=16, integrity=False))
    bursts = legalise(g, base, beats)
    at = base
    for address, length in bursts:
        last = address + length * size - 1
        assert address == at and 1 <= length <= burst
        assert address // 4096 == last // 4096
        assert (address - base) // tile == (last - base) // tile
        at = last + 1
    assert at == base + beats * size
    for (_, length), (following, _) in itertools.pairwise(bursts):
        assert length == burst or following % 4096 == 0 or (following - base) % tile == 0
