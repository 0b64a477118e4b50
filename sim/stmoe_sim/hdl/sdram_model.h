// A part of SDR SDRAM at the pins of a simulated board: contents, and the rules of its data sheet.
// tests/support/sdram_model.py is the same in Python, for Amaranth's simulator. A broken rule ends
// the program with status 3 and its name on standard error.

#pragma once

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <string>
#include <vector>

struct SdramPart {  // fields of the Python class of this name; times in ns
    double bank_bits = 0, row_bits = 0, column_bits = 0, data_bits = 0, rc = 0, ras = 0,
        ras_most = 0, rcd = 0, rp = 0, rrd = 0, rfc = 0, wr = 0,
        mrd = 0, refresh = 0, power_up = 0, refreshes = 0, cas = 0, clock_least = 0;

    // Set a field by its name; false if there is none.
    bool set(const std::string &name, double value) {
        const std::map<std::string, double *> fields{
            {"bank_bits", &bank_bits}, {"row_bits", &row_bits}, {"column_bits", &column_bits},
            {"data_bits", &data_bits}, {"rc", &rc}, {"ras", &ras},
            {"ras_most", &ras_most}, {"rcd", &rcd}, {"rp", &rp},
            {"rrd", &rrd}, {"rfc", &rfc}, {"wr", &wr},
            {"mrd", &mrd}, {"refresh", &refresh}, {"power_up", &power_up},
            {"refreshes", &refreshes}, {"cas", &cas}, {"clock_least", &clock_least}};
        const auto found = fields.find(name);
        if (found == fields.end()) return false;
        *found->second = value;
        return true;
    }
};

class SdramModel {
  public:
    struct Stuck {
        uint64_t word = ~0ull;  // the first of up to four
        uint64_t mask = 0, value = 0;
    };

    // period: of the clock in ns.
    SdramModel(double period, const SdramPart &part, Stuck stuck)
        : period_(period), t_(part), stuck_(stuck), banks_(1u << unsigned(part.bank_bits)),
          words_(size_t(1) << unsigned(part.bank_bits + part.row_bits + part.column_bits), 0) {}

    // An edge of the part's clock; the word that is driven up to the next, -1: none.
    int step(unsigned command, unsigned ba, unsigned a, unsigned dqm, bool driven, unsigned dq) {
        ++cycle_;
        const double now = cycle_ * period_;
        if (command) least("POWER-UP", 0, t_.power_up);
        const bool column = command == READ || command == WRITE;
        if ((column || command == ACTIVATE) && !moded_) fault("INITIALISATION: no MODE yet");
        if (command && (command != PRECHARGE || moded_)) least("tRFC", refreshed_, t_.rfc);
        if (command) least("tMRD", set_, t_.mrd);
        if (command == ACTIVATE) activate(banks_[ba], a);
        if (column) access(command == READ, ba, a);
        if (command == PRECHARGE) precharge(ba, a);
        if (command == REFRESH) refresh();
        if (command == MODE) mode(a);
        if (moded_ && (debt_ += period_) > 2 * t_.refresh) fault("tREFI: too few refreshes");
        for (const Bank &bank : banks_)
            if (bank.row >= 0 && now - bank.activated > t_.ras_most) fault("tRAS: open too long");
        Slot &slot = slots_[cycle_ % SLOTS];
        if (slot.kind == Slot::WRITTEN) {
            if (!driven) fault("DATA: a word that is to be written is not driven");
            write(slot.place, dqm, dq);
            banks_[slot.bank].written = now;
        } else if (driven && (slot.kind == Slot::DRIVEN || before_ == Slot::DRIVEN)) {
            fault("DATA: both sides drive");
        }
        before_ = slot.kind;
        slot = Slot{};
        const Slot &next = slots_[(cycle_ + 1) % SLOTS];
        const unsigned masked = mask_;  // of the cycle before: two ahead of the word
        mask_ = dqm;
        if (next.kind != Slot::DRIVEN) return -1;
        if (masked) fault("DATA: a word that is read is masked");
        return words_[next.place];
    }

  private:
    enum { WRITE = 3, READ = 2, ACTIVATE = 4, PRECHARGE = 5, REFRESH = 6, MODE = 7, SLOTS = 32 };
    static constexpr double EARLY = -1e12;
    struct Bank {
        int row = -1;
        double activated = EARLY, precharged = EARLY, written = EARLY;
        int64_t read_until = -1;
    };
    struct Slot {  // of the data pins in a cycle
        enum Kind { NOTHING, DRIVEN, WRITTEN } kind = NOTHING;
        size_t place = 0;
        unsigned bank = 0;
    };

    [[noreturn]] void fault(const std::string &text) const {
        std::fprintf(stderr, "sdram: %s, cycle %lld\n", text.c_str(),
                     static_cast<long long>(cycle_));
        std::exit(3);
    }
    void least(const char *rule, double since, double ns) const {
        if (cycle_ * period_ - since < ns - 1e-6) fault(std::string(rule) + ": too early");
    }
    bool any(Slot::Kind kind, int64_t from, int bank = -1) const {  // in this cycle or later
        for (int64_t at = from; at < cycle_ + SLOTS; ++at) {
            const Slot &slot = slots_[at % SLOTS];
            if (slot.kind == kind && (bank < 0 || slot.bank == unsigned(bank))) return true;
        }
        return false;
    }

    void activate(Bank &bank, unsigned a) {
        if (bank.row >= 0) fault("BANK: ACTIVATE of an open bank");
        least("tRP", bank.precharged, t_.rp);
        least("tRC", bank.activated, t_.rc);
        least("tRRD", activated_, t_.rrd);
        bank.row = int(a & ((1u << unsigned(t_.row_bits)) - 1));
        bank.activated = activated_ = cycle_ * period_;
    }
    void access(bool reads, unsigned ba, unsigned a) {
        Bank &bank = banks_[ba];
        if (bank.row < 0) fault("BANK: a closed bank is read or written");
        least("tRCD", bank.activated, t_.rcd);
        const int64_t latency = reads ? cas_ : 0;
        if (any(Slot::WRITTEN, cycle_)) fault("BURST: writes are cut short");
        if (any(Slot::DRIVEN, cycle_ + (latency ? latency : 1))) fault("BURST: reads are cut short");
        const unsigned columns = unsigned(t_.column_bits), start = a & ((1u << columns) - 1);
        for (unsigned i = 0; i < burst_; ++i) {
            const unsigned column = (start & ~(burst_ - 1)) | ((start + i) & (burst_ - 1));
            Slot &slot = slots_[(cycle_ + latency + i) % SLOTS];
            slot.kind = reads ? Slot::DRIVEN : Slot::WRITTEN;
            slot.bank = ba;
            slot.place = ((size_t(bank.row) << unsigned(t_.bank_bits) | ba) << columns) | column;
        }
        if (reads) bank.read_until = cycle_ + cas_ + burst_ - 1;
    }
    void precharge(unsigned ba, unsigned a) {
        const bool all = a >> 10 & 1;
        for (unsigned b = all ? 0 : ba; b < (all ? banks_.size() : ba + 1); ++b) {
            Bank &bank = banks_[b];
            if (bank.row >= 0) {
                least("tRAS", bank.activated, t_.ras);
                if (any(Slot::WRITTEN, cycle_, int(b))) fault("tWR: PRECHARGE within a burst");
                least("tWR", bank.written, t_.wr);
                if (cycle_ + cas_ - 1 < bank.read_until) fault("BURST: PRECHARGE of a burst");
            }
            bank.row = -1;
            bank.precharged = cycle_ * period_;
        }
        closed_ = closed_ || all;
    }
    void idle() const {
        for (const Bank &bank : banks_) {
            if (bank.row >= 0) fault("BANK: REFRESH or MODE with an open bank");
            least("tRP", bank.precharged, t_.rp);
        }
    }
    void refresh() {
        idle();
        for (const Bank &bank : banks_) least("tRC", bank.activated, t_.rc);
        refreshed_ = cycle_ * period_;
        if (moded_) debt_ = debt_ > t_.refresh ? debt_ - t_.refresh : 0;
        else if (closed_) ++early_;
    }
    void mode(unsigned a) {
        idle();
        if (!moded_ && (!closed_ || early_ < t_.refreshes)) fault("INITIALISATION: too early");
        burst_ = 1u << (a & 7);
        cas_ = a >> 4 & 7;
        if ((a & 7) > 3 || a >> 7 || a >> 3 & 1 || cas_ < 2 || cas_ > 3) fault("MODE: unknown");
        if (cas_ < 3 && period_ < t_.clock_least) fault("MODE: CAS latency for a slower clock");
        set_ = cycle_ * period_;
        moded_ = true;
    }
    void write(size_t place, unsigned dqm, unsigned dq) {
        uint16_t keep = uint16_t((dqm & 1 ? 0xFF : 0) | (dqm & 2 ? 0xFF00 : 0));
        uint16_t word = uint16_t((words_[place] & keep) | (dq & ~keep));
        const uint64_t at = place - stuck_.word;
        if (at < 4) {
            const uint16_t mask = uint16_t(stuck_.mask >> 16 * at);
            word = uint16_t((word & ~mask) | (uint16_t(stuck_.value >> 16 * at) & mask));
        }
        words_[place] = word;
    }

    const double period_;
    const SdramPart t_;
    const Stuck stuck_;
    std::vector<Bank> banks_;
    std::vector<uint16_t> words_;
    Slot slots_[SLOTS];
    Slot::Kind before_ = Slot::NOTHING;
    int64_t cycle_ = -1;
    unsigned mask_ = 0, burst_ = 1;
    int64_t cas_ = 2;
    int early_ = 0;
    bool closed_ = false, moded_ = false;
    double debt_ = 0, refreshed_ = EARLY, set_ = EARLY, activated_ = EARLY;
};
