    axi_dram #(.DATA_BITS(DATA_BITS), .ADDR_BITS(ADDR_BITS), .ID_BITS(ID_BITS), .MEM_WORDS(MEM_WORDS)) memory (
        .clk, .rst, .clk_ps, .column_ps, .latency_ps, .cas_ps, .rcd_ps, .rp_ps, .ras_ps, .rrd_ps, .faw_ps,
        .refresh_interval_ps, .refresh_ps, .banks, .row_bytes, .outstanding(mem_outstanding), .stall(mem_stall),
        .seed(seed), .ideal, .reorder, .fault_low, .fault_high, .fault_count, .fault_resp,
        .ar_valid, .ar_ready, .ar_addr, .ar_id, .ar_len, .r_valid, .r_ready, .r_data, .r_id, .r_resp, .r_last,
        .beats(mem_beats), .row_hits, .row_misses, .row_conflicts, .refreshes, .faults);
