"""AXI4-Lite subordinate that turns bus traffic into single-cycle accesses of 32-bit words."""

from amaranth.hdl import Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

__all__ = ["ADDRESS_BITS", "AxiLiteFront", "axil_members"]

ADDRESS_BITS = 12
OKAY, SLVERR = 0, 2


def axil_members() -> dict[str, wiring.Member]:
    """The flat AXI4-Lite members of a subordinate, 32 bits of data, 4 KiB of addresses."""
    return {
        "awaddr": In(ADDRESS_BITS), "awprot": In(3), "awvalid": In(1), "awready": Out(1),
        "wdata": In(32), "wstrb": In(4), "wvalid": In(1), "wready": Out(1),
        "bresp": Out(2), "bvalid": Out(1), "bready": In(1),
        "araddr": In(ADDRESS_BITS), "arprot": In(3), "arvalid": In(1), "arready": Out(1),
        "rdata": Out(32), "rresp": Out(2), "rvalid": Out(1), "rready": In(1)}


class AxiLiteFront(wiring.Component):
    """One write and one read in flight, independently of one another.

    Write address and write data are taken in any order, each into a register; the access happens
    in the cycle after the later of the two, the response follows a cycle later and holds until it
    is taken. A read's word is known in the cycle after its address, the access follows a cycle
    later, its data is valid the cycle after that; ``read_wait`` puts the access off. Throughput: a
    write every three cycles, a read every four. No output depends on an input of the bus within a
    cycle. Address bits 1:0 and ``prot`` are ignored. Reset: nothing in flight.

    Members
    -------
    awaddr .. rready: AXI4-Lite, subordinate side.
    write, write_word, write_data, write_mask: a write access; mask and data of 32 bits each.
    write_bad: answers ``write`` in the same cycle; the response is then SLVERR.
    reading, read_word: a read access is due, the word a cycle before it too. read_wait: not in this
        cycle. read: the access. read_data, read_bad: answer in the same cycle.
    """

    def __init__(self):
        super().__init__({
            **axil_members(),
            "write": Out(1), "write_word": Out(ADDRESS_BITS - 2), "write_data": Out(32),
            "write_mask": Out(32), "write_bad": In(1),
            "reading": Out(1), "read_wait": In(1), "read": Out(1),
            "read_word": Out(ADDRESS_BITS - 2), "read_data": In(32), "read_bad": In(1)})

    def elaborate(self, platform):
        m = Module()

        have_address, have_data = Signal(), Signal()
        strobe = Signal(4)
        m.d.comb += [
            self.awready.eq(~have_address), self.wready.eq(~have_data),
            self.write.eq(have_address & have_data & ~self.bvalid)]
        for byte in range(4):
            m.d.comb += self.write_mask[8 * byte:8 * byte + 8].eq(strobe[byte].replicate(8))
        with m.If(self.awvalid & self.awready):
            m.d.sync += [have_address.eq(1), self.write_word.eq(self.awaddr[2:])]
        with m.If(self.wvalid & self.wready):
            m.d.sync += [have_data.eq(1), self.write_data.eq(self.wdata), strobe.eq(self.wstrb)]
        with m.If(self.write):
            m.d.sync += [have_address.eq(0), have_data.eq(0), self.bvalid.eq(1),
                         self.bresp.eq(self.write_bad << 1)]
        with m.Elif(self.bready):
            m.d.sync += self.bvalid.eq(0)

        have_read, settled = Signal(), Signal()
        m.d.comb += [
            self.arready.eq(~have_read), self.reading.eq(have_read & settled & ~self.rvalid),
            self.read.eq(self.reading & ~self.read_wait)]
        m.d.sync += settled.eq(have_read & ~self.read)
        with m.If(self.arvalid & self.arready):
            m.d.sync += [have_read.eq(1), self.read_word.eq(self.araddr[2:])]
        with m.If(self.read):
            m.d.sync += [have_read.eq(0), self.rvalid.eq(1), self.rdata.eq(self.read_data),
                         self.rresp.eq(self.read_bad << 1)]
        with m.Elif(self.rready):
            m.d.sync += self.rvalid.eq(0)
        return m
