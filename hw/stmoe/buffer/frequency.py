"""Ageing use frequency of every expert, and the time it says until the next use."""

from amaranth.hdl import Array, Cat, Module, Mux, Signal, unsigned
from amaranth.lib import data, memory, wiring
from amaranth.lib.wiring import In, Out

from ..config import Geometry
from ..interfaces import expert_tag
from .victim import CLOCK_BITS

__all__ = ["LEADERS", "UseFrequency"]

SHIFTS = (1, 3, 5, 4)  # of the two averages over all visits, of those by pattern, by leader
WEIGHTS = (1, 2, 5, 8)
PATTERNS = 4  # of use in two visits
LEADERS = 16
BITS, LED_BITS = 12, 8
INDEX_BITS = 6
WAIT = [round(4096 / (index + 4)) for index in range(1 << INDEX_BITS)]  # in 1/64 token
TOKEN = 64


class UseFrequency(wiring.Component):
    """Updates and reads the averages of an expert per cycle; ``wait`` follows seven cycles later.

    Formats: golden's ``stmoe_golden/buffer/retention.py``, bit for bit. One expert is not to be
    asked for again within three cycles. No back-pressure. Contents are 0 at power-up where the
    technology initialises memory, and are not changed by reset: ``clear`` them.

    Parameters
    ----------
    geometry: Geometry

    Members
    -------
    ask: expert; ``update`` its averages, ``used`` or not, before they are read. ``leader`` of its
        layer's last visit, ``former`` of the one before. layers: of the model.
    wait: answer, quarters of layer visits between its layer's last visit and its use.
    clear, at: sets all of the expert ``at`` to 0, a cycle later; not while anything is asked for.
    """

    def __init__(self, geometry: Geometry):
        g = self.geometry = geometry
        tag = expert_tag(g)
        super().__init__({
            "ask": In(data.StructLayout({
                "valid": 1, "update": 1, "used": 1, "leader": range(LEADERS),
                "former": range(LEADERS), **tag})),
            "layers": In(9),
            "wait": Out(data.StructLayout({"valid": 1, "time": CLOCK_BITS})),
            "clear": In(1), "at": In(data.StructLayout(tag))})

    def elaborate(self, platform):
        m = Module()
        g = self.geometry
        model = g.config.model
        average = unsigned(BITS)
        record = data.StructLayout({
            "all": data.ArrayLayout(average, 2), "pattern": 2,
            "after": data.ArrayLayout(average, PATTERNS)})
        never_met = {"no_rw_check": 1}  # an expert that is written is not read in that cycle
        m.submodules.ram = ram = memory.Memory(
            shape=record, depth=model.layers << g.expert_bits, init=[], attrs=never_met)
        read, write = ram.read_port(), ram.write_port()
        led = data.ArrayLayout(LED_BITS, LEADERS)
        m.submodules.led = led_ram = memory.Memory(
            shape=led, depth=model.layers << g.expert_bits, init=[], attrs=never_met)
        led_read, led_write = led_ram.read_port(), led_ram.write_port(granularity=1)
        asking, asked = Signal.like(self.ask), Signal.like(self.ask)
        old, aged, fresh = Signal(record), Signal(record), Signal(record)
        led_old = Signal(led)
        led_aged, led_fresh, led_former = (
            Signal(LED_BITS), Signal(LED_BITS), Signal(range(LEADERS)))
        led_now = Signal(LED_BITS)
        address, update, shared = (Signal.like(write.addr), Signal(), Signal())
        m.d.comb += [read.addr.eq(Cat(self.ask.expert, self.ask.layer)),
                     led_read.addr.eq(read.addr)]
        m.d.sync += [asking.eq(self.ask), asked.eq(asking), old.eq(read.data),
                     led_old.eq(led_read.data), fresh.eq(aged),
                     update.eq(asked.valid & asked.update),
                     address.eq(Cat(asked.expert, asked.layer)),
                     shared.eq(asked.expert >= model.experts)]

        def age(f, shift):
            return Mux(asked.used, f + ((~f)[:len(f)] >> shift), f - (f >> shift))

        m.d.comb += led_aged.eq(age(led_old[asked.former], SHIFTS[3]))
        m.d.sync += [led_fresh.eq(led_aged), led_former.eq(asked.former), led_now.eq(Mux(
            asked.update & (asked.leader == asked.former), led_aged,
            led_old[asked.leader]))]
        m.d.comb += aged.eq(old)
        with m.If(asked.update):
            m.d.comb += [
                *(aged.all[i].eq(age(old.all[i], SHIFTS[i])) for i in range(2)),
                aged.after[old.pattern].eq(age(Array(old.after)[old.pattern], SHIFTS[2])),
                aged.pattern.eq(Cat(asked.used, old.pattern))]
        clearing, cleared = Signal(), Signal.like(self.at)
        m.d.sync += [clearing.eq(self.clear), cleared.eq(self.at)]
        with m.If(self.clear):
            m.d.sync += [fresh.eq(0), led_fresh.eq(0)]
        m.d.comb += [
            write.en.eq(update | clearing), write.data.eq(fresh),
            write.addr.eq(Mux(clearing, Cat(cleared.expert, cleared.layer), address)),
            led_write.addr.eq(write.addr), led_write.en.eq(Mux(
                clearing, (1 << LEADERS) - 1, Mux(update, 1 << led_former, 0))),
            *(entry.eq(led_fresh) for entry in led_write.data)]

        mixed, shared_parts, shared_mixed = Signal(INDEX_BITS), Signal(), Signal()
        weighted = unsigned(BITS + (max(WEIGHTS) - 1).bit_length())
        parts = Signal(data.ArrayLayout(weighted, len(WEIGHTS)))
        tokens = Signal(range(max(WAIT) + 1))
        time = Signal(CLOCK_BITS)
        valid = Signal(7)

        def times(weight, f):
            """By additions, which are over sooner than a multiplier."""
            return sum(f << place for place in range(weight.bit_length()) if weight >> place & 1)

        m.d.sync += [
            *(parts[i].eq(times(WEIGHTS[i], part)) for i, part in enumerate((
                fresh.all[0], fresh.all[1], Array(fresh.after)[fresh.pattern],
                led_now << (BITS - LED_BITS)))),
            mixed.eq(((parts[0] + parts[1]) + (parts[2] + parts[3]))
                     >> (BITS + sum(WEIGHTS).bit_length() - 1 - INDEX_BITS)),
            shared_parts.eq(shared), shared_mixed.eq(shared_parts),
            valid.eq(Cat(self.ask.valid, valid)),
            time.eq((self.layers * tokens) >> 4)]
        with m.Switch(mixed):
            for index, value in enumerate(WAIT):
                with m.Case(index):
                    m.d.sync += tokens.eq(value)
        with m.If(shared_mixed):
            m.d.sync += tokens.eq(TOKEN)
        m.d.comb += [self.wait.valid.eq(valid[-1]), self.wait.time.eq(time)]
        return m
