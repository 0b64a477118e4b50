"""DENSE commands at the sequencer: what is dispatched of them, and what is refused."""

import pytest

from stmoe.interfaces import GATE_ONE, ErrorCode, Opcode

from .test_sequencer import CONFIG, Bench
from .test_sequencer_tokens import IN, OUT, Tokens, acts, command

BLOBS, FIRST = 5, 9  # the first id: behind eight experts and a shared unit
ONE = CONFIG.replace(dense_blobs=BLOBS)
MANY = ONE.replace(max_tokens=4)


def dense(first=0, count=1, units=False, layer=1, tokens=1):
    return [Opcode.DENSE | int(units) << 8 | count << 9 | layer << 16 | tokens << 32 | first << 48]


def play(bench, words, tokens):
    """``words``, then a good LAYER command; what was routed of ``words``."""
    answered = (max(1, tokens) if bench.g.token_bits else 1) * OUT
    layer = command([[1, 2]])
    sent = tokens if bench.g.token_bits else 1
    bench.play([*words, *layer], acts(sent + 1),
               until=lambda b: len(b.out["result"]) == answered + OUT)
    assert [r.expert for r in bench.out["routed"]][-3:] == [1, 2, 8]
    assert not any(r.dense or r.matrix for r in bench.out["routed"][-3:])
    assert bench.out["x"][-IN:] == acts(sent + 1)[-IN:] and not bench.acts
    assert [o.expert for o in bench.out["observe"]] == [1, 2]  # nothing is observed of the other
    return bench.out["routed"][:-3], bench.out["result"][:answered]


@pytest.mark.parametrize("units", [False, True])
def test_blobs_are_dispatched_in_order_each_with_its_place(units):
    config = ONE.replace(pes=2)  # of two parts, so of two words each
    routed, results = play(Bench(1, config), dense(1, 2, units), 1)
    gates = [GATE_ONE] * 2 if units else [0, 2]
    assert [(r.layer, r.expert, r.gate, r.count, r.shared, r.last, r.dense, r.matrix)
            for r in routed] == [(1, FIRST + 1 + i, gates[i], 2, 1, i, 1, not units)
                                 for i in range(2)]
    assert not any(r.error for r in results)


@pytest.mark.parametrize("units", [False, True])
def test_all_tokens_share_them(units):
    routed, results = play(Tokens(2, MANY.replace(pes=2)), dense(3, 2, units, tokens=3), 3)
    tags = [FIRST + 3, FIRST + 4] if units else [0, 2]
    assert [(r.expert, r.gate & 63, r.gate >> 6) for r in routed] == [
        (FIRST + 3 + i, 2, tags[i]) for i in range(2)]
    assert [r.last for r in results] == [0] * (3 * OUT - 1) + [1]


BAD = [
    (dense(BLOBS), ErrorCode.BAD_DENSE, BLOBS), (dense(BLOBS - 1, 2), ErrorCode.BAD_DENSE, 4),
    (dense(0, 0), ErrorCode.BAD_DENSE, 0), (dense(0, 2), ErrorCode.BAD_DENSE, 0),  # one part is all
    (dense(65535), ErrorCode.BAD_DENSE, 65535), (dense(0, 4, True), ErrorCode.BAD_DENSE, 0),
    (dense(layer=3), ErrorCode.BAD_LAYER, 0), (dense(tokens=0), ErrorCode.BAD_TOKENS, 0),
    (dense(tokens=2), ErrorCode.BAD_TOKENS, 0)]


@pytest.mark.parametrize("words, code, blob", BAD)
def test_what_cannot_run_is_refused_in_step(words, code, blob):
    bench = Bench(3, ONE)  # of most three experts
    routed, results = play(bench, words, 1)
    assert not routed and all(r.error and r.data == 0 for r in results)
    assert bench.errors == [(code, blob)]


@pytest.mark.parametrize("field", ["matrix_tiles", "matrix_parts", "matrix_beats"])
def test_a_bad_shape_of_matrices_is_refused(field):
    bench = Bench(4, ONE)
    bench.play(dense(), acts(1), shape={field: 0}, until=lambda b: len(b.out["result"]) == OUT)
    assert all(r.error for r in bench.out["result"]) and not bench.out["routed"]
    assert [code for code, _ in bench.errors] == [ErrorCode.BAD_SHAPE]


@pytest.mark.parametrize("tokens", [0, 5])
def test_a_wrong_number_of_tokens_is_answered_in_full(tokens):
    bench = Tokens(5, MANY)
    routed, results = play(bench, dense(tokens=tokens), tokens)
    assert not routed and all(r.error for r in results) and results[-1].last
    assert bench.errors == [(ErrorCode.BAD_TOKENS, 0)]


def test_a_netlist_without_them_does_not_know_the_opcode():
    bench = Bench(6)
    bench.play([*dense(), *command([[1, 2]])], acts(1), until=lambda b: len(b.out["result"]) == OUT)
    assert bench.errors == [(ErrorCode.BAD_OPCODE, 0)]
