#define LONGSPAN_ISA avx_vnni

#include "linear/lanes_avx2.h"

#include "linear/kernel.h"

namespace longspan::avx_vnni {

void linear_i8(const LinearArgs& args, const LinearBlock& block) {
    walk<Int8Kind>(args, block);
}
void stage_i8(const LinearArgs& args, int64_t first_row, int64_t last_row) {
    stage_rows<Int8Kind>(args, first_row, last_row);
}

void saturate(float* values, int64_t count, Saturation saturation) {
    saturate_values(values, count, saturation);
}

}  // namespace longspan::avx_vnni
