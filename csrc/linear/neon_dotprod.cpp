#define LONGSPAN_ISA neon_dotprod
#define LONGSPAN_DOTPROD

#include "linear/lanes_neon.h"

#include "linear/kernel.h"

namespace longspan::neon_dotprod {

void linear_i8(const LinearArgs& args, const LinearBlock& block) {
    walk<Int8Kind>(args, block);
}
void stage_i8(const LinearArgs& args, int64_t first_row, int64_t last_row) {
    stage_rows<Int8Kind>(args, first_row, last_row);
}

void saturate(float* values, int64_t count, Saturation saturation) {
    saturate_values(values, count, saturation);
}

}  // namespace longspan::neon_dotprod
