    // AXI4 rules (IHI 0022): the accelerator's on AR, AW and W and, to trust the memory, the memory's on R and B.
    // violations: 8 AR changed or withdrawn while stalled, 9 crosses 4 KiB, 10 size or burst type, 11 address not aligned,
    // 12 id in flight twice (our own rule: one burst per id), 16 R without a burst, 17 RLAST in the wrong place,
    // 18 R changed or withdrawn while stalled; 19 AW or W changed or withdrawn while stalled, 20 AW crosses 4 KiB,
    // 21 size, burst type or address of AW, 22 WLAST in the wrong place, 23 B without a finished burst, 24 B changed or
    // withdrawn while stalled.
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
        if (rst) for (int i = 0; i < IDS; i++) beats_due[i] = 0;
    end

    logic aw_stalled = 0, w_stalled = 0, b_stalled = 0;
    logic [ADDR_BITS+ID_BITS+8+3+2-1:0] aw_before;
    logic [DATA_BITS+DATA_BITS/8+1-1:0] w_before;
    logic [ID_BITS+2-1:0] b_before;
    wire [ADDR_BITS+ID_BITS+8+3+2-1:0] aw_now = {aw_addr, aw_id, aw_len, aw_size, aw_burst};
    wire [DATA_BITS+DATA_BITS/8+1-1:0] w_now = {w_data, w_strb, w_last};
    wire [ID_BITS+2-1:0] b_now = {b_id, mem_b_resp};
    // Bursts by number, modulo WRITES: length and id on AW, length on W; compared once both are known.
    localparam int WRITES = 64;
    int aw_beats [WRITES], w_beats [WRITES];
    logic [ID_BITS-1:0] aw_ids [WRITES];
    int aw_number = 0, w_number = 0, write_number = 0, w_now_beats = 0;
    int answers_due [IDS];  // finished writes without response per id
    initial for (int i = 0; i < IDS; i++) answers_due[i] = 0;
    always @(posedge clk) begin
        aw_stalled <= mem_aw_valid && !mem_aw_ready && !rst;
        w_stalled <= mem_w_valid && !mem_w_ready && !rst;
        b_stalled <= mem_b_valid && !mem_b_ready && !rst;
        aw_before <= aw_now;
        w_before <= w_now;
        b_before <= b_now;
        if (aw_stalled && (!mem_aw_valid || aw_now != aw_before)) violations[19] <= 1;
        if (w_stalled && (!mem_w_valid || w_now != w_before)) violations[19] <= 1;
        if (b_stalled && (!mem_b_valid || b_now != b_before)) violations[24] <= 1;
        if (!rst && mem_b_valid && mem_b_ready) begin
            if (answers_due[b_id] == 0) violations[23] <= 1;
            else answers_due[b_id] = answers_due[b_id] - 1;
        end
        if (!rst && mem_aw_valid && mem_aw_ready) begin
            if (32'(aw_addr[11:0]) + (32'(aw_len) + 1) * BEAT_BYTES > 4096) violations[20] <= 1;
            if (aw_size != 3'($clog2(BEAT_BYTES)) || aw_burst != 2'b01
                || (aw_addr & ADDR_BITS'(BEAT_BYTES - 1)) != 0) violations[21] <= 1;
            aw_beats[aw_number % WRITES] = int'(aw_len) + 1;
            aw_ids[aw_number % WRITES] = aw_id;
            aw_number = aw_number + 1;
        end
        if (!rst && mem_w_valid && mem_w_ready) begin
            w_now_beats = w_now_beats + 1;
            if (w_last) begin
                w_beats[w_number % WRITES] = w_now_beats;
                w_number = w_number + 1;
                w_now_beats = 0;
            end
        end
        if (write_number < aw_number && write_number < w_number) begin
            if (aw_beats[write_number % WRITES] != w_beats[write_number % WRITES]) violations[22] <= 1;
            answers_due[aw_ids[write_number % WRITES]] = answers_due[aw_ids[write_number % WRITES]] + 1;
            write_number = write_number + 1;
        end
        if (rst) begin
            for (int i = 0; i < IDS; i++) answers_due[i] = 0;
            aw_number = 0;
            w_number = 0;
            write_number = 0;
            w_now_beats = 0;
        end
    end
