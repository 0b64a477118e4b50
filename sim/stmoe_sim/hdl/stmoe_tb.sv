// Simulated top: clock, reset, the accelerator, expert memory, checkers, and drivers that act per command.
//
// Python writes a command into the driver's registers, toggles `go`, and waits for `done` to follow; it never acts per
// cycle. A command is `cmd_count` words on s_axis_cmd and `act_count` words on s_axis_act, sent side by side after `delay`
// cycles counted from the end of the previous command; with `want_result` the command ends with the last result beat.
// Register accesses go through an AXI4-Lite manager with the same handshake. Events and predictions go to the file
// named by +log; every record is one line. Random stalls are seeded by +seed. With STMOE_WRITES the accelerator has the write
// channels of AXI4; toggling `flush_log` also dumps the memory, see axi_dram.sv, and what predictors hold, see back_door.py.

// What goes wrong on purpose: memory_settings.svh has the errors of the memory; an *episode* keeps a port still, see below;
// toggling `reset_go` asserts rst for 8 cycles, `reset_wait` cycles later, and ends the command.

`timescale 1ns/1ps

module stmoe_tb #(
    parameter int ACT_BITS = 128,
    parameter int RES_BITS = 64,
    parameter int ACT_WORDS = 4,       // most activation words of a command
    parameter int RES_BEATS = 16,      // most result beats of a command
    parameter int CMD_WORDS = 17,
    parameter int DATA_BITS = 64,
    parameter int ADDR_BITS = 40,
    parameter int ID_BITS = 3,
    parameter int MEM_WORDS = 1024,
    parameter int LAYER_BITS = 3,
    parameter int EXPERT_BITS = 5,
    parameter int SLOT_BITS = 7,
    parameter int SCORE_BITS = 6
) ();
    bit clk /* verilator public_flat_rw */ = 0;
    bit rst = 1;
    always #0.5 clk = ~clk;

    longint unsigned cycle /* verilator public_flat_rw */ = 0;
    int rst_left = 8;
    bit reset_go /* verilator public_flat_rw */ = 0;
    bit reset_armed /* verilator public_flat_rw */ = 0;  // until it has come, or Python forgoes it
    int reset_wait /* verilator public_flat_rw */ = 0;
    int resets /* verilator public_flat_rw */ = 0;
    bit reset_seen = 0;
    always @(posedge clk) begin
        cycle <= cycle + 1;
        if (rst_left > 0) rst_left <= rst_left - 1;
        rst <= rst_left > 0;
        if (reset_go != reset_seen) begin
            reset_seen <= reset_go;
            reset_armed <= 1;
        end else if (reset_armed && sending) begin
            reset_wait <= reset_wait - 1;
            if (reset_wait <= 0) begin
                reset_armed <= 0;
                rst_left <= 8;
                rst <= 1;
                resets <= resets + 1;
            end
        end
    end

    // Driver registers.
    bit go /* verilator public_flat_rw */ = 0;
    bit done /* verilator public_flat_rw */ = 0;
    int delay /* verilator public_flat_rw */ = 0;
    int cmd_count /* verilator public_flat_rw */ = 0;
    int act_count /* verilator public_flat_rw */ = 0;
    bit want_result /* verilator public_flat_rw */ = 0;
    bit [64*CMD_WORDS-1:0] cmd_data /* verilator public_flat_rw */ = 0;
    bit [ACT_BITS*ACT_WORDS-1:0] act_data /* verilator public_flat_rw */ = 0;
    bit [RES_BITS*RES_BEATS-1:0] res_data /* verilator public_flat_rw */ = 0;
    int res_beats /* verilator public_flat_rw */ = 0;
    bit res_error /* verilator public_flat_rw */ = 0;
    int stall /* verilator public_flat_rw */ = 0;  // chance of a stall per stream and cycle, of 256

    bit reg_go /* verilator public_flat_rw */ = 0;
    bit reg_done /* verilator public_flat_rw */ = 0;
    bit reg_write /* verilator public_flat_rw */ = 0;
    bit [11:0] reg_addr /* verilator public_flat_rw */ = 0;
    bit [31:0] reg_wdata /* verilator public_flat_rw */ = 0;
    bit [31:0] reg_rdata /* verilator public_flat_rw */ = 0;
    bit [1:0] reg_resp /* verilator public_flat_rw */ = 0;

    // Sticky verdicts of the checkers.
    bit [31:0] violations /* verilator public_flat_rw */ = 0;
    bit irq_seen /* verilator public_flat_rw */ = 0;

    // Memory settings; names as in memories.toml.
`include "memory_settings.svh"

    logic cmd_valid, cmd_ready, act_valid, act_ready, res_valid, res_ready, res_last, res_user;
    logic [63:0] cmd_word;
    logic [ACT_BITS-1:0] act_word;
    logic [RES_BITS-1:0] res_word;
    logic aw_valid, aw_ready, w_valid, w_ready, b_valid, b_ready, arl_valid, arl_ready, rl_valid, rl_ready;
    logic [1:0] b_resp, rl_resp;
    logic [31:0] rl_data;
    logic irq;

    logic ar_valid, ar_ready, r_valid, r_ready, r_last;
    logic [ADDR_BITS-1:0] ar_addr;
    logic [ID_BITS-1:0] ar_id, r_id;
    logic [7:0] ar_len;
    logic [2:0] ar_size;
    logic [1:0] ar_burst, r_resp;
    logic [DATA_BITS-1:0] r_data;

    logic mem_aw_valid, mem_aw_ready, mem_w_valid, mem_w_ready, w_last, mem_b_valid, mem_b_ready;
    logic [ADDR_BITS-1:0] aw_addr;
    logic [ID_BITS-1:0] aw_id, b_id;
    logic [7:0] aw_len;
    logic [2:0] aw_size;
    logic [1:0] aw_burst, mem_b_resp;
    logic [DATA_BITS-1:0] w_data;
    logic [DATA_BITS/8-1:0] w_strb;
`ifndef STMOE_WRITES
    assign mem_aw_valid = 0;
    assign mem_w_valid = 0;
    assign mem_b_ready = 1;
`endif

    bit flush_log /* verilator public_flat_rw */ = 0;

    logic ev_valid;
    logic [4:0] ev_kind;
    logic [LAYER_BITS-1:0] ev_layer, pr_layer;
    logic [EXPERT_BITS-1:0] ev_expert, pr_expert;
    logic [SLOT_BITS-1:0] ev_slot;
    logic [23:0] ev_arg;
    logic pr_valid, pr_end;
    logic signed [SCORE_BITS-1:0] pr_score;

    stmoe dut (
        .clk, .rst,
        .s_axil_awaddr(reg_addr), .s_axil_awprot(3'b0), .s_axil_awvalid(aw_valid), .s_axil_awready(aw_ready),
        .s_axil_wdata(reg_wdata), .s_axil_wstrb(4'hf), .s_axil_wvalid(w_valid), .s_axil_wready(w_ready),
        .s_axil_bresp(b_resp), .s_axil_bvalid(b_valid), .s_axil_bready(b_ready),
        .s_axil_araddr(reg_addr), .s_axil_arprot(3'b0), .s_axil_arvalid(arl_valid), .s_axil_arready(arl_ready),
        .s_axil_rdata(rl_data), .s_axil_rresp(rl_resp), .s_axil_rvalid(rl_valid), .s_axil_rready(rl_ready),
        .s_axis_cmd_tdata(cmd_word), .s_axis_cmd_tvalid(cmd_valid), .s_axis_cmd_tready(cmd_ready),
        .s_axis_act_tdata(act_word), .s_axis_act_tvalid(act_valid), .s_axis_act_tready(act_ready),
        .m_axis_res_tdata(res_word), .m_axis_res_tvalid(res_valid), .m_axis_res_tready(res_ready),
        .m_axis_res_tlast(res_last), .m_axis_res_tuser(res_user),
        .m_axi_araddr(ar_addr), .m_axi_arid(ar_id), .m_axi_arlen(ar_len), .m_axi_arsize(ar_size),
        .m_axi_arburst(ar_burst), .m_axi_arvalid(ar_valid), .m_axi_arready(ar_ready),
        .m_axi_arlock(), .m_axi_arcache(), .m_axi_arprot(), .m_axi_arqos(),
        .m_axi_rdata(r_data), .m_axi_rid(r_id), .m_axi_rresp(r_resp), .m_axi_rlast(r_last),
        .m_axi_rvalid(r_valid), .m_axi_rready(r_ready),
`ifdef STMOE_WRITES
        .m_axi_awaddr(aw_addr), .m_axi_awid(aw_id), .m_axi_awlen(aw_len), .m_axi_awsize(aw_size),
        .m_axi_awburst(aw_burst), .m_axi_awvalid(mem_aw_valid), .m_axi_awready(mem_aw_ready),
        .m_axi_awlock(), .m_axi_awcache(), .m_axi_awprot(), .m_axi_awqos(),
        .m_axi_wdata(w_data), .m_axi_wstrb(w_strb), .m_axi_wlast(w_last),
        .m_axi_wvalid(mem_w_valid), .m_axi_wready(mem_w_ready),
        .m_axi_bid(b_id), .m_axi_bresp(mem_b_resp), .m_axi_bvalid(mem_b_valid), .m_axi_bready(mem_b_ready),
`endif
        .irq,
        .event_valid(ev_valid), .event_kind(ev_kind), .event_layer(ev_layer), .event_expert(ev_expert),
        .event_slot(ev_slot), .event_arg(ev_arg),
        .predict_valid(pr_valid), .predict_layer(pr_layer), .predict_expert(pr_expert),
        .predict_score(pr_score), .predict_end(pr_end)
    );

`include "memory_instance.svh"

    // Seeded stalls: one xorshift a cycle, a byte per stream.
    bit [31:0] noise = 32'h1;
    bit stall_cmd, stall_act, stall_res;
    int seed;
    initial if ($value$plusargs("seed=%d", seed)) noise = 32'(seed) | 32'h1;
    always @(posedge clk) begin
        automatic bit [31:0] x = noise;
        x ^= x << 13; x ^= x >> 17; x ^= x << 5;
        noise <= x;
        stall_cmd <= int'(x[7:0]) < stall;
        stall_act <= int'(x[15:8]) < stall;
        stall_res <= int'(x[23:16]) < stall;
    end

    // Episodes: a port of `freeze_ports` (0 cmd, 1 act, 2 res, 3 AR, 4 R, 5 AW and W, 6 B, 7 registers) is kept still for 1 to
    // `freeze_length` cycles. One begins with `freeze_chance` of 65536 a cycle, until `freeze_most` have kept something waiting.
    bit [7:0] freeze_ports /* verilator public_flat_rw */ = 0;
    int freeze_chance /* verilator public_flat_rw */ = 0;
    int freeze_length /* verilator public_flat_rw */ = 1;
    int freeze_most /* verilator public_flat_rw */ = 0;
    int freezes /* verilator public_flat_rw */ = 0;
    int freeze_left = 0;
    bit [7:0] frozen = 0, felt = 0;
    wire [7:0] waits = {(reg_busy && (b_valid || rl_valid)), mem_held[3:0],
                        res_valid, act_index < act_count, cmd_index < cmd_count};
    bit [31:0] chaos = 32'h2545f491;
    assign mem_hold = frozen[6:3];
    always @(posedge clk) begin
        automatic bit [31:0] x = chaos;
        x ^= x << 13; x ^= x >> 17; x ^= x << 5;
        chaos <= x;
        if (freeze_left > 0) freeze_left <= freeze_left - 1;
        else begin
            frozen <= 0;
            felt <= 0;
            if (freezes < freeze_most && int'(x[15:0]) < freeze_chance) begin
                frozen <= freeze_ports;
                freeze_left <= 1 + int'(x[31:16]) % freeze_length;
            end
        end
        if (frozen != 0 && (frozen & waits) != 0 && felt == 0 && (sending || reg_busy)) begin
            felt <= 1;
            freezes <= freezes + 1;
        end
    end

    // Command driver.
    int wait_left = 0, cmd_index = 0, act_index = 0, res_index = 0;
    bit busy = 0, sending = 0;
    int since_done = 0;
    bit cmd_offered = 0, act_offered = 0;
    // An offered word stays offered until it is taken.
    assign cmd_valid = sending && cmd_index < cmd_count && (cmd_offered || !(stall_cmd || frozen[0]));
    assign act_valid = sending && act_index < act_count && (act_offered || !(stall_act || frozen[1]));
    assign cmd_word = cmd_data[64*cmd_index +: 64];
    assign act_word = act_data[ACT_BITS*act_index +: ACT_BITS];
    assign res_ready = !stall_res && !frozen[2];
    always @(posedge clk) begin
        since_done <= since_done + 1;
        cmd_offered <= cmd_valid && !cmd_ready;
        act_offered <= act_valid && !act_ready;
        if (go != done && !busy && !rst) begin
            busy <= 1;
            cmd_index <= 0;
            act_index <= 0;
            res_index <= 0;
        end
        if (busy && !sending && since_done >= delay) sending <= 1;
        if (cmd_valid && cmd_ready) cmd_index <= cmd_index + 1;
        if (act_valid && act_ready) act_index <= act_index + 1;
        if (res_valid && res_ready) begin
            if (res_index < RES_BEATS) res_data[RES_BITS*res_index +: RES_BITS] <= res_word;
            res_index <= res_index + 1;
            if (res_last) begin
                res_beats <= res_index + 1;
                res_error <= res_user;
            end
        end
        if (sending && cmd_index == cmd_count && act_index == act_count
            && (!want_result || (res_valid && res_ready && res_last))) begin
            busy <= 0;
            sending <= 0;
            since_done <= 0;
            done <= go;
        end
        if (rst) begin
            cmd_offered <= 0;
            act_offered <= 0;
            if (busy) begin  // the command is lost
                busy <= 0;
                sending <= 0;
                since_done <= 0;
                done <= go;
            end
        end
    end

    // Register driver.
    bit reg_busy = 0, aw_sent = 0, w_sent = 0, ar_sent = 0;
    assign aw_valid = reg_busy && reg_write && !aw_sent;
    assign w_valid = reg_busy && reg_write && !w_sent;
    assign arl_valid = reg_busy && !reg_write && !ar_sent;
    assign b_ready = !frozen[7];
    assign rl_ready = !frozen[7];
    always @(posedge clk) begin
        if (reg_go != reg_done && !reg_busy && !rst) begin
            reg_busy <= 1;
            aw_sent <= 0;
            w_sent <= 0;
            ar_sent <= 0;
        end
        if (aw_valid && aw_ready) aw_sent <= 1;
        if (w_valid && w_ready) w_sent <= 1;
        if (arl_valid && arl_ready) ar_sent <= 1;
        if (reg_busy && !frozen[7] && (b_valid || rl_valid)) begin
            reg_rdata <= rl_data;
            reg_resp <= b_valid ? b_resp : rl_resp;
            reg_busy <= 0;
            reg_done <= reg_go;
        end
        if (irq) irq_seen <= 1;
    end

    // Watchdog: no command may take longer than `limit` cycles without any handshake on any port, nor than `patience` in all
    // (0: any time). `hung_on` names the ports that wait: bits as of freeze_ports; none if the accelerator asks for nothing.
    int quiet /* verilator public_flat_rw */ = 0;
    int limit /* verilator public_flat_rw */ = 200000;
    int elapsed = 0;
    int patience /* verilator public_flat_rw */ = 0;
    bit hung /* verilator public_flat_rw */ = 0;
    bit [7:0] hung_on /* verilator public_flat_rw */ = 0;
    always @(posedge clk) begin
        quiet <= (!busy || !sending || (cmd_valid && cmd_ready) || (act_valid && act_ready) || (res_valid && res_ready)
                  || (ar_valid && ar_ready) || (r_valid && r_ready) || (mem_w_valid && mem_w_ready)
                  || (mem_b_valid && mem_b_ready) || ev_valid) ? 0 : quiet + 1;
        elapsed <= sending ? elapsed + 1 : 0;
        if ((quiet > limit || (patience > 0 && elapsed > patience)) && !hung) begin
            hung <= 1;
            hung_on <= {1'b0, mem_held[3] || (mem_b_valid && !mem_b_ready), mem_held[2] || (mem_aw_valid && !mem_aw_ready)
                        || (mem_w_valid && !mem_w_ready), mem_held[1] || (r_valid && !r_ready), ar_valid && !ar_ready,
                        res_valid && !res_ready, sending && act_index < act_count, sending && cmd_index < cmd_count};
            $display("HUNG at cycle %0d: cmd %b/%b %0d of %0d, act %b/%b %0d of %0d, res %b/%b, ar %b/%b, r %b/%b",
                     cycle, cmd_valid, cmd_ready, cmd_index, cmd_count, act_valid, act_ready, act_index, act_count,
                     res_valid, res_ready, ar_valid, ar_ready, r_valid, r_ready);
            done <= go;
        end
    end

    // Stream rule: a stalled payload holds, and valid stays.
    logic res_stalled = 0, res_last_before, res_user_before;
    logic [RES_BITS-1:0] res_word_before;
    always @(posedge clk) begin
        res_stalled <= res_valid && !res_ready && !rst;
        res_word_before <= res_word;
        res_last_before <= res_last;
        res_user_before <= res_user;
        if (res_stalled && (!res_valid || res_word != res_word_before || res_last != res_last_before
                            || res_user != res_user_before)) violations[0] <= 1;
        if (res_valid && res_ready && !rst && rst_left == 0 && (!busy || !want_result)) violations[1] <= 1;
    end
`include "axi_checker.svh"

    // Event log.
    integer log_file;
    string log_name;
    initial begin
        log_file = 0;
        if ($value$plusargs("log=%s", log_name)) log_file = $fopen(log_name, "w");
    end
    always @(posedge clk) if (log_file != 0 && !rst) begin
        if (pr_valid) $fwrite(log_file, "P %0d %0d %0d %0d %0d\n", cycle, pr_layer, pr_expert, pr_score, pr_end);
        if (ev_valid) $fwrite(log_file, "E %0d %0d %0d %0d %0d %0d\n", cycle, ev_kind, ev_layer, ev_expert, ev_slot, ev_arg);
    end
    always @(flush_log) if (log_file != 0) $fflush(log_file);
`include "back_door.svh"
endmodule
