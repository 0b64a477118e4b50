// Behaviour of the ECP5 cells that yosys has as black boxes only, for gate-level simulation, as far as netlists of synth_ecp5
// use them. Written after Lattice's memory and sysDSP usage guides (FPGA-TN-02204, FPGA-TN-02205).

// 18 by 18 bits, without any of its registers: combinational. Each operand is signed if SIGNEDA, SIGNEDB is 1.
module stmoe_MULT18X18D (
    input A17, A16, A15, A14, A13, A12, A11, A10, A9, A8, A7, A6, A5, A4, A3, A2, A1, A0,
    input B17, B16, B15, B14, B13, B12, B11, B10, B9, B8, B7, B6, B5, B4, B3, B2, B1, B0,
    input C17, C16, C15, C14, C13, C12, C11, C10, C9, C8, C7, C6, C5, C4, C3, C2, C1, C0,
    input SIGNEDA, SIGNEDB, SOURCEA, SOURCEB,
    output P35, P34, P33, P32, P31, P30, P29, P28, P27, P26, P25, P24, P23, P22, P21, P20, P19, P18, P17, P16, P15, P14, P13, P12,
        P11, P10, P9, P8, P7, P6, P5, P4, P3, P2, P1, P0
);
    wire signed [18:0] a = {SIGNEDA & A17, A17, A16, A15, A14, A13, A12, A11, A10, A9, A8, A7, A6, A5, A4, A3, A2, A1, A0};
    wire signed [18:0] b = {SIGNEDB & B17, B17, B16, B15, B14, B13, B12, B11, B10, B9, B8, B7, B6, B5, B4, B3, B2, B1, B0};
    wire signed [37:0] product = a * b;
    assign {P35, P34, P33, P32, P31, P30, P29, P28, P27, P26, P25, P24, P23, P22, P21, P20, P19, P18, P17, P16, P15, P14, P13, P12,
        P11, P10, P9, P8, P7, P6, P5, P4, P3, P2, P1, P0} = product[35:0];
endmodule

// 18,432 bits behind two synchronous ports, in rows of 36 bits; a byte has 9 bits, of which words of 1, 2 and 4 bits use 8.
// Words of 18 and 36 bits are written by the byte, which the lowest address bits choose. One 36 bits wide takes the data
// pins of both ports, A's for the lower half. What is read while the other port writes it is undefined on the part: here
// such bits come out wrong.
module stmoe_DP16KD #(
    parameter [319:0]
        INITVAL_00 = 0, INITVAL_01 = 0, INITVAL_02 = 0, INITVAL_03 = 0, INITVAL_04 = 0, INITVAL_05 = 0, INITVAL_06 = 0, INITVAL_07 = 0,
        INITVAL_08 = 0, INITVAL_09 = 0, INITVAL_0A = 0, INITVAL_0B = 0, INITVAL_0C = 0, INITVAL_0D = 0, INITVAL_0E = 0, INITVAL_0F = 0,
        INITVAL_10 = 0, INITVAL_11 = 0, INITVAL_12 = 0, INITVAL_13 = 0, INITVAL_14 = 0, INITVAL_15 = 0, INITVAL_16 = 0, INITVAL_17 = 0,
        INITVAL_18 = 0, INITVAL_19 = 0, INITVAL_1A = 0, INITVAL_1B = 0, INITVAL_1C = 0, INITVAL_1D = 0, INITVAL_1E = 0, INITVAL_1F = 0,
        INITVAL_20 = 0, INITVAL_21 = 0, INITVAL_22 = 0, INITVAL_23 = 0, INITVAL_24 = 0, INITVAL_25 = 0, INITVAL_26 = 0, INITVAL_27 = 0,
        INITVAL_28 = 0, INITVAL_29 = 0, INITVAL_2A = 0, INITVAL_2B = 0, INITVAL_2C = 0, INITVAL_2D = 0, INITVAL_2E = 0, INITVAL_2F = 0,
        INITVAL_30 = 0, INITVAL_31 = 0, INITVAL_32 = 0, INITVAL_33 = 0, INITVAL_34 = 0, INITVAL_35 = 0, INITVAL_36 = 0, INITVAL_37 = 0,
        INITVAL_38 = 0, INITVAL_39 = 0, INITVAL_3A = 0, INITVAL_3B = 0, INITVAL_3C = 0, INITVAL_3D = 0, INITVAL_3E = 0, INITVAL_3F = 0,
    parameter DATA_WIDTH_A = 18, parameter DATA_WIDTH_B = 18, parameter REGMODE_A = "NOREG", parameter REGMODE_B = "NOREG",
    parameter RESETMODE = "SYNC", parameter ASYNC_RESET_RELEASE = "SYNC", parameter GSR = "ENABLED",
    parameter CSDECODE_A = "0b000", parameter CSDECODE_B = "0b000", parameter CLKAMUX = "CLKA", parameter CLKBMUX = "CLKB",
    parameter WRITEMODE_A = "NORMAL", parameter WRITEMODE_B = "NORMAL"
) (
    input DIA17, DIA16, DIA15, DIA14, DIA13, DIA12, DIA11, DIA10, DIA9, DIA8, DIA7, DIA6, DIA5, DIA4, DIA3, DIA2, DIA1, DIA0,
    input ADA13, ADA12, ADA11, ADA10, ADA9, ADA8, ADA7, ADA6, ADA5, ADA4, ADA3, ADA2, ADA1, ADA0,
    input CEA, OCEA, CLKA, WEA, RSTA, CSA2, CSA1, CSA0,
    input DIB17, DIB16, DIB15, DIB14, DIB13, DIB12, DIB11, DIB10, DIB9, DIB8, DIB7, DIB6, DIB5, DIB4, DIB3, DIB2, DIB1, DIB0,
    input ADB13, ADB12, ADB11, ADB10, ADB9, ADB8, ADB7, ADB6, ADB5, ADB4, ADB3, ADB2, ADB1, ADB0,
    input CEB, OCEB, CLKB, WEB, RSTB, CSB2, CSB1, CSB0,
    output DOA17, DOA16, DOA15, DOA14, DOA13, DOA12, DOA11, DOA10, DOA9, DOA8, DOA7, DOA6, DOA5, DOA4, DOA3, DOA2, DOA1, DOA0,
    output DOB17, DOB16, DOB15, DOB14, DOB13, DOB12, DOB11, DOB10, DOB9, DOB8, DOB7, DOB6, DOB5, DOB4, DOB3, DOB2, DOB1, DOB0
);
    initial if (REGMODE_A != "NOREG" || REGMODE_B != "NOREG" || CSDECODE_A != "0b000" || CSDECODE_B != "0b000"
        || CLKAMUX != "CLKA" || CLKBMUX != "CLKB") $fatal(1, "a mode of DP16KD that has no model");

    localparam [64*320-1:0] INIT = {
        INITVAL_3F, INITVAL_3E, INITVAL_3D, INITVAL_3C, INITVAL_3B, INITVAL_3A, INITVAL_39, INITVAL_38,
        INITVAL_37, INITVAL_36, INITVAL_35, INITVAL_34, INITVAL_33, INITVAL_32, INITVAL_31, INITVAL_30,
        INITVAL_2F, INITVAL_2E, INITVAL_2D, INITVAL_2C, INITVAL_2B, INITVAL_2A, INITVAL_29, INITVAL_28,
        INITVAL_27, INITVAL_26, INITVAL_25, INITVAL_24, INITVAL_23, INITVAL_22, INITVAL_21, INITVAL_20,
        INITVAL_1F, INITVAL_1E, INITVAL_1D, INITVAL_1C, INITVAL_1B, INITVAL_1A, INITVAL_19, INITVAL_18,
        INITVAL_17, INITVAL_16, INITVAL_15, INITVAL_14, INITVAL_13, INITVAL_12, INITVAL_11, INITVAL_10,
        INITVAL_0F, INITVAL_0E, INITVAL_0D, INITVAL_0C, INITVAL_0B, INITVAL_0A, INITVAL_09, INITVAL_08,
        INITVAL_07, INITVAL_06, INITVAL_05, INITVAL_04, INITVAL_03, INITVAL_02, INITVAL_01, INITVAL_00};
    reg [35:0] ram [0:511];
    integer row;
    initial for (row = 0; row < 512; row = row + 1)
        ram[row] = {INIT[40 * row + 20 +: 18], INIT[40 * row +: 18]};

    // Of a port: the first bit of the word in its row, and the bits that a write may change.
    function automatic [5:0] first(input integer width, input [13:0] at);
        case (width)
            36: first = 0;
            18: first = at[4] ? 18 : 0;
            9: first = (at[4] ? 18 : 0) + (at[3] ? 9 : 0);
            4: first = (at[4] ? 18 : 0) + (at[3] ? 9 : 0) + {3'b0, at[2], 2'b0};
            2: first = (at[4] ? 18 : 0) + (at[3] ? 9 : 0) + {3'b0, at[2:1], 1'b0};
            default: first = (at[4] ? 18 : 0) + (at[3] ? 9 : 0) + {3'b0, at[2:0]};
        endcase
    endfunction
    function automatic [35:0] bytes(input integer width, input [13:0] at);
        case (width)
            36: bytes = {{9{at[3]}}, {9{at[2]}}, {9{at[1]}}, {9{at[0]}}};
            18: bytes = {18'b0, {9{at[1]}}, {9{at[0]}}} << first(18, at);
            default: bytes = ((36'b1 << width) - 1) << first(width, at);
        endcase
    endfunction

    wire [13:0] at_a = {ADA13, ADA12, ADA11, ADA10, ADA9, ADA8, ADA7, ADA6, ADA5, ADA4, ADA3, ADA2, ADA1, ADA0};
    wire [13:0] at_b = {ADB13, ADB12, ADB11, ADB10, ADB9, ADB8, ADB7, ADB6, ADB5, ADB4, ADB3, ADB2, ADB1, ADB0};
    wire [35:0] di = {DIB17, DIB16, DIB15, DIB14, DIB13, DIB12, DIB11, DIB10, DIB9, DIB8, DIB7, DIB6, DIB5, DIB4, DIB3, DIB2, DIB1,
        DIB0,
                      DIA17, DIA16, DIA15, DIA14, DIA13, DIA12, DIA11, DIA10, DIA9, DIA8, DIA7, DIA6, DIA5, DIA4, DIA3, DIA2, DIA1,
                          DIA0};
    wire [35:0] word_a = (DATA_WIDTH_A == 36 ? di : {18'b0, di[17:0]}) << first(DATA_WIDTH_A, at_a);
    wire [35:0] word_b = (DATA_WIDTH_B == 36 ? di : {18'b0, di[35:18]}) << first(DATA_WIDTH_B, at_b);
    wire writes_a = CEA && WEA && !RSTA && {CSA2, CSA1, CSA0} == 0;
    wire writes_b = CEB && WEB && !RSTB && {CSB2, CSB1, CSB0} == 0;
    wire [35:0] mask_a = writes_a ? bytes(DATA_WIDTH_A, at_a) : 0, mask_b = writes_b ? bytes(DATA_WIDTH_B, at_b) : 0;
    wire same = at_a[13:5] == at_b[13:5];
    reg [35:0] out_a = 0, out_b = 0;
    always @(posedge CLKA) begin
        if (writes_a) ram[at_a[13:5]] <= (ram[at_a[13:5]] & ~mask_a) | (word_a & mask_a);
        if (RSTA) out_a <= 0;
        else if (CEA && {CSA2, CSA1, CSA0} == 0) begin
            if (!WEA) out_a <= (ram[at_a[13:5]] ^ (same ? mask_b : 0)) >> first(DATA_WIDTH_A, at_a);
            else if (WRITEMODE_A == "READBEFOREWRITE") out_a <= ram[at_a[13:5]] >> first(DATA_WIDTH_A, at_a);
            else if (WRITEMODE_A == "WRITETHROUGH") out_a <= word_a >> first(DATA_WIDTH_A, at_a);
        end
    end
    always @(posedge CLKB) begin
        if (writes_b) ram[at_b[13:5]] <= (ram[at_b[13:5]] & ~mask_b) | (word_b & mask_b);
        if (RSTB) out_b <= 0;
        else if (CEB && {CSB2, CSB1, CSB0} == 0) begin
            if (!WEB) out_b <= (ram[at_b[13:5]] ^ (same ? mask_a : 0)) >> first(DATA_WIDTH_B, at_b);
            else if (WRITEMODE_B == "READBEFOREWRITE") out_b <= ram[at_b[13:5]] >> first(DATA_WIDTH_B, at_b);
            else if (WRITEMODE_B == "WRITETHROUGH") out_b <= word_b >> first(DATA_WIDTH_B, at_b);
        end
    end
    always @(posedge CLKA) if (writes_a && writes_b && same) $fatal(1, "DP16KD: both ports write a row");
    wire [35:0] shown_a = RESETMODE == "ASYNC" && RSTA ? 0 : out_a, shown_b = RESETMODE == "ASYNC" && RSTB ? 0 : out_b;
    wire [35:0] out = DATA_WIDTH_B == 36 ? shown_b : {shown_b[17:0], shown_a[17:0]};
    assign {DOB17, DOB16, DOB15, DOB14, DOB13, DOB12, DOB11, DOB10, DOB9, DOB8, DOB7, DOB6, DOB5, DOB4, DOB3, DOB2, DOB1, DOB0,
            DOA17, DOA16, DOA15, DOA14, DOA13, DOA12, DOA11, DOA10, DOA9, DOA8, DOA7, DOA6, DOA5, DOA4, DOA3, DOA2, DOA1, DOA0} =
                out;
endmodule
