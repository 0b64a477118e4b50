"""Ageing use frequency of every expert, and the time it says until the next use."""

from amaranth.hdl import Cat, Module, Mux, Signal, unsigned
from amaranth.lib import data, memory, wiring
from amaranth.lib.wiring import In, Out

from ..config import Geometry
from ..interfaces import expert_tag
from .victim import CLOCK_BITS

__all__ = ["UseFrequency"]

SHIFTS = (1, 3, 6)  # forgetting over 2, 8 and 64 visits
WEIGHTS = (3, 5, 8)
BITS = 12
INDEX_BITS = 6
WAIT = [round(4096 / (index + 4)) for index in range(1 << INDEX_BITS)]  # in 1/64 token
TOKEN = 64


class UseFrequency(wiring.Component):
    """Updates and reads the frequency of an expert per cycle; ``wait`` follows five cycles later.

    Formats: golden's ``stmoe_golden/buffer/retention.py``, bit for bit. One expert is not to be
    asked for again within two cycles. No back-pressure. Contents are 0 at power-up where the
    technology initialises memory, and are not changed by reset: ``clear`` them.

    Parameters
    ----------
    geometry: Geometry

    Members
    -------
    ask: expert; ``update`` its frequency, ``used`` or not, before it is read. layers: of the model.
    wait: answer, quarters of layer visits between its layer's last visit and its use.
    clear, at: sets the frequency of the expert ``at`` to 0; not while anything is asked for.
    """

    def __init__(self, geometry: Geometry):
        g = self.geometry = geometry
        tag = expert_tag(g)
        super().__init__({
            "ask": In(data.StructLayout({"valid": 1, "update": 1, "used": 1, **tag})),
            "layers": In(9),
            "wait": Out(data.StructLayout({"valid": 1, "time": CLOCK_BITS})),
            "clear": In(1), "at": In(data.StructLayout(tag))})

    def elaborate(self, platform):
        m = Module()
        g = self.geometry
        model = g.config.model
        m.submodules.ram = ram = memory.Memory(
            shape=data.ArrayLayout(unsigned(BITS), len(SHIFTS)),
            depth=model.layers << g.expert_bits, init=[])
        read, write = ram.read_port(), ram.write_port()
        asked = Signal.like(self.ask)
        aged, fresh = Signal(read.data.shape()), Signal(read.data.shape())
        address, update, shared = (Signal.like(write.addr), Signal(), Signal())
        m.d.comb += read.addr.eq(Cat(self.ask.expert, self.ask.layer))
        m.d.sync += [asked.eq(self.ask), fresh.eq(aged), update.eq(asked.valid & asked.update),
                     address.eq(Cat(asked.expert, asked.layer)),
                     shared.eq(asked.expert >= model.experts)]
        for i, shift in enumerate(SHIFTS):
            f = read.data[i]
            m.d.comb += aged[i].eq(Mux(asked.update, Mux(
                asked.used, f + ((~f)[:BITS] >> shift), f - (f >> shift)), f))
        m.d.comb += [
            write.en.eq(update | self.clear),
            write.addr.eq(Mux(self.clear, Cat(self.at.expert, self.at.layer), address)),
            write.data.eq(Mux(self.clear, 0, fresh.as_value()))]

        mixed, shared_mixed = Signal(INDEX_BITS), Signal()
        tokens = Signal(range(max(WAIT) + 1))
        time = Signal(CLOCK_BITS)
        valid = Signal(5)
        m.d.sync += [
            mixed.eq(sum(w * fresh[i] for i, w in enumerate(WEIGHTS)) >> (BITS + 4 - INDEX_BITS)),
            shared_mixed.eq(shared), valid.eq(Cat(self.ask.valid, valid)),
            time.eq((self.layers * tokens) >> 4)]
        with m.Switch(mixed):
            for index, value in enumerate(WAIT):
                with m.Case(index):
                    m.d.sync += tokens.eq(value)
        with m.If(shared_mixed):
            m.d.sync += tokens.eq(TOKEN)
        m.d.comb += [self.wait.valid.eq(valid[-1]), self.wait.time.eq(time)]
        return m
