// The simulated expert memory and its checkers between random reads and writes, whose data are known.
//
// Lines of 16 words; a line has one burst at a time. +ops=N bursts, of which +writes=P of 256 write; +bad=N breaks a rule of
// AXI once: 1 WLAST early, 2 W changes while stalled, 3 AW crosses 4 KiB, 4 size of AW, 5 AW withdrawn. The last line of the
// output has what happened.

`timescale 1ns/1ps

module axi_dram_tb;
    localparam int DATA_BITS = 64, ADDR_BITS = 20, ID_BITS = 3, MEM_WORDS = 1024, LINE = 16, LINES = MEM_WORDS / LINE;
    bit clk = 0, rst = 1;
    always #0.5 clk = ~clk;
    int cycle = 0, seed = 1;
    bit [31:0] violations = 0;
    bit flush_log = 0;
`include "memory_settings.svh"
    logic ar_valid = 0, ar_ready, r_valid, r_ready, r_last;
    logic [ADDR_BITS-1:0] ar_addr, aw_addr;
    logic [ID_BITS-1:0] ar_id, r_id, aw_id, b_id;
    logic [7:0] ar_len, aw_len;
    logic [2:0] ar_size = 3, aw_size = 3;
    logic [1:0] ar_burst = 1, r_resp, aw_burst = 1, mem_b_resp;
    logic [DATA_BITS-1:0] r_data, w_data;
    logic [DATA_BITS/8-1:0] w_strb;
    logic mem_aw_valid = 0, mem_aw_ready, mem_w_valid = 0, mem_w_ready, w_last, mem_b_valid, mem_b_ready = 0;
    bit read_stall = 0;
    assign r_ready = !read_stall;
`include "memory_instance.svh"
`include "axi_checker.svh"

    bit [DATA_BITS-1:0] want [MEM_WORDS], kept [MEM_WORDS];
    bit taken [LINES];
    int line_of_read [8], beat_of_read [8];
    bit reading [8];
    int lines_of_write [8][$];
    typedef struct { bit [ADDR_BITS-1:0] addr; bit [ID_BITS-1:0] id; int len; } burst_t;
    typedef struct { bit [DATA_BITS-1:0] data; bit [DATA_BITS/8-1:0] strb; bit last; } beat_t;
    burst_t aw_queue [$];
    beat_t w_queue [$];
    int ops = 1000, writes = 128, bad = 0, limit = 200000, pause = 0;
    int issued = 0, finished = 0, mismatches = 0, bad_reads = 0, bad_writes = 0, line, id, length, idle = 0;
    bit more;
    beat_t beat;
    initial begin
        void'($value$plusargs("ops=%d", ops));
        void'($value$plusargs("writes=%d", writes));
        void'($value$plusargs("bad=%d", bad));
        void'($value$plusargs("pause=%d", pause));
        void'($value$plusargs("seed=%d", seed));
        void'($value$plusargs("ideal=%d", ideal));
        void'($value$plusargs("stall=%d", mem_stall));
        void'($value$plusargs("reorder=%d", reorder));
        void'($value$plusargs("column_ps=%d", column_ps));
        void'($value$plusargs("fault_count=%d", fault_count));
        void'($value$plusargs("fault_high=%d", fault_high));
        void'($value$plusargs("write_fault_count=%d", write_fault_count));
        void'($value$plusargs("write_fault_high=%d", write_fault_high));
        if (!ideal) begin
            cas_ps = 15000; rcd_ps = 15000; rp_ps = 15000; ras_ps = 35000; rrd_ps = 5000; faw_ps = 20000;
            refresh_interval_ps = 3900000; refresh_ps = 280000; banks = 8;
        end
        void'($urandom(seed));
        #1;
        for (int i = 0; i < MEM_WORDS; i++) want[i] = memory.mem[i];
    end

    function automatic bit chance();
        return int'($urandom_range(255)) >= pause;
    endfunction

    always @(posedge clk) begin
        cycle <= cycle + 1;
        if (cycle == 8) rst <= 0;
        if (!rst) begin
            if (ar_valid && ar_ready) ar_valid <= 0;
            // A new burst on a line of which nothing is under way.
            more = issued < ops && chance();
            line = int'($urandom_range(LINES - 1));
            id = int'($urandom_range(7));
            length = int'($urandom_range(LINE - 1)) + 1;
            if (bad == 3 && issued == 10) begin  // at the end of a page
                line = MEM_WORDS / LINE / 2 - 1;
                length = LINE;
            end
            if (more && !taken[line]) begin
                if (int'($urandom_range(255)) < writes || (bad == 3 && issued == 10)) begin
                    if (aw_queue.size() < 8) begin
                        taken[line] = 1;
                        issued = issued + 1;
                        lines_of_write[id].push_back(line);
                        aw_queue.push_back('{ADDR_BITS'(line * LINE * 8), ID_BITS'(id), length});
                        for (int i = 0; i < LINE; i++) kept[line * LINE + i] = want[line * LINE + i];
                        for (int i = 0; i < length; i++) begin
                            beat.data = {$urandom(), $urandom()};
                            beat.strb = 8'($urandom());
                            beat.last = i == length - 1 || (bad == 1 && issued == 10);
                            w_queue.push_back(beat);
                            for (int j = 0; j < 8; j++) if (beat.strb[j])
                                want[line * LINE + i][8*j +: 8] = beat.data[8*j +: 8];
                        end
                    end
                end else if (!reading[id] && (!ar_valid || ar_ready)) begin
                    taken[line] = 1;
                    reading[id] = 1;
                    issued = issued + 1;
                    line_of_read[id] = line;
                    beat_of_read[id] = 0;
                    ar_valid <= 1;
                    ar_addr <= ADDR_BITS'(line * LINE * 8);
                    ar_id <= ID_BITS'(id);
                    ar_len <= 8'(length - 1);
                end
            end

            // AW and W on their own.
            if (!mem_aw_valid || mem_aw_ready) begin
                mem_aw_valid <= 0;
                if (aw_queue.size() > 0 && chance()) begin
                    mem_aw_valid <= 1;
                    aw_addr <= aw_queue[0].addr + (bad == 3 && aw_queue[0].addr == ADDR_BITS'(4096 - 128) ? 64 : 0);
                    aw_id <= aw_queue[0].id;
                    aw_len <= 8'(aw_queue[0].len - 1);
                    aw_size <= bad == 4 ? 2 : 3;
                    aw_queue.delete(0);
                end
            end else if (bad == 5) mem_aw_valid <= 0;
            if (!mem_w_valid || mem_w_ready) begin
                mem_w_valid <= 0;
                if (w_queue.size() > 0 && chance()) begin
                    mem_w_valid <= 1;
                    w_data <= w_queue[0].data;
                    w_strb <= w_queue[0].strb;
                    w_last <= w_queue[0].last;
                    w_queue.delete(0);
                end
            end else if (bad == 2) w_data <= ~w_data;

            // R and B.
            read_stall <= !chance();
            mem_b_ready <= chance();
            if (r_valid && r_ready) begin
                if (r_resp == 0 && r_data != want[line_of_read[r_id] * LINE + beat_of_read[r_id]]) mismatches = mismatches + 1;
                beat_of_read[r_id] = beat_of_read[r_id] + 1;
                if (r_last) begin
                    if (r_resp != 0) bad_reads = bad_reads + 1;
                    reading[r_id] = 0;
                    taken[line_of_read[r_id]] = 0;
                    finished = finished + 1;
                end
            end
            if (mem_b_valid && mem_b_ready) begin
                line = lines_of_write[b_id].pop_front();
                if (mem_b_resp != 0) begin
                    bad_writes = bad_writes + 1;
                    for (int i = 0; i < LINE; i++) want[line * LINE + i] = kept[line * LINE + i];
                end
                taken[line] = 0;
                finished = finished + 1;
            end
        end
        if (finished == ops || cycle >= limit) begin
            if (idle == 1) for (int i = 0; i < MEM_WORDS; i++) if (!taken[i / LINE] && memory.mem[i] != want[i]) mismatches = mismatches + 1;
            if (idle == 0) flush_log <= 1;
            idle <= idle + 1;
            if (idle == 1) $display(
                "{\"cycles\": %0d, \"finished\": %0d, \"violations\": %0d, \"mismatches\": %0d, ",
                cycle, finished, violations, mismatches,
                "\"bad_reads\": %0d, \"bad_writes\": %0d, \"beats\": %0d, \"write_beats\": %0d}",
                bad_reads, bad_writes, mem_beats, mem_write_beats);
            if (idle == 2) $finish;
        end
    end
endmodule
