// Expert memory: an AXI4 read-only subordinate with the timing of a DRAM, loaded by back door.
//
// Order of work: bursts are taken from AR into a queue of QUEUE entries; each is cut into column accesses of COLUMN bytes,
// one of which is scheduled per cycle against open rows, activation limits, the data bus and refresh, all in picoseconds.
// A beat is offered on R once its column access and the controller's latency have passed. With `reorder` the next burst is
// picked at random among those of other ids that are queued; bursts of one id stay in order. `ideal` drops all DRAM timing:
// one beat a cycle after the fixed latency. Faults: the first `fault_count` bursts that touch [fault_low, fault_high] answer
// with `fault_resp` on their last beat. Settings are inputs, so that one build serves every memory.

module axi_dram #(
    parameter int DATA_BITS = 64,
    parameter int ADDR_BITS = 40,
    parameter int ID_BITS = 3,
    parameter int MEM_WORDS = 1024,
    parameter int QUEUE = 16,
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
    // What happened.
    output longint unsigned beats, row_hits, row_misses, row_conflicts, refreshes, faults
);
    localparam int BYTES = DATA_BITS / 8;
    localparam int LOG_BYTES = $clog2(BYTES);
    localparam int LOG_COLUMN = $clog2(COLUMN);

    bit [DATA_BITS-1:0] mem [0:MEM_WORDS-1];
    string image;
    integer file, got;
    initial if ($value$plusargs("image=%s", image)) begin
        file = $fopen(image, "rb");
        if (file == 0) $fatal(1, "expert memory: cannot read %s", image);
        got = $fread(mem, file);
        $fclose(file);
        if (got != MEM_WORDS * BYTES) $fatal(1, "expert memory: %s holds %0d bytes, not %0d", image, got, MEM_WORDS * BYTES);
    end

    longint unsigned now = 0;
    bit [31:0] noise = 1;
    bit seeded = 0;

    // Queue of accepted bursts; entry 0 is the oldest.
    logic [ADDR_BITS-1:0] q_addr [QUEUE];
    logic [ID_BITS-1:0] q_id [QUEUE];
    logic [7:0] q_len [QUEUE];
    int q_count = 0;

    // The burst being scheduled, and its beats that may be offered at `due`.
    bit busy = 0;
    logic [ADDR_BITS-1:0] addr;
    logic [ID_BITS-1:0] id;
    int left;           // beats of the burst not yet scheduled
    bit faulty;

    // Scheduled beats, in order.
    localparam int DEPTH = 512;
    longint unsigned b_due [DEPTH];
    logic [ADDR_BITS-1:0] b_addr [DEPTH];
    logic [ID_BITS-1:0] b_id [DEPTH];
    logic [1:0] b_resp [DEPTH];
    bit b_last [DEPTH];
    int b_head = 0, b_count = 0;

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

    function automatic bit touches(logic [ADDR_BITS-1:0] start, logic [7:0] len);
        return 64'(start) <= fault_high && 64'(start) + (64'(len) + 1) * BYTES > fault_low;
    endfunction

    int in_flight = 0;  // bursts accepted and not yet finished on R
    assign ar_ready = !rst && q_count < QUEUE && in_flight < outstanding && int'(noise[23:16]) >= stall;

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
    bit pushed;
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
        if ((!r_valid || r_ready) && b_count > 0 && b_due[b_head] <= now && int'(noise[7:0]) >= stall) begin
            word = 64'(b_addr[b_head]) >> LOG_BYTES;
            r_valid <= 1;
            r_data <= word < MEM_WORDS ? mem[word] : '0;
            r_id <= b_id[b_head];
            r_resp <= word < MEM_WORDS ? b_resp[b_head] : 2'b11;
            r_last <= b_last[b_head];
            b_head = (b_head + 1) % DEPTH;
            b_count = b_count - 1;
        end
        // AR.
        if (ar_valid && ar_ready) begin
            q_addr[q_count] = ar_addr;
            q_id[q_count] = ar_id;
            q_len[q_count] = ar_len;
            q_count = q_count + 1;
            in_flight = in_flight + 1;
        end
        // Next burst: the oldest, or with `reorder` one whose id has no older burst.
        if (!busy && q_count > 0) begin
            pick = 0;
            if (reorder) begin
                pick = int'(noise[15:8]) % q_count;
                for (int i = QUEUE - 1; i >= 0; i--) if (i < pick && q_id[i] == q_id[pick]) pick = i;
            end
            busy = 1;
            addr = q_addr[pick];
            id = q_id[pick];
            left = int'(q_len[pick]) + 1;
            faulty = faults < 64'(fault_count) && touches(q_addr[pick], q_len[pick]);
            if (faulty) faults <= faults + 1;
            for (int i = 0; i < QUEUE - 1; i++) if (i >= pick) begin
                q_addr[i] = q_addr[i+1]; q_id[i] = q_id[i+1]; q_len[i] = q_len[i+1];
            end
            q_count = q_count - 1;
        end
        // One column access a cycle.
        if (busy && b_count + COLUMN / BYTES + 1 < DEPTH) begin
            if (ideal) due = now;
            else column_access(addr, due);
            beats_here = COLUMN / BYTES > 0 ? (COLUMN - int'(addr[LOG_COLUMN-1:0])) / BYTES : 1;
            if (beats_here < 1) beats_here = 1;
            for (int i = 0; i < (COLUMN / BYTES > 0 ? COLUMN / BYTES : 1); i++) if (i < beats_here && left > 0) begin
                slot_at = (b_head + b_count) % DEPTH;
                b_due[slot_at] = due + 64'(latency_ps);
                b_addr[slot_at] = addr;
                b_id[slot_at] = id;
                b_last[slot_at] = left == 1;
                b_resp[slot_at] = faulty && left == 1 ? fault_resp : 2'b00;
                b_count = b_count + 1;
                addr = addr + ADDR_BITS'(BYTES);
                left = left - 1;
            end
            if (left == 0) busy = 0;
        end
        if (rst) begin
            r_valid <= 0;
            q_count = 0; b_count = 0; busy = 0; in_flight = 0;
            beats <= 0; row_hits <= 0; row_misses <= 0; row_conflicts <= 0; refreshes <= 0; faults <= 0;
        end
    end
endmodule
