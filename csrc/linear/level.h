// The functions of a level that has lanes of its own, in all three compute types. A level's file includes this once,
// inside its namespace and behind its lanes and kernel.h, so that they stand here alone; there is no guard against a
// second time.

void linear_f32(const LinearArgs& args, const LinearBlock& block) {
    walk<FloatKind>(args, block);
}
void stage_f32(const LinearArgs& args, int64_t first_row, int64_t last_row) {
    stage_rows<FloatKind>(args, first_row, last_row);
}

void linear_bf16(const LinearArgs& args, const LinearBlock& block) {
    walk<Bf16Kind>(args, block);
}
void stage_bf16(const LinearArgs& args, int64_t first_row, int64_t last_row) {
    stage_rows<Bf16Kind>(args, first_row, last_row);
}

void linear_i8(const LinearArgs& args, const LinearBlock& block) {
    walk<Int8Kind>(args, block);
}
void stage_i8(const LinearArgs& args, int64_t first_row, int64_t last_row) {
    stage_rows<Int8Kind>(args, first_row, last_row);
}

void saturate(float* values, int64_t count, Saturation saturation) {
    saturate_values(values, count, saturation);
}
