// A board's pins at the other end of two pipes: bytes from standard input go, as a UART sends them,
// to pin rx; bytes that pin tx sends go to standard output. Ends with the input. While nothing is on
// its way, simulated time stands still.
//
// With SDRAM_PINS, its pins lead to a model of the part, half a cycle behind the board's clock.
//
// Arguments: clock Hz, baud, then NAME=VALUE: stuck_word, stuck_mask and stuck_value, of SDRAM; fields
// of SdramPart.

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <poll.h>
#include <string>
#include <unistd.h>

#include "Vboard.h"
#include "sdram_model.h"
#include "verilated.h"

namespace {

constexpr uint64_t BIT = 1ull << 32;  // a bit time
constexpr int QUIET = 64;             // cycles without activity until time stands still
constexpr int LOOK = 256;             // cycles between looks at the input

class Sender {  // towards rx
  public:
    explicit Sender(uint64_t step) : step_(step) {}
    bool idle() const { return bits_ == 0; }
    void start(uint8_t byte) {
        shift_ = static_cast<uint16_t>(byte << 1 | 0x200);
        if (bits_ == 0) phase_ = 0;
        bits_ = 10;
    }
    // Level of this cycle; may leave the sender idle behind the stop bit.
    bool next() {
        if (bits_ == 0) return true;
        bool level = shift_ & 1;
        phase_ += step_;
        if (phase_ >= BIT) {
            phase_ -= BIT;
            shift_ >>= 1;
            --bits_;
        }
        return level;
    }

  private:
    uint64_t step_, phase_ = 0;
    uint16_t shift_ = 0;
    int bits_ = 0;
};

class Receiver {  // from tx
  public:
    explicit Receiver(uint64_t step) : step_(step) {}
    bool idle() const { return bits_ == 0; }
    // Whether a byte ends with this level.
    bool next(bool level, uint8_t &byte) {
        if (bits_ == 0) {
            if (!level) {
                bits_ = 10;
                phase_ = BIT / 2;
            }
            return false;
        }
        phase_ += step_;
        if (phase_ < BIT) return false;
        phase_ -= BIT;
        if (--bits_ == 0) {
            byte = static_cast<uint8_t>(shift_ >> 1);
            return level;
        }
        shift_ = static_cast<uint16_t>(shift_ >> 1 | (level << 8));
        return false;
    }

  private:
    uint64_t step_, phase_ = 0;
    uint16_t shift_ = 0;
    int bits_ = 0;
};

}  // namespace

int main(int argc, char **argv) {
    if (argc < 3) return 2;
    const uint64_t step = static_cast<uint64_t>(
        static_cast<double>(BIT) * std::atof(argv[2]) / std::atof(argv[1]));
    VerilatedContext context;
    Vboard board{&context};
    SdramModel::Stuck stuck;
    SdramPart part;
    for (int i = 3; i < argc; ++i) {
        const std::string text = argv[i];
        const size_t equals = text.find('=');
        if (equals == std::string::npos) return 2;
        const std::string name = text.substr(0, equals);
        const char *value = argv[i] + equals + 1;
        if (name == "stuck_word") stuck.word = std::strtoull(value, nullptr, 0);
        else if (name == "stuck_mask") stuck.mask = std::strtoull(value, nullptr, 0);
        else if (name == "stuck_value") stuck.value = std::strtoull(value, nullptr, 0);
        else if (!part.set(name, std::strtod(value, nullptr))) return 2;
    }
#ifdef SDRAM_PINS
    SdramModel sdram{1e9 / std::atof(argv[1]), part, stuck};
#endif
    Sender sender(step);
    Receiver receiver(step);
    std::string input;
    size_t taken = 0;
    int quiet = 0, wait = 0;
    board.rst = 1;
    for (uint64_t cycle = 0;; ++cycle) {
        if (cycle == 4) board.rst = 0;
        if (taken == input.size() && --wait <= 0) {
            pollfd source{STDIN_FILENO, POLLIN, 0};
            if (poll(&source, 1, quiet > QUIET ? -1 : 0) > 0) {
                char buffer[4096];
                const ssize_t count = read(STDIN_FILENO, buffer, sizeof buffer);
                if (count <= 0) break;
                input.assign(buffer, static_cast<size_t>(count));
                taken = 0;
                quiet = 0;
            }
            wait = quiet > QUIET ? 0 : sender.idle() ? LOOK / 8 : LOOK;
        }
        if (sender.idle() && taken < input.size()) {
            sender.start(static_cast<uint8_t>(input[taken++]));
        }
        board.rx = sender.next();
        board.clk = 0;
        board.eval();
#ifdef SDRAM_PINS
        const bool selected = board.cs && board.clk_en;
        const int word = sdram.step(
            selected ? unsigned(board.ras) << 2 | unsigned(board.cas) << 1 | board.we : 0, board.ba,
            board.a, board.dqm, board.dq_oe, board.dq_o);
        board.dq_i = word < 0 ? 0xDEAD : uint16_t(word);
#endif
        board.clk = 1;
        board.eval();
        uint8_t byte;
        if (receiver.next(board.tx, byte) && write(STDOUT_FILENO, &byte, 1) != 1) break;
        const bool still = sender.idle() && receiver.idle() && !board.active && cycle > 16;
        quiet = still ? quiet + 1 : 0;
    }
    return 0;
}
