"""A part of SDR SDRAM, as its data sheet describes it: contents, and every rule of its timing."""

from dataclasses import dataclass, field

__all__ = ["SdramFault", "SdramModel"]

NOP, WRITE, READ, ACTIVATE, PRECHARGE, REFRESH, MODE = 0, 3, 2, 4, 5, 6, 7
EARLY = -1e12  # long ago


class SdramFault(AssertionError):
    """A rule is broken; the message begins with its name."""


@dataclass
class _Bank:
    row: int | None = None
    activated: float = EARLY
    precharged: float = EARLY
    written: float = EARLY  # last word
    read_until: int = -1  # cycle of the last word


@dataclass
class SdramModel:
    """Sees the pins at each rising edge of its clock, and says what it drives from there on.

    Parameters
    ----------
    part: SdramPart, whose times are held. period: of the clock in ns.

    Attributes
    ----------
    words: contents by bank, row, column; others read as 0. counts: of commands.
    """

    part: object
    period: float
    words: dict = field(default_factory=dict)
    counts: dict = field(default_factory=dict)

    def __post_init__(self):
        self.banks = [_Bank() for _ in range(1 << self.part.bank_bits)]
        self.cycle = -1
        self.closed = self.moded = False
        self.early_refreshes = 0
        self.refreshed = self.set_mode = self.activated = EARLY
        self.debt = None  # ns of refreshing that are owed
        self.burst = self.cas = 0
        self.reads = {}  # cycle -> place of the word that is driven then
        self.writes = {}  # cycle -> place of the word that comes then
        self.masks = {}  # cycle -> dqm of two cycles before

    def fault(self, rule, text):
        raise SdramFault(f"{rule}: {text}, cycle {self.cycle}")

    def least(self, rule, since, ns, what):
        now = self.cycle * self.period
        if now - since < ns - 1e-6:
            self.fault(rule, f"{what} after {now - since:g} ns, {ns:g} are needed")

    def step(self, command, ba, a, dqm, dq, *, selected=1, enabled=1):
        """An edge: a command, and the data pins, None if nobody drives them. The word that is
        driven up to the next edge, or None."""
        part = self.part
        self.cycle += 1
        now = self.cycle * self.period
        command = command if selected and enabled else NOP
        self.counts[command] = self.counts.get(command, 0) + 1
        if command != NOP:
            self.least("POWER-UP", 0, part.power_up, "a command")
        handler = {ACTIVATE: self.activate, READ: self.column, WRITE: self.column,
                   PRECHARGE: self.precharge, REFRESH: self.refresh, MODE: self.mode}.get(command)
        if handler:
            if command not in (PRECHARGE, REFRESH, MODE) and not self.moded:
                self.fault("INITIALISATION", "a bank is used before MODE")
            if command != PRECHARGE or self.moded:
                self.least("tRFC", self.refreshed, part.rfc, "a command")
            self.least("tMRD", self.set_mode, part.mrd, "a command")
            handler(command, self.banks[ba], ba, a)
        if self.debt is not None:
            self.debt += self.period
            if self.debt > 2 * part.refresh:
                self.fault("tREFI", f"{self.debt:g} ns of refreshing are owed")
        for bank in self.banks:
            if bank.row is not None and now - bank.activated > part.ras_most:
                self.fault("tRAS", f"a row is open for more than {part.ras_most:g} ns")

        if self.cycle in self.writes:
            if dq is None:
                self.fault("DATA", "a word that is to be written is not driven")
            place = self.writes.pop(self.cycle)
            was = self.words.get(place, 0)
            keep = sum(0xFF << 8 * lane for lane in range(part.data_bits // 8) if dqm >> lane & 1)
            self.words[place] = (was & keep) | (dq & ~keep)
            self.banks[place[0]].written = now
        elif dq is not None and (self.cycle in self.reads or self.cycle - 1 in self.reads):
            self.fault("DATA", "both sides drive")
        self.reads.pop(self.cycle - 2, None)
        self.masks[self.cycle + 2] = dqm
        mask = self.masks.pop(self.cycle + 1, 0)
        if self.cycle + 1 not in self.reads:
            return None
        if mask:
            self.fault("DATA", "a word that is read is masked")
        return self.words.get(self.reads[self.cycle + 1], 0)

    def activate(self, _, bank, ba, a):
        if bank.row is not None:
            self.fault("BANK", "ACTIVATE of an open bank")
        self.least("tRP", bank.precharged, self.part.rp, "ACTIVATE")
        self.least("tRC", bank.activated, self.part.rc, "ACTIVATE")
        self.least("tRRD", self.activated, self.part.rrd, "ACTIVATE of another bank")
        bank.row = a & ((1 << self.part.row_bits) - 1)
        bank.activated = self.activated = self.cycle * self.period

    def column(self, command, bank, ba, a):
        if bank.row is None:
            self.fault("BANK", "a closed bank is read or written")
        self.least("tRCD", bank.activated, self.part.rcd, "a column")
        start = a & ((1 << self.part.column_bits) - 1)
        if any(cycle >= self.cycle for cycle in self.writes):
            self.fault("BURST", "a burst of writes is cut short")
        latency = self.cas if command == READ else 0
        if any(cycle >= self.cycle + max(1, latency) for cycle in self.reads):
            self.fault("BURST", "a burst of reads is cut short")
        block = start - start % self.burst
        for i in range(self.burst):
            place = (ba, bank.row, block + (start + i) % self.burst)
            (self.reads if command == READ else self.writes)[self.cycle + latency + i] = place
        if command == READ:
            bank.read_until = self.cycle + self.cas + self.burst - 1

    def precharge(self, _, bank, ba, a):
        now = self.cycle * self.period
        for one in self.banks if a >> 10 & 1 else [bank]:
            if one.row is not None:
                self.least("tRAS", one.activated, self.part.ras, "PRECHARGE")
                if any(cycle >= self.cycle for cycle, place in self.writes.items()
                       if self.banks[place[0]] is one):
                    self.fault("tWR", "PRECHARGE within a burst of writes")
                self.least("tWR", one.written, self.part.wr, "PRECHARGE")
                if self.cycle + self.cas - 1 < one.read_until:
                    self.fault("BURST", "PRECHARGE within a burst of reads")
            one.row, one.precharged = None, now
        self.closed = self.closed or bool(a >> 10 & 1)

    def idle(self, what):
        for bank in self.banks:
            if bank.row is not None:
                self.fault("BANK", f"{what} with an open bank")
            self.least("tRP", bank.precharged, self.part.rp, what)

    def refresh(self, *_):
        self.idle("REFRESH")
        for bank in self.banks:
            self.least("tRC", bank.activated, self.part.rc, "REFRESH")
        self.refreshed = self.cycle * self.period
        if self.debt is not None:
            self.debt = max(0.0, self.debt - self.part.refresh)
        elif self.closed:
            self.early_refreshes += 1

    def mode(self, _, bank, ba, a):
        self.idle("MODE")
        if not self.moded and (not self.closed or self.early_refreshes < self.part.refreshes):
            self.fault("INITIALISATION", f"MODE after {self.early_refreshes} refreshes"
                                         + ("" if self.closed else ", without PRECHARGE"))
        self.burst, self.cas = 1 << (a & 7), a >> 4 & 7
        if a & 7 > 3 or a >> 7 or self.cas not in (2, 3) or a >> 3 & 1:
            self.fault("MODE", f"0x{a:x} is no mode that is known here")
        if self.cas < 3 and self.period < self.part.clock_least:
            self.fault("MODE", f"CAS latency {self.cas} at a period of {self.period:g} ns")
        self.set_mode = self.cycle * self.period
        self.moded, self.debt = True, 0.0 if self.debt is None else self.debt
