// The prefetch DMA alone on the simulated expert memory, one expert after the other.
//
// +mode=0: +orders=N demands, as fast as they are taken. 1: the same beats, asked for by an AXI manager that does nothing
// else: what the memory gives. 2: a demand every so often, its first beat timed; with +load=1 while prefetches take all the
// link has. Memory settings are plusargs. Contents are zeros with their CRCs. The last line of the output has what happened.

`timescale 1ns/1ps

module dma_tb #(
    parameter int DATA_BITS = 64, ADDR_BITS = 40, ID_BITS = 3, SLOT_BITS = 3, EXPERT_BITS = 5, BEAT_BITS = 14,
    parameter int MEM_WORDS = 1024, EXPERTS = 32, TILE_BEATS = 64, BURST_BEATS = 64, OUTSTANDING = 8
) ();
    localparam int BYTES = DATA_BITS / 8;
    bit clk = 0, rst = 1;
    always #0.5 clk = ~clk;
    int cycle = 0, seed = 1;
    bit [31:0] violations = 0;
    bit flush_log = 0;
`include "memory_settings.svh"
    logic ar_valid, ar_ready, r_valid, r_ready, r_last;
    logic [ADDR_BITS-1:0] ar_addr, aw_addr = 0;
    logic [ID_BITS-1:0] ar_id, r_id, aw_id = 0, b_id;
    logic [7:0] ar_len, aw_len = 0;
    logic [2:0] ar_size, aw_size = 0;
    logic [1:0] ar_burst, r_resp, aw_burst = 0, mem_b_resp;
    logic [DATA_BITS-1:0] r_data, w_data = 0;
    logic [DATA_BITS/8-1:0] w_strb = 0;
    logic mem_aw_valid = 0, mem_aw_ready, mem_w_valid = 0, mem_w_ready, w_last = 0, mem_b_valid, mem_b_ready = 1;
`include "memory_instance.svh"
`include "axi_checker.svh"

    int mode = 0, orders = 64, load = 0, blob_beats = 64, stride = 512, gap = 400, sealed = 1;
    bit [31:0] crc_full = 0, crc_last = 0;
    initial begin
        void'($value$plusargs("mode=%d", mode)); void'($value$plusargs("orders=%d", orders));
        void'($value$plusargs("load=%d", load)); void'($value$plusargs("blob_beats=%d", blob_beats));
        void'($value$plusargs("stride=%d", stride)); void'($value$plusargs("gap=%d", gap));
        void'($value$plusargs("crc_full=%h", crc_full)); void'($value$plusargs("crc_last=%h", crc_last));
        void'($value$plusargs("sealed=%d", sealed)); void'($value$plusargs("seed=%d", seed));
        void'($value$plusargs("ideal=%d", ideal)); void'($value$plusargs("clk_ps=%d", clk_ps));
        void'($value$plusargs("column_ps=%d", column_ps)); void'($value$plusargs("latency_ps=%d", latency_ps));
        void'($value$plusargs("cas_ps=%d", cas_ps)); void'($value$plusargs("rcd_ps=%d", rcd_ps));
        void'($value$plusargs("rp_ps=%d", rp_ps)); void'($value$plusargs("ras_ps=%d", ras_ps));
        void'($value$plusargs("rrd_ps=%d", rrd_ps)); void'($value$plusargs("faw_ps=%d", faw_ps));
        void'($value$plusargs("refresh_interval_ps=%d", refresh_interval_ps));
        void'($value$plusargs("refresh_ps=%d", refresh_ps)); void'($value$plusargs("banks=%d", banks));
        void'($value$plusargs("row_bytes=%d", row_bytes)); void'($value$plusargs("mem_outstanding=%d", mem_outstanding));
        #1;
        if (sealed != 0) for (int e = 0; e < EXPERTS; e++) for (int b = TILE_BEATS - 1; b < blob_beats + TILE_BEATS - 1; b += TILE_BEATS)
            memory.mem[e * (stride / BYTES) + (b < blob_beats ? b : blob_beats - 1)] = DATA_BITS'(b < blob_beats ? crc_full : crc_last);
        void'($urandom(seed));
    end

    // The DMA, and the plain manager of mode 1 in its place.
    logic dma_ar_valid;
    logic [ADDR_BITS-1:0] dma_ar_addr;
    logic [ID_BITS-1:0] dma_ar_id;
    logic [7:0] dma_ar_len;
    logic [2:0] dma_ar_size;
    logic [1:0] dma_ar_burst;
    logic demand_valid = 0, demand_ready, prefetch_valid = 0, prefetch_ready, fill_valid, status_valid, r_taken, corrupted_now, first_beat_valid;
    logic [15:0] first_beat_cycles;
    logic [SLOT_BITS-1:0] demand_slot = 0, prefetch_slot = 0, fill_slot, status_slot;
    logic [EXPERT_BITS-1:0] demand_expert = 0, prefetch_expert = 0;
    logic [1:0] status_kind;
    stmoe dut (
        .clk, .rst, .demand_valid, .demand_ready, .demand_slot, .demand_expert, .prefetch_valid, .prefetch_ready,
        .prefetch_slot, .prefetch_expert, .fill_valid, .fill_slot, .fill_beat(), .fill_data(), .status_valid, .status_slot, .status_kind,
        .retried(), .corrupted(corrupted_now), .first_beat_valid, .first_beat_cycles, .blob_beats(BEAT_BITS'(blob_beats)), .stride(32'(stride)),
        .m_axi_arvalid(dma_ar_valid), .m_axi_arready(ar_ready && mode != 1), .m_axi_araddr(dma_ar_addr), .m_axi_arid(dma_ar_id),
        .m_axi_arlen(dma_ar_len), .m_axi_arsize(dma_ar_size), .m_axi_arburst(dma_ar_burst), .m_axi_rvalid(r_valid && mode != 1),
        .m_axi_rready(r_taken), .m_axi_rdata(r_data), .m_axi_rid(r_id), .m_axi_rresp(r_resp), .m_axi_rlast(r_last));
    int plain_beat = 0, plain_order = 0, plain_id = 0, plain_len;
    bit id_used [OUTSTANDING];
    always_comb begin
        plain_len = TILE_BEATS < BURST_BEATS ? TILE_BEATS : BURST_BEATS;
        if (plain_len > blob_beats - plain_beat) plain_len = blob_beats - plain_beat;
    end
    assign ar_valid = mode == 1 ? !rst && plain_order < orders && !id_used[plain_id] : dma_ar_valid;
    assign ar_addr = mode == 1 ? ADDR_BITS'(plain_order % EXPERTS * stride + plain_beat * BYTES) : dma_ar_addr;
    assign ar_id = mode == 1 ? ID_BITS'(plain_id) : dma_ar_id;
    assign ar_len = mode == 1 ? 8'(plain_len - 1) : dma_ar_len;
    assign ar_size = mode == 1 ? 3'($clog2(BYTES)) : dma_ar_size;
    assign ar_burst = mode == 1 ? 2'b01 : dma_ar_burst;
    assign r_ready = mode == 1 || r_taken;

    int ordered = 0, finished = 0, first = 0, last = 0, beats = 0, wrong = 0, prefetched = 0;
    int asked = 0, wait_left = 200, timed = 0, worst = 0, best = 1 << 30;
    longint total = 0, counted = 0;  // as this bench and as the DMA's counter have it
    int counted_worst = 0;
    bit waiting = 0, done = 0;
    always @(posedge clk) begin
        cycle <= cycle + 1;
        if (cycle == 8) rst <= 0;
        if (!rst && !done) begin
            if (r_valid && r_ready) begin
                if (beats == 0) first = cycle;
                beats = beats + 1;
                last = cycle;
                if (mode == 1 && r_last) id_used[r_id] = 0;
            end
            wrong = wrong + int'(corrupted_now);
            if (mode == 2 && first_beat_valid) begin
                counted = counted + 64'(first_beat_cycles);
                if (int'(first_beat_cycles) > counted_worst) counted_worst = int'(first_beat_cycles);
            end
            if (mode == 1 && ar_valid && ar_ready) begin
                id_used[plain_id] = 1;
                plain_id = (plain_id + 1) % OUTSTANDING;
                plain_beat = plain_beat + plain_len;
                if (plain_beat == blob_beats) begin
                    plain_beat = 0;
                    plain_order = plain_order + 1;
                end
            end
            if (status_valid && status_kind == 1) finished = finished + 1;
            if (status_valid && status_kind == 2) wrong = wrong + 1;
            // Demands: all at once, or one by one.
            if (demand_valid && demand_ready) begin
                ordered = ordered + 1;
                demand_valid <= 0;
            end
            if (mode == 0 && (!demand_valid || demand_ready)) begin
                demand_valid <= ordered < orders;
                demand_slot <= SLOT_BITS'(ordered % 8);
                demand_expert <= EXPERT_BITS'(ordered % EXPERTS);
            end
            if (mode == 2) begin
                wait_left = wait_left - 1;
                if (!waiting && wait_left <= 0 && timed < orders) begin
                    waiting = 1;
                    asked = cycle;
                    demand_valid <= 1;
                    demand_slot <= SLOT_BITS'(6 + timed % 2);
                    demand_expert <= EXPERT_BITS'($urandom_range(EXPERTS - 1));
                end
                // The order is seen in the cycle after `asked`; a beat is filled in one cycle after it came.
                if (waiting && ordered > timed && fill_valid && fill_slot == demand_slot) begin
                    total = total + 64'(cycle - asked - 2);
                    if (cycle - asked - 2 > worst) worst = cycle - asked - 2;
                    if (cycle - asked - 2 < best) best = cycle - asked - 2;
                    timed = timed + 1;
                end
                if (status_valid && status_kind == 1 && status_slot == demand_slot && ordered == timed && waiting) begin
                    waiting = 0;
                    wait_left = gap + int'($urandom_range(200));
                end
                if (load != 0) begin
                    if (prefetch_valid && prefetch_ready) prefetched = prefetched + 1;
                    prefetch_valid <= 1;
                    prefetch_slot <= SLOT_BITS'(prefetched % 6);
                    prefetch_expert <= EXPERT_BITS'(prefetched % EXPERTS);
                end
            end
            if ((mode == 0 && finished == orders) || (mode == 1 && beats == orders * blob_beats) || (mode == 2 && timed == orders)) begin
                done <= 1;
                $display("{\"beats\": %0d, \"cycles\": %0d, \"wrong\": %0d, \"violations\": %0d, \"mean\": %0d, \"worst\": %0d, \"best\": %0d, \"prefetched\": %0d, \"end\": %0d}",
                         beats, last - first + 1, wrong + int'(counted != total || counted_worst != worst), violations, timed > 0 ? total / 64'(timed) : 0, worst, best, prefetched, cycle);
                $finish;
            end
            if (cycle > 4000000) begin
                $display("{\"hung\": 1, \"wrong\": %0d, \"finished\": %0d}", wrong, finished);
                $finish;
            end
        end
    end
endmodule
