// The transpose that kernel.h needs, for both NEON files.
#include "core/simd_neon.h"

namespace longspan::LONGSPAN_ISA {
namespace {

// rows[i] lane j <-> rows[j] lane i: pairs, then halves.
[[gnu::always_inline]] inline void transpose(F32 (&rows)[F32::kLanes]) {
    float64x2_t pairs[4];
    for (int i = 0; i < 4; i += 2) {
        pairs[i] = vreinterpretq_f64_f32(vtrn1q_f32(rows[i].v, rows[i + 1].v));
        pairs[i + 1] = vreinterpretq_f64_f32(vtrn2q_f32(rows[i].v, rows[i + 1].v));
    }
    for (int i = 0; i < 2; ++i) {
        rows[i].v = vreinterpretq_f32_f64(vzip1q_f64(pairs[i], pairs[i + 2]));
        rows[i + 2].v = vreinterpretq_f32_f64(vzip2q_f64(pairs[i], pairs[i + 2]));
    }
}

}  // namespace
}  // namespace longspan::LONGSPAN_ISA
