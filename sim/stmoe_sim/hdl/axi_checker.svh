    // AXI4 read rules (IHI 0022): the accelerator's on AR and, to trust the memory, the memory's on R.
    // violations: 8 AR changed or withdrawn while stalled, 9 crosses 4 KiB, 10 size or burst type, 11 address not aligned,
    // 12 id in flight twice (our own rule: one burst per id), 16 R without a burst, 17 RLAST in the wrong place,
    // 18 R changed or withdrawn while stalled.
    localparam int IDS = 1 << ID_BITS;
    localparam int BEAT_BYTES = DATA_BITS / 8;
    logic ar_stalled = 0, r_stalled = 0;
    logic [ADDR_BITS+ID_BITS+8+3+2-1:0] ar_before;
    logic [DATA_BITS+ID_BITS+3-1:0] r_before;
    wire [ADDR_BITS+ID_BITS+8+3+2-1:0] ar_now = {ar_addr, ar_id, ar_len, ar_size, ar_burst};
    wire [DATA_BITS+ID_BITS+3-1:0] r_now = {r_data, r_id, r_resp, r_last};
    int beats_due [IDS];  // of the burst in flight per id, 0 = none
    initial for (int i = 0; i < IDS; i++) beats_due[i] = 0;
    always @(posedge clk) begin
        ar_stalled <= ar_valid && !ar_ready && !rst;
        r_stalled <= r_valid && !r_ready && !rst;
        ar_before <= ar_now;
        r_before <= r_now;
        if (ar_stalled && (!ar_valid || ar_now != ar_before)) violations[8] <= 1;
        if (r_stalled && (!r_valid || r_now != r_before)) violations[18] <= 1;
        if (!rst && r_valid && r_ready) begin
            if (beats_due[r_id] == 0) violations[16] <= 1;
            else begin
                if (r_last != (beats_due[r_id] == 1)) violations[17] <= 1;
                beats_due[r_id] = beats_due[r_id] - 1;
            end
        end
        if (!rst && ar_valid && ar_ready) begin
            if (32'(ar_addr[11:0]) + (32'(ar_len) + 1) * BEAT_BYTES > 4096) violations[9] <= 1;
            if (ar_size != 3'($clog2(BEAT_BYTES)) || ar_burst != 2'b01) violations[10] <= 1;
            if ((ar_addr & ADDR_BITS'(BEAT_BYTES - 1)) != 0) violations[11] <= 1;
            if (beats_due[ar_id] != 0) violations[12] <= 1;
            beats_due[ar_id] = int'(ar_len) + 1;
        end
    end
