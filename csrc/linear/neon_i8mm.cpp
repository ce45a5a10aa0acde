#define LONGSPAN_ISA neon_i8mm
#define LONGSPAN_DOTPROD
#define LONGSPAN_I8MM

#include "linear/lanes_neon.h"

#include "linear/kernel.h"

namespace longspan::neon_i8mm {

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

}  // namespace longspan::neon_i8mm
