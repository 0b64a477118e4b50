// Expert memory: an AXI4 subordinate with the timing of a DRAM, loaded and dumped by back door.
//
// Order of work: bursts are taken from AR, and from AW once all their data have come on W, into a queue of QUEUE entries;
// each is cut into column accesses of COLUMN bytes, one of which is scheduled per cycle against open rows, activation
// limits, the data bus, which reads and writes share, and refresh, all in picoseconds. A beat is offered on R, or stored,
// once its column access and the controller's latency have passed; a write is answered on B behind its last beat. With
// `reorder` the next burst is picked at random among those of other ids that are queued; reads of one id stay in order, as
// do its writes. `ideal` drops all DRAM timing: one beat a cycle, read or written, after the fixed latency. Faults: the first
// `fault_count` reads that touch [fault_low, fault_high] answer with `fault_resp` on their last beat, and likewise the first
// `write_fault_count` writes, which then store nothing. Corruption: of the beats read from [corrupt_low, corrupt_high] one in
// `corrupt_every` comes with other data and no word of it, until `corrupt_count` have: one bit flipped, or by `corrupt_mode`
// 1 a random pattern, 2 all bits. `hold` keeps from the bus: 0 AR, 1 R, 2 AW and W, 3 B; what is offered already stays.
// Settings are inputs, so that one build serves every memory.
//
// Back door: +image=FILE fills the memory from its start with binary words, of +image_words=N, by default all; the rest is 0.
// +rows=FILE +rows_at=W puts +rows_words=N words from word W on behind that. When `dump` toggles, +dump=FILE is written:
// +dump_words=N words from word +dump_at=W on, as $writememh does.

module axi_dram #(
    parameter int DATA_BITS = 64,
    parameter int ADDR_BITS = 40,
    parameter int ID_BITS = 3,
    parameter int MEM_WORDS = 1024,
    parameter int QUEUE = 24,         // 16 reads, 8 writes
    parameter int COLUMN = 64,
    parameter int BANKS = 16
) (
    input logic clk, rst,
    // Settings, constant while in use.
    input int clk_ps, column_ps, latency_ps, cas_ps, rcd_ps, rp_ps, ras_ps, rrd_ps, faw_ps, refresh_interval_ps, refresh_ps,
    input int banks, row_bytes, outstanding, stall, seed,
    input bit ideal, reorder,
    input longint unsigned fault_low, fault_high,
    input int fault_count,
    input bit [1:0] fault_resp,
    input longint unsigned write_fault_low, write_fault_high,
    input int write_fault_count,
    input longint unsigned corrupt_low, corrupt_high,
    input int corrupt_count, corrupt_every, corrupt_mode,
    input bit [3:0] hold,
    input bit dump,
    // AXI4 read channels.
    input logic ar_valid,
    output logic ar_ready,
    input logic [ADDR_BITS-1:0] ar_addr,
    input logic [ID_BITS-1:0] ar_id,
    input logic [7:0] ar_len,
    output logic r_valid,
    input logic r_ready,
    output logic [DATA_BITS-1:0] r_data,
    output logic [ID_BITS-1:0] r_id,
    output logic [1:0] r_resp,
    output logic r_last,
    // AXI4 write channels.
    input logic aw_valid,
    output logic aw_ready,
    input logic [ADDR_BITS-1:0] aw_addr,
    input logic [ID_BITS-1:0] aw_id,
    input logic [7:0] aw_len,
    input logic w_valid,
    output logic w_ready,
    input logic [DATA_BITS-1:0] w_data,
    input logic [DATA_BITS/8-1:0] w_strb,
    input logic w_last,
    output logic b_valid,
    input logic b_ready,
    output logic [ID_BITS-1:0] b_id,
    output logic [1:0] b_resp,
    // What happened.
    output longint unsigned beats, row_hits, row_misses, row_conflicts, refreshes, faults, write_beats, write_faults, corrupted,
    output bit [3:0] held  // something waits for `hold`
);
    localparam int BYTES = DATA_BITS / 8;
    localparam int LOG_BYTES = $clog2(BYTES);
    localparam int LOG_COLUMN = $clog2(COLUMN);

    bit [DATA_BITS-1:0] mem [0:MEM_WORDS-1];
    task automatic load(input string name, input int at, input int words);
        integer file, got;
        file = $fopen(name, "rb");
        if (file == 0) $fatal(1, "expert memory: cannot read %s", name);
        got = $fread(mem, file, at, words);
        $fclose(file);
        if (got != words * BYTES) $fatal(1, "expert memory: %s holds %0d bytes, not %0d", name, got, words * BYTES);
    endtask

    string image, rows, dumped;
    int image_words, rows_at, rows_words, dump_at, dump_words;
    initial begin
        if (!$value$plusargs("image_words=%d", image_words)) image_words = MEM_WORDS;
        if ($value$plusargs("image=%s", image)) load(image, 0, image_words);
        if ($value$plusargs("rows=%s", rows) && $value$plusargs("rows_at=%d", rows_at)
            && $value$plusargs("rows_words=%d", rows_words)) load(rows, rows_at, rows_words);
    end
    always @(dump) if ($value$plusargs("dump=%s", dumped) && $value$plusargs("dump_at=%d", dump_at)
                       && $value$plusargs("dump_words=%d", dump_words))
        $writememh(dumped, mem, dump_at, dump_at + dump_words - 1);

    longint unsigned now = 0;
    bit [31:0] noise = 1;
    bit seeded = 0;

    // Queue of accepted bursts; entry 0 is the oldest.
    logic [ADDR_BITS-1:0] q_addr [QUEUE];
    logic [ID_BITS-1:0] q_id [QUEUE];
    logic [7:0] q_len [QUEUE];
    bit q_write [QUEUE];
    int q_slot [QUEUE];  // of a write
    int q_count = 0;

    // Writes, from the first that is heard of them to their response: slots, in order of AW and of W.
    localparam int SLOTS = 8;
    logic [ADDR_BITS-1:0] s_addr [SLOTS];
    logic [ID_BITS-1:0] s_id [SLOTS];
    logic [7:0] s_len [SLOTS];
    bit [DATA_BITS-1:0] s_data [SLOTS * 256];
    bit [BYTES-1:0] s_strb [SLOTS * 256];
    bit addressed [SLOTS], filled [SLOTS];
    bit launched [SLOTS];
    int aw_slot = 0, w_slot = 0, w_beat = 0, launch_slot = 0;

    // Responses to writes, in order.
    int p_slot [SLOTS];
    logic [1:0] p_resp [SLOTS];
    int p_head = 0, p_count = 0;

    // The burst being scheduled, and its beats that may be offered at `due`.
    bit busy = 0;
    logic [ADDR_BITS-1:0] addr;
    logic [ID_BITS-1:0] id;
    int left;           // beats of the burst not yet scheduled
    bit faulty, writes;
    int beat;           // of a write, in s_data

    // Scheduled beats, in order.
    localparam int DEPTH = 512;
    longint unsigned t_due [DEPTH];
    logic [ADDR_BITS-1:0] t_addr [DEPTH];
    logic [ID_BITS-1:0] t_id [DEPTH];
    logic [1:0] t_resp [DEPTH];
    bit t_last [DEPTH];
    bit t_write [DEPTH];
    int t_beat [DEPTH];
    int t_head = 0, t_count = 0;

    // DRAM state.
    bit open [BANKS];
    longint unsigned row [BANKS];
    longint unsigned bank_ready [BANKS];     // earliest next command
    longint unsigned activated [BANKS];
    longint unsigned last_activate = 0;
    longint unsigned window [4];             // last four activations
    longint unsigned bus_free = 0, next_refresh = 1000000;

    function automatic longint unsigned later(longint unsigned a, longint unsigned b);
        return a > b ? a : b;
    endfunction

    function automatic bit touches(logic [ADDR_BITS-1:0] start, logic [7:0] len,
                                   longint unsigned low, longint unsigned high);
        return 64'(start) <= high && 64'(start) + (64'(len) + 1) * BYTES > low;
    endfunction

    int in_flight = 0;  // bursts accepted and not yet finished on R
    assign ar_ready = !rst && q_count < QUEUE && in_flight < outstanding && int'(noise[23:16]) >= stall && !hold[0];
    assign aw_ready = !rst && !addressed[aw_slot] && int'(noise[19:12]) >= stall && !hold[2];
    assign w_ready = !rst && !filled[w_slot] && int'(noise[27:20]) >= stall && !hold[2];
    always_comb begin
        held[0] = hold[0] && ar_valid;
        held[1] = hold[1] && !r_valid && t_count > 0 && t_due[t_head] <= now && !t_write[t_head];
        held[2] = hold[2] && (aw_valid || w_valid);
        held[3] = hold[3] && !b_valid && p_count > 0;
    end

    // Corruption of the beat that is offered next.
    int in_range = 0;
    function automatic bit [DATA_BITS-1:0] wrong_bits();
        bit [DATA_BITS-1:0] pattern;
        pattern = '0;
        if (corrupt_mode == 2) pattern = '1;
        else if (corrupt_mode == 1) begin
            for (int i = 0; i < DATA_BITS / 32; i++) pattern[32*i +: 32] = noise * (32'(2 * i) + 32'h9e3779b1);
            pattern[0] = 1;
        end else pattern[int'(noise[16:8]) % DATA_BITS] = 1;
        return pattern;
    endfunction

    task automatic column_access(input logic [ADDR_BITS-1:0] at, output longint unsigned ready);
        longint unsigned line, this_row, t, column_at;
        int bank;
        line = 64'(at) / 64'(row_bytes);
        bank = int'(line % 64'(banks));
        this_row = line / 64'(banks);
        t = later(now, bank_ready[bank]);
        // A row may be opened ahead of time; a column is read when its data has a place on the bus.
        column_at = bus_free > 64'(cas_ps) ? bus_free - 64'(cas_ps) : 0;
        if (refresh_interval_ps != 0 && later(t, column_at) >= next_refresh) begin
            t = later(t, next_refresh + 64'(refresh_ps));
            for (int i = 0; i < BANKS; i++) begin
                open[i] = 0;
                bank_ready[i] = later(bank_ready[i], next_refresh + 64'(refresh_ps));
            end
            next_refresh = next_refresh + 64'(refresh_interval_ps);
            if (next_refresh < t) next_refresh = t + 64'(refresh_interval_ps);
            refreshes <= refreshes + 1;
        end
        if (open[bank] && row[bank] == this_row) row_hits <= row_hits + 1;
        else begin
            if (open[bank]) begin
                t = later(t, activated[bank] + 64'(ras_ps)) + 64'(rp_ps);
                row_conflicts <= row_conflicts + 1;
            end else row_misses <= row_misses + 1;
            t = later(t, later(last_activate + 64'(rrd_ps), window[3] + 64'(faw_ps)));
            window[3] = window[2]; window[2] = window[1]; window[1] = window[0]; window[0] = t;
            last_activate = t;
            activated[bank] = t;
            open[bank] = 1;
            row[bank] = this_row;
            t = t + 64'(rcd_ps);
        end
        t = later(t, column_at);
        bank_ready[bank] = t;
        ready = later(t + 64'(cas_ps), bus_free) + 64'(column_ps);
        bus_free = ready;
    endtask

    longint unsigned due;
    int pick, beats_here, slot_at;
    longint unsigned word;
    always @(posedge clk) begin
        if (!seeded) begin
            noise = 32'(seed) | 32'h1;
            seeded <= 1;
        end
        noise = noise ^ (noise << 13); noise = noise ^ (noise >> 17); noise = noise ^ (noise << 5);
        now = now + 64'(clk_ps);
        // Idle refreshes pass without anybody noticing but for the closed rows.
        if (!ideal && refresh_interval_ps != 0 && !busy && now > next_refresh + 64'(refresh_ps)) begin
            next_refresh = next_refresh + 64'(refresh_interval_ps);
            refreshes <= refreshes + 1;
            for (int i = 0; i < BANKS; i++) open[i] = 0;
        end
        // R: take what was accepted, then offer the next.
        if (r_valid && r_ready) begin
            beats <= beats + 1;
            if (r_last) in_flight = in_flight - 1;
            r_valid <= 0;
        end
        word = 64'(t_addr[t_head]) >> LOG_BYTES;
        if (t_count > 0 && t_due[t_head] <= now && t_write[t_head]) begin
            if (word < MEM_WORDS && t_resp[t_head] == 0)
                for (int i = 0; i < BYTES; i++) if (s_strb[t_beat[t_head]][i])
                    mem[word][8*i +: 8] = s_data[t_beat[t_head]][8*i +: 8];
            write_beats <= write_beats + 1;
            if (t_last[t_head]) begin
                p_slot[(p_head + p_count) % SLOTS] = t_beat[t_head] / 256;
                p_resp[(p_head + p_count) % SLOTS] = word < MEM_WORDS ? t_resp[t_head] : 2'b11;
                p_count = p_count + 1;
            end
            t_head = (t_head + 1) % DEPTH;
            t_count = t_count - 1;
        end else if ((!r_valid || r_ready) && t_count > 0 && t_due[t_head] <= now && int'(noise[7:0]) >= stall && !hold[1]) begin
            r_valid <= 1;
            r_data <= word < MEM_WORDS ? mem[word] : '0;
            if (corrupted < 64'(corrupt_count) && 64'(t_addr[t_head]) + 64'(BYTES) > corrupt_low
                    && 64'(t_addr[t_head]) <= corrupt_high && word < MEM_WORDS) begin
                if (in_range == 0) begin
                    r_data <= mem[word] ^ wrong_bits();
                    corrupted <= corrupted + 1;
                end
                in_range = in_range + 1 < corrupt_every ? in_range + 1 : 0;
            end
            r_id <= t_id[t_head];
            r_resp <= word < MEM_WORDS ? t_resp[t_head] : 2'b11;
            r_last <= t_last[t_head];
            t_head = (t_head + 1) % DEPTH;
            t_count = t_count - 1;
        end
        // AR.
        if (ar_valid && ar_ready) begin
            q_addr[q_count] = ar_addr;
            q_id[q_count] = ar_id;
            q_len[q_count] = ar_len;
            q_write[q_count] = 0;
            q_count = q_count + 1;
            in_flight = in_flight + 1;
        end
        // B.
        if (b_valid && b_ready) b_valid <= 0;
        if ((!b_valid || b_ready) && p_count > 0 && int'(noise[31:24]) >= stall && !hold[3]) begin
            b_valid <= 1;
            b_id <= s_id[p_slot[p_head]];
            b_resp <= p_resp[p_head];
            addressed[p_slot[p_head]] = 0;
            filled[p_slot[p_head]] = 0;
            launched[p_slot[p_head]] = 0;
            p_head = (p_head + 1) % SLOTS;
            p_count = p_count - 1;
        end
        // AW and W, whose bursts are in the same order; what has come whole is queued.
        if (aw_valid && aw_ready) begin
            s_addr[aw_slot] = aw_addr;
            s_id[aw_slot] = aw_id;
            s_len[aw_slot] = aw_len;
            addressed[aw_slot] = 1;
            aw_slot = (aw_slot + 1) % SLOTS;
        end
        if (w_valid && w_ready) begin
            s_data[w_slot * 256 + w_beat] = w_data;
            s_strb[w_slot * 256 + w_beat] = w_strb;
            w_beat = (w_beat + 1) % 256;
            if (w_last) begin
                filled[w_slot] = 1;
                w_slot = (w_slot + 1) % SLOTS;
                w_beat = 0;
            end
        end
        if (addressed[launch_slot] && filled[launch_slot] && !launched[launch_slot]) begin
            q_addr[q_count] = s_addr[launch_slot];
            q_id[q_count] = s_id[launch_slot];
            q_len[q_count] = s_len[launch_slot];
            q_write[q_count] = 1;
            q_slot[q_count] = launch_slot;
            q_count = q_count + 1;
            launched[launch_slot] = 1;
            launch_slot = (launch_slot + 1) % SLOTS;
        end
        // Next burst: the oldest, or with `reorder` one whose id has no older burst.
        if (!busy && q_count > 0) begin
            pick = 0;
            if (reorder) begin
                pick = int'(noise[15:8]) % q_count;
                for (int i = QUEUE - 1; i >= 0; i--) if (i < pick && q_id[i] == q_id[pick] && q_write[i] == q_write[pick]) pick = i;
            end
            busy = 1;
            addr = q_addr[pick];
            id = q_id[pick];
            left = int'(q_len[pick]) + 1;
            writes = q_write[pick];
            beat = q_slot[pick] * 256;
            if (writes) begin
                faulty = write_faults < 64'(write_fault_count)
                    && touches(q_addr[pick], q_len[pick], write_fault_low, write_fault_high);
                if (faulty) write_faults <= write_faults + 1;
            end else begin
                faulty = faults < 64'(fault_count) && touches(q_addr[pick], q_len[pick], fault_low, fault_high);
                if (faulty) faults <= faults + 1;
            end
            for (int i = 0; i < QUEUE - 1; i++) if (i >= pick) begin
                q_addr[i] = q_addr[i+1]; q_id[i] = q_id[i+1]; q_len[i] = q_len[i+1];
                q_write[i] = q_write[i+1]; q_slot[i] = q_slot[i+1];
            end
            q_count = q_count - 1;
        end
        // One column access a cycle.
        if (busy && t_count + COLUMN / BYTES + 1 < DEPTH) begin
            if (ideal) due = now;
            else column_access(addr, due);
            beats_here = COLUMN / BYTES > 0 ? (COLUMN - int'(addr[LOG_COLUMN-1:0])) / BYTES : 1;
            if (beats_here < 1) beats_here = 1;
            for (int i = 0; i < (COLUMN / BYTES > 0 ? COLUMN / BYTES : 1); i++) if (i < beats_here && left > 0) begin
                slot_at = (t_head + t_count) % DEPTH;
                t_due[slot_at] = due + 64'(latency_ps);
                t_addr[slot_at] = addr;
                t_id[slot_at] = id;
                t_last[slot_at] = left == 1;
                t_resp[slot_at] = faulty && (left == 1 || writes) ? fault_resp : 2'b00;
                t_write[slot_at] = writes;
                t_beat[slot_at] = beat;
                beat = beat + 1;
                t_count = t_count + 1;
                addr = addr + ADDR_BITS'(BYTES);
                left = left - 1;
            end
            if (left == 0) busy = 0;
        end
        if (rst) begin
            r_valid <= 0;
            b_valid <= 0;
            q_count = 0; t_count = 0; busy = 0; in_flight = 0;
            for (int i = 0; i < SLOTS; i++) begin addressed[i] = 0; filled[i] = 0; launched[i] = 0; end
            aw_slot = 0; w_slot = 0; w_beat = 0; launch_slot = 0; p_count = 0;
        end
    end
endmodule
