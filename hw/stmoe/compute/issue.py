"""Decides, cycle by cycle, which weight word a PE reads."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from .. import interfaces
from ..config import Geometry
from ..interfaces import GATE_ONE

__all__ = ["IssueUnit"]


class IssueUnit(wiring.Component):
    """Walks the words of one expert after the other: gate/up by group, then down by hidden tile.

    Each word is issued for every token that shares the expert, one token a cycle; it is read from
    the buffer for the first. So an expert of one token is input-stationary, a new word every cycle,
    and one of several is weight-stationary; nothing is lost between one and the other.
    A word is issued when it has landed in the buffer, its activation has arrived and its hidden
    tile is computed. The next expert is accepted within the last tile of the present one, and
    its first word follows the last word of the present one in the next cycle if it has landed.
    Reset: no expert.

    Parameters
    ----------
    geometry: Geometry

    Members
    -------
    work: experts; ready while idle or near the end of the present one. idle: none in hand.
    shape: run-time shape, stable while not idle.
    activations: activation words received of every token. hidden: hidden values computed of this
        expert for all its tokens.
    hold: the last word of an expert is not issued.
    watch, watermark: beats landed in slot ``watch``, answered in the same cycle; of the expert in
        hand. watch_next, watermark_next: of the next one.
    asks, denied: a word would be read from the buffer, and may not be now; only where groups are
        split.
    need: beats that must have landed for the next word; only where experts stream through.
    go: a word is issued, described by: slot, word, gate, down (phase), index (activation word, or
        hidden word), group (row group), first and last (of an accumulation), begin and end (of the
        expert). Of experts with many tokens: place (which of its tokens), expert (id), fetch (the
        word is new), whole (it is the last token's), final (the expert's last word, for any token);
        where groups are split, member (which of the group's tokens).
        Of weights of four bits: scales (which of the expert's). Where there are dense weights:
        matrix (it is of a part of one, which is all ``down``) and x_index (the activation word that
        it then takes).
    waiting: an expert is in hand and its next word has not landed.
    """

    def __init__(self, geometry: Geometry):
        g = self.geometry = geometry
        super().__init__({
            "work": In(stream.Signature(interfaces.part(g))), "idle": Out(1),
            "shape": In(interfaces.shape_layout(g)),
            "activations": In(16), "hidden": In(16), "hold": In(1),
            "watch": Out(g.slot_bits), "watermark": In(g.beat_bits),
            "watch_next": Out(g.slot_bits), "watermark_next": In(g.beat_bits),
            "go": Out(1), "slot": Out(g.slot_bits), "word": Out(24), "gate": Out(16),
            "down": Out(1), "index": Out(16), "group": Out(16), "first": Out(1), "last": Out(1),
            "begin": Out(1), "end": Out(1), "waiting": Out(1)} | ({} if not g.token_bits else {
                "place": Out(g.token_bits), "expert": Out(10), "fetch": Out(1), "whole": Out(1),
                "final": Out(1)}) | ({} if not g.doublings else {
                    "asks": Out(1), "denied": In(1), "member": Out(g.token_bits)}) | (
                        {"need": Out(g.beat_bits + 1)} if g.has_ring else {}) | (
                            {"scales": Out(24)} if g.config.weight_group else {}) | (
                                {"matrix": Out(1), "x_index": Out(16)} if g.config.dense_blobs
                                else {}))

    def elaborate(self, platform):
        m = Module()
        g, shape = self.geometry, self.shape
        word_beats = g.word_bytes // g.axi_bytes
        side_beats = g.side_bytes // g.axi_bytes
        lanes = g.config.lanes

        valid = Signal()
        present = Signal(interfaces.part(g))
        following, follows = Signal(interfaces.part(g)), Signal()
        m.d.comb += [self.idle.eq(~valid), self.slot.eq(present.slot), self.gate.eq(present.gate)]
        if g.config.dense_blobs:
            m.d.comb += self.matrix.eq(present.matrix)
            with m.If(present.matrix):
                m.d.comb += self.gate.eq(GATE_ONE)

        # Arrival. The next expert is looked at once the present one is complete. Whether the next
        # word has landed is worked out a cycle ahead, for each word that may be the next.
        step, change = Signal(), Signal()  # to the expert's next word; to the next expert, or none
        coming = Signal(interfaces.part(g))
        need = self.need if g.has_ring else Signal(g.beat_bits + 1)
        first_need, further = Signal.like(need), Signal.like(need)
        complete, filled_up, arrived, landed = Signal(), Signal(), Signal(), Signal()
        blob_beats = coming_beats = shape.blob_beats
        if g.config.dense_blobs:
            blob_beats = Mux(self.matrix, shape.matrix_beats, shape.blob_beats)
            coming_beats = Mux(coming.matrix, shape.matrix_beats, shape.blob_beats)
        turned = follows & complete
        m.d.comb += [
            coming.eq(Mux(follows, following, self.work.payload)),
            self.watch.eq(present.slot), self.watch_next.eq(following.slot),
            landed.eq(complete | arrived)]

        def reached(first_beats):
            """Of what comes: whether its slot's watermark, if it is known already, is there."""
            return Mux(turned, first_beats <= self.watermark_next,
                       (coming.slot == present.slot) & (first_beats <= self.watermark))
        m.d.sync += [
            first_need.eq(shape.side_words * side_beats + word_beats),
            arrived.eq(Mux(change, reached(first_need), Mux(
                step, further <= self.watermark, need <= self.watermark))),
            filled_up.eq(Mux(change, reached(coming_beats), blob_beats <= self.watermark))]
        with m.If(valid & filled_up):
            m.d.sync += complete.eq(1)

        # Whether index and group are their last is worked out as they are counted. What counts is
        # as wide as the generated sizes need.
        widest = Geometry(g.config, g.max_d_ff)
        indices = max(g.in_words, widest.dn_tiles)
        groups = max(widest.gu_groups, g.out_groups)
        index, group = Signal(range(indices)), Signal(range(groups))
        word = Signal(range(g.in_words * widest.gu_groups + widest.dn_tiles * g.out_groups))
        last_group, last_index = Signal(), Signal()
        sizes = data.StructLayout(
            {"in_words": len(index), "dn_tiles": len(index), "gu_groups": len(group),
             "out_groups": len(group)}
            | ({"matrix_tiles": len(index)} if g.config.dense_blobs else {}))
        before = Signal(sizes)  # the last of each, less one
        single = Signal(data.StructLayout(dict.fromkeys(sizes.members, 1)))
        for name in sizes.members:
            m.d.sync += [before[name].eq(shape[name] - 2), single[name].eq(shape[name] == 1)]
        hidden = self.hidden[:(widest.dn_tiles * lanes).bit_length()]
        hidden_need = Signal((widest.dn_tiles * lanes + lanes).bit_length())  # of the present tile
        tiles, filled = before.dn_tiles, hidden_need <= hidden
        if g.config.dense_blobs:
            tiles = Mux(self.matrix, before.matrix_tiles, before.dn_tiles)
            filled = Mux(self.matrix, self.x_index < self.activations, filled)
        near_index, near_group = Signal(), Signal()
        m.d.comb += [
            self.index.eq(index), self.group.eq(group), self.word.eq(word),
            near_index.eq(index == Mux(self.down, tiles, before.in_words)),
            near_group.eq(group == Mux(self.down, before.out_groups, before.gu_groups))]
        ready = Signal()
        able = Signal() if g.doublings else self.go
        begin = ~self.down & (index == 0) & (group == 0)
        end = final = self.down & last_index & last_group
        if g.token_bits:
            tag = data.View(interfaces.group_tag(), present.gate)
            m.d.comb += [self.expert.eq(tag.expert), self.fetch.eq(self.place == 0),
                         self.whole.eq(self.place == tag.others), self.final.eq(final)]
            begin, end = begin & self.fetch, end & self.whole
        m.d.comb += [
            self.first.eq(index == 0), self.last.eq(last_index),
            self.begin.eq(begin), self.end.eq(end),
            ready.eq(Mux(self.down, filled, index < self.activations[:g.in_words.bit_length()])),
            able.eq(valid & landed & ready & ~(self.end & self.hold)),
            self.waiting.eq(valid & ~landed)]

        if g.doublings:
            m.d.comb += [self.asks.eq(able & self.fetch),
                         self.go.eq(able & ~(self.fetch & self.denied)),
                         self.member.eq(self.place + present.first)]
        m.d.comb += step.eq(self.go)
        if g.token_bits:
            m.d.comb += step.eq(self.go & self.whole)
            with m.If(self.go):
                m.d.sync += self.place.eq(Mux(self.whole, 0, self.place + 1))
        with m.If(step):
            m.d.sync += [word.eq(word + 1), need.eq(further), further.eq(further + word_beats)]
            with m.If(self.down):  # groups within a tile
                m.d.sync += [group.eq(group + 1), last_group.eq(near_group)]
                with m.If(last_group):
                    m.d.sync += [group.eq(0), last_group.eq(single.out_groups),
                                 index.eq(index + 1), last_index.eq(near_index),
                                 hidden_need.eq(hidden_need + lanes)]
                    if g.config.dense_blobs:
                        m.d.sync += self.x_index.eq(self.x_index + 1)
            with m.Else():  # activations within a group
                m.d.sync += [index.eq(index + 1), last_index.eq(near_index)]
                with m.If(last_index):
                    m.d.sync += [index.eq(0), last_index.eq(single.in_words),
                                 group.eq(group + 1), last_group.eq(near_group)]
                    with m.If(last_group):
                        m.d.sync += [group.eq(0), last_group.eq(single.out_groups),
                                     last_index.eq(single.dn_tiles), self.down.eq(1)]

        take = Signal()
        m.d.comb += [
            self.work.ready.eq(~valid | (self.down & last_index & complete & ~follows)),
            take.eq(self.work.valid & self.work.ready)]
        m.d.comb += change.eq((self.go & self.end) | ~valid)
        with m.If(change):
            m.d.sync += [
                present.eq(coming), follows.eq(0), valid.eq(follows | take), complete.eq(0),
                word.eq(0), index.eq(0), group.eq(0), last_index.eq(single.in_words),
                last_group.eq(single.gu_groups), self.down.eq(0), hidden_need.eq(lanes),
                need.eq(first_need), further.eq(first_need + word_beats)]
            if g.config.dense_blobs:  # a part of a matrix is all down projection
                start = coming.gate
                if g.token_bits:
                    start = data.View(interfaces.group_tag(), start).expert
                m.d.sync += [self.down.eq(coming.matrix), self.x_index.eq(start)]
                with m.If(coming.matrix):
                    m.d.sync += [last_index.eq(single.matrix_tiles),
                                 last_group.eq(single.out_groups)]
        with m.Elif(take):
            m.d.sync += [following.eq(self.work.payload), follows.eq(1)]
        if g.config.weight_group:
            self._count_scales(m, step, last_group, change)
        return m

    def _count_scales(self, m, step, last_group, restart):
        """Scales follow one another by row group in gate and up, by hidden tile in down; words
        that have consecutive inputs share them."""
        words = self.geometry.config.weight_group // self.geometry.config.lanes
        end = self.index[:words.bit_length() - 1].all()  # of the words that share
        following, tile = Signal(24), Signal(24)  # tile: the first ones of the present tile
        m.d.comb += following.eq(self.scales + 1)
        with m.If(step):
            with m.If(end | (self.down & ~last_group)):
                m.d.sync += self.scales.eq(following)
            with m.Elif(self.down):
                m.d.sync += self.scales.eq(tile)
            with m.If(end & (~self.down | last_group)):
                m.d.sync += tile.eq(following)
        with m.If(restart):
            m.d.sync += [self.scales.eq(0), tile.eq(0)]
