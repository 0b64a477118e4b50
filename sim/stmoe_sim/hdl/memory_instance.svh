    axi_dram #(.DATA_BITS(DATA_BITS), .ADDR_BITS(ADDR_BITS), .ID_BITS(ID_BITS), .MEM_WORDS(MEM_WORDS)) memory (
        .clk, .rst, .clk_ps, .column_ps, .latency_ps, .cas_ps, .rcd_ps, .rp_ps, .ras_ps, .rrd_ps, .faw_ps,
        .refresh_interval_ps, .refresh_ps, .banks, .row_bytes, .outstanding(mem_outstanding), .stall(mem_stall),
        .seed(seed), .ideal, .reorder, .fault_low, .fault_high, .fault_count, .fault_resp,
        .write_fault_low, .write_fault_high, .write_fault_count, .dump(flush_log),
        .corrupt_low, .corrupt_high, .corrupt_count, .corrupt_every, .corrupt_mode, .hold(mem_hold), .held(mem_held), .corrupted,
        .ar_valid, .ar_ready, .ar_addr, .ar_id, .ar_len, .r_valid, .r_ready, .r_data, .r_id, .r_resp, .r_last,
        .aw_valid(mem_aw_valid), .aw_ready(mem_aw_ready), .aw_addr, .aw_id, .aw_len,
        .w_valid(mem_w_valid), .w_ready(mem_w_ready), .w_data, .w_strb, .w_last,
        .b_valid(mem_b_valid), .b_ready(mem_b_ready), .b_id, .b_resp(mem_b_resp),
        .beats(mem_beats), .row_hits, .row_misses, .row_conflicts, .refreshes, .faults,
        .write_beats(mem_write_beats), .write_faults);
