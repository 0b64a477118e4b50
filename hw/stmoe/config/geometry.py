"""Every width, depth and address that follows from a configuration, derived once."""

from dataclasses import dataclass
from functools import cached_property
from typing import Self

from .accelerator import AcceleratorConfig
from .error import ConfigError
from .lexical_layout import LexicalLayout
from .weight_layout import WeightLayout

__all__ = ["BLOCK_READS", "ROW_READS", "Geometry"]

ROW_READS = 4  # lexical rows that are read from expert memory at a time
BLOCK_READS = 4  # bursts of a layer's weights, likewise

LATENCY = 64  # cycles until a burst's first beat, usually
SLACK_MAX = 63  # of a slack, in sixteenths of a drain
SMALL = 1024  # bytes of an expert that the DMA is still to read at full speed
MAX_DENSE_WORDS = 1024  # activation words of a token: where one is, in the work for the PEs
MAX_BEATS = (1 << 24) - 1  # of an expert: register shape_blob_beats and word numbers have 24 bits


def _bits(count: int) -> int:
    """Bits that hold 0 .. count - 1, at least one."""
    return max(1, (count - 1).bit_length())


def _up(value: int, unit: int) -> int:
    return -(-value // unit)


@dataclass(frozen=True)
class Geometry:
    """Derived values of ``config`` at hidden width ``d_ff`` (0 = the configured one).

    Sizes of memory and wires always come from the configuration; the run-time shape, from ``d_ff``.
    """

    config: AcceleratorConfig
    d_ff: int = 0

    def __post_init__(self) -> None:
        if self.ff > self.max_d_ff:
            raise ConfigError("d_ff", self.ff, f"at most max_d_ff = {self.max_d_ff}")
        if self.ff % self.config.lanes or self.ff % self.config.rows:
            raise ConfigError("d_ff", self.ff, f"a multiple of lanes = {self.config.lanes} "
                                               f"and rows = {self.config.rows}")
        if self.ff % (self.config.weight_group or 1):
            raise ConfigError("d_ff", self.ff,
                              f"a multiple of weight_group = {self.config.weight_group}")
        if self.blob_beats > MAX_BEATS:
            raise ConfigError("d_ff", self.ff, f"small enough that an expert of {self.blob_beats} "
                                               f"bus beats has at most {MAX_BEATS}")
        chunk = self.tile_beats - self.config.integrity + self.word_bytes // self.axi_bytes
        if self.ring and self.ring_beats < chunk:
            raise ConfigError("d_ff", self.ff,
                              f"small enough that two experts fit the buffer of {self.banks} "
                              f"banks: half of it, {self.ring_beats} bus beats, holds no tile "
                              f"and weight word, {chunk}, to stream one through")
        if self.config.dense_blobs:
            self._check_dense()
        address_bits = (self.total_bytes - 1).bit_length()
        if address_bits > self.config.axi_addr_bits:
            raise ConfigError("axi_addr_bits", self.config.axi_addr_bits,
                              f"at least {address_bits} for {self.total_bytes} bytes of experts "
                              "and rows")

    def _check_dense(self) -> None:
        if self.has_ring:
            raise ConfigError("max_d_ff", self.max_d_ff, "small enough that two experts fit the "
                                                         "buffer, with dense_blobs")
        if self.in_words > MAX_DENSE_WORDS:
            raise ConfigError("model.d_model", self.config.model.d_model,
                              f"at most {MAX_DENSE_WORDS} words of lanes = {self.config.lanes}, "
                              "with dense_blobs")
        if not self.matrix_tiles:
            raise ConfigError(
                "dense_blobs", self.config.dense_blobs,
                f"0: a matrix of d_model = {self.config.model.d_model} inputs cannot be cut into "
                f"equal parts, at most {self.config.most_experts}, that fit a slot")

    def _at(self, d_ff: int) -> Self:
        """The same configuration at another hidden width, unchecked: for sizes of an expert."""
        other = object.__new__(type(self))
        object.__setattr__(other, "config", self.config)
        object.__setattr__(other, "d_ff", d_ff)
        return other

    @property
    def ff(self) -> int:
        return self.d_ff or self.config.model.d_ff

    @property
    def max_d_ff(self) -> int:
        return self.config.max_d_ff or self.config.model.d_ff

    # Run-time shape
    @property
    def in_words(self) -> int:
        """Activation words of one token."""
        return self.config.model.d_model // self.config.lanes

    @property
    def gu_groups(self) -> int:
        """Row groups of the gate and up projections."""
        return 2 * self.ff // self.config.rows

    @property
    def dn_tiles(self) -> int:
        """Hidden words, the outer loop of the down projection."""
        return self.ff // self.config.lanes

    @property
    def out_groups(self) -> int:
        """Row groups of the down projection."""
        return self.config.model.d_model // self.config.rows

    @property
    def param_rows(self) -> int:
        """Rows of requantisation parameters of an expert."""
        return 1 + self.gu_groups + self.out_groups

    @property
    def side_bytes(self) -> int:
        """Bytes of a word of the side region."""
        return max(4 * self.config.rows, self.axi_bytes)

    @property
    def param_words(self) -> int:
        """Words of the side region with requantisation parameters, its first."""
        return _up(self.param_rows * 4 * self.config.rows, self.side_bytes)

    @property
    def scale_groups(self) -> int:
        """Scales of groups of weights per row of a weight word, for each of the rows a byte."""
        group = self.config.weight_group
        if not group:
            return 0
        return (self.gu_groups * (self.config.model.d_model // group)
                + self.ff // group * self.out_groups)

    @property
    def scale_words(self) -> int:
        """Words of the side region with scales of groups of weights, behind the parameters."""
        return _up(self.scale_groups * self.config.rows, self.side_bytes)

    @property
    def side_words(self) -> int:
        return self.param_words + self.scale_words

    @property
    def word_weights(self) -> int:
        """Weights of a word, which a PE multiplies per cycle."""
        return self.config.rows * self.config.lanes

    @property
    def word_bytes(self) -> int:
        """Bytes of a weight word."""
        return self.word_weights * self.config.weight_bits // 8

    @property
    def weight_words(self) -> int:
        return self.gu_groups * self.in_words + self.dn_tiles * self.out_groups

    @property
    def content_beats(self) -> int:
        """Bus beats of an expert's parameters and weights."""
        content = self.side_words * self.side_bytes + self.weight_words * self.word_bytes
        return content // self.axi_bytes

    @cached_property
    def tile_beats(self) -> int:
        """Bus beats of a tile of the blob, with its CRC; the last tile may have fewer.

        A tile with a CRC is one burst.
        """
        beats = self.config.tile_bytes // self.axi_bytes
        longest = 1 << (self.config.burst_beats.bit_length() - 1)
        return min(beats, longest) if self.config.integrity else beats

    @property
    def tile_bytes(self) -> int:
        return self.tile_beats * self.axi_bytes

    @property
    def tiles(self) -> int:
        """Tiles of an expert's blob."""
        return _up(self.content_beats, self.tile_beats - self.config.integrity)

    @property
    def blob_beats(self) -> int:
        """Bus beats of an expert as it lies in memory: content, and a CRC per tile if any."""
        return self.content_beats + self.tiles * self.config.integrity

    @property
    def blob_bytes(self) -> int:
        return self.blob_beats * self.axi_bytes

    @cached_property
    def matrix_tiles(self) -> int:
        """Input words of a part of a matrix of dense weights, as many for each part; 0 if none
        fits: the most that occupy every PE and fit an expert's slot, else the fewest."""
        c = self.config
        fitting = [tiles for tiles in range(1, self.in_words + 1)
                   if self.in_words % tiles == 0 and self.in_words // tiles <= c.most_experts
                   and tiles * self.out_groups <= self.weight_words
                   and tiles * c.lanes % (c.weight_group or 1) == 0]
        busy = [tiles for tiles in fitting if self.in_words // tiles >= c.pes]
        return max(busy) if busy else min(fitting, default=0)

    @property
    def matrix_parts(self) -> int:
        """Parts of a matrix of d_model inputs, the most that a DENSE command sums."""
        return self.in_words // self.matrix_tiles

    @property
    def matrix_columns(self) -> int:
        """Inputs of a part of a matrix."""
        return self.matrix_tiles * self.config.lanes

    @property
    def matrix_content_beats(self) -> int:
        """Bus beats of the parameters and weights of a part of a matrix."""
        weights = self.matrix_tiles * self.out_groups * self.word_bytes
        return self.side_beats + weights // self.axi_bytes

    @property
    def matrix_beats(self) -> int:
        """Bus beats of the blob of a part of a matrix."""
        return self.matrix_content_beats + self.config.integrity * _up(
            self.matrix_content_beats, self.tile_beats - self.config.integrity)

    @property
    def side_beats(self) -> int:
        return self.side_words * self.side_bytes // self.axi_bytes

    @property
    def alignment(self) -> int:
        """Bytes of which base and stride are multiples; no tile with a CRC crosses 4 KiB."""
        return max(64, self.axi_bytes, self.tile_bytes * self.config.integrity)

    @property
    def stride(self) -> int:
        """Bytes from one expert's blob to the next."""
        return _up(self.blob_bytes, self.alignment) * self.alignment

    @cached_property
    def group(self) -> int:
        """log2 of the banks that an expert takes at this hidden width; of an expert larger than
        half of the buffer, whatever its size, one more than ``half``."""
        full, group = self._at(0), 0
        params, scales = self._per_bank(full.param_words), self._per_bank(full.scale_words)
        while group <= self.half and ((self.bank_words << group) < self.weight_words
                                      or (params << group) < self.param_words
                                      or (scales << group) < self.scale_words):
            group += 1
        return group

    @property
    def half(self) -> int:
        """log2 of the banks of the largest slot of which there are two."""
        return self.banks.bit_length() - 2

    @property
    def ring(self) -> bool:
        """Whether experts of this hidden width stream through: a slot is a ring of tiles."""
        return self.group > self.half

    @property
    def slots(self) -> int:
        """Slots that the banks make at this hidden width."""
        return self.banks >> min(self.group, self.half)

    @property
    def prefetch_bursts(self) -> int:
        """Bursts in flight that a prefetch may bring about: one, and what keeps a link of a beat a
        cycle busy over a latency of ``LATENCY`` cycles. A demand has to wait for them."""
        return min(self.config.outstanding, 1 + _up(LATENCY, self.config.burst_beats))

    @property
    def rows_slack(self) -> int:
        """Least slack of a layer, in sixteenths of a drain, with which rows by token identity are
        moved by default: twice what a layer's take, read and written; 0 where there are none."""
        if not self.streams_identities:
            return 0
        beats = 2 * len(self.config.linear.tables) * self.lexical_layout.row_beats
        drain = self.prefetch_bursts * self.config.burst_beats
        return min(SLACK_MAX, _up(2 * 16 * beats, drain))

    @property
    def transfers(self) -> int:
        """Transfers that the DMA has in hand: as many as ``outstanding`` bursts are of experts of
        ``SMALL`` bytes, each of a burst at least; at least 4, at most 12."""
        room = self.config.outstanding * self.config.burst_beats * self.axi_bytes
        return max(4, min(12, self.config.outstanding, room // SMALL))

    # Sizes of the netlist, from the configured shape
    @property
    def axi_bytes(self) -> int:
        return self.config.axi_data_bits // 8

    @property
    def banks(self) -> int:
        return self.config.slots * self.config.banks_per_slot

    def _per_bank(self, words: int) -> int:
        """Of ``words`` of a slot of the configured width, those in each bank."""
        return _up(words, self.config.banks_per_slot)

    @cached_property
    def bank_words(self) -> int:
        return self._per_bank(self._at(0).weight_words)

    def _bank_side(self, region: str) -> int:
        """Words of a part of the side region in each bank. It is read from end to end as weights
        pass: a ring holds all of it."""
        words, widest = self._per_bank(getattr(self._at(0), region)), self._at(self.max_d_ff)
        return max(words, _up(getattr(widest, region), 1 << self.half)) if widest.ring else words

    @cached_property
    def bank_param_words(self) -> int:
        return self._bank_side("param_words")

    @cached_property
    def bank_scale_words(self) -> int:
        return self._bank_side("scale_words")

    @property
    def bank_side_words(self) -> int:
        return self.bank_param_words + self.bank_scale_words

    @cached_property
    def has_ring(self) -> bool:
        """Whether experts of some hidden width stream through."""
        return self._at(self.max_d_ff).ring

    @property
    def ring_slots(self) -> int:
        """Slots while experts stream through: two, or three."""
        return self.banks >> self.half

    @cached_property
    def ring_words(self) -> int:
        """Weight words of a ring: the power of two that the banks of a slot hold."""
        return 1 << (self.bank_words.bit_length() - 1 + self.half)

    @property
    def ring_beats(self) -> int:
        return self.ring_words * self.word_bytes // self.axi_bytes

    @property
    def slot_bits(self) -> int:
        """Bits of a slot number (banks may all be slots of their own)."""
        return _bits(self.banks)

    @property
    def layer_bits(self) -> int:
        return _bits(self.config.model.layers)

    @property
    def expert_bits(self) -> int:
        """Bits of an expert id, shared units and blobs of dense weights included."""
        return _bits(self.config.blob_ids)

    @property
    def token_bits(self) -> int:
        """Bits of a token's place in a layer command, none where a command has one token."""
        return (self.config.max_tokens - 1).bit_length()

    @property
    def doublings(self) -> int:
        """How often the tokens that share an expert may be halved, a PE for each part."""
        return min(self.config.pes.bit_length() - 1, self.token_bits) * self.config.split_groups

    @property
    def max_blob_beats(self) -> int:
        return self._at(self.max_d_ff).blob_beats

    @property
    def beat_bits(self) -> int:
        """Bits that hold 0 .. max_blob_beats inclusive."""
        return _bits(self.max_blob_beats + 1)

    @property
    def landed_bits(self) -> int:
        """Bits of the beats of a blob that are written to the buffer, each as often as tried."""
        return _bits(self.max_blob_beats * (self.config.retries + 1) + 1)

    @property
    def tile_bits(self) -> int:
        """Bits of a tile's number."""
        return _bits(self._at(self.max_d_ff).tiles)

    @property
    def id_bits(self) -> int:
        """Bits of an AXI id: one id per outstanding burst; above experts' come those of weights by
        layer, then of lexical rows."""
        rows = self.streams_weights * BLOCK_READS + self.streams_identities * ROW_READS
        return _bits(self.config.outstanding + rows)

    @property
    def score_bits(self) -> int:
        """Bits of a candidate's score, signed: 7 for the table's, which are 0 .. 63."""
        linear = self.config.linear.score_bits(self.config.model)
        return max(7, linear) if "linear" in self.config.predictor else 7

    @property
    def streams_rows(self) -> bool:
        """Whether rows of the learned predictor, of whatever kind, are in expert memory."""
        return self.streams_identities or self.streams_weights

    @property
    def streams_weights(self) -> bool:
        """Whether the weights of each layer are in expert memory."""
        return "linear" in self.config.predictor and self.config.linear.weight_store == "memory"

    @property
    def streams_identities(self) -> bool:
        """Whether rows by token identity are in expert memory."""
        linear = self.config.linear
        return ("linear" in self.config.predictor and bool(linear.tables)
                and linear.lexical_store == "memory")

    @property
    def looks_ahead(self) -> bool:
        """Whether the learned predictor can use the next router's logits."""
        return "linear" in self.config.predictor and self.config.linear.lookahead

    @property
    def lexical_layout(self) -> LexicalLayout:
        """Where rows by token identity are."""
        return LexicalLayout(self, self.config.linear)

    @property
    def weight_layout(self) -> WeightLayout:
        """Where the weights of each layer are."""
        return WeightLayout(self, self.config.linear)

    @cached_property
    def lexical_base(self) -> int:
        """Byte address of the predictor's rows unless a register says otherwise: behind all
        experts; rows by token identity first."""
        unit = max(self.lexical_layout.token_stride if self.streams_identities else 1,
                   self.weight_layout.burst_stride if self.streams_weights else 1)
        return _up(self._at(self.max_d_ff).memory_bytes, unit) * unit

    @property
    def row_bytes(self) -> int:
        """Bytes of the predictor's rows in expert memory, from their base address."""
        if self.streams_weights:
            return self.weight_layout.offset + self.weight_layout.memory_bytes
        return self.lexical_layout.memory_bytes if self.streams_identities else 0

    @property
    def total_bytes(self) -> int:
        """Bytes of expert memory with the predictor's rows, if they are there."""
        return self.lexical_base + self.row_bytes if self.streams_rows else self.memory_bytes

    @property
    def memory_bytes(self) -> int:
        """Bytes of experts, and blobs of dense weights if any, from the base address."""
        return self.config.model.layers * self.config.blob_ids * self.stride
