#include "core/simd_neon.h"

namespace longspan::neon {
namespace {

// Bit i of the result: lane i of `mask`, all ones or zeros.
inline uint64_t bits_of(uint32x4_t mask) {
    const uint32_t places[] = {1, 2, 4, 8};
    return vaddvq_u32(vandq_u32(mask, vld1q_u32(places)));
}

inline uint64_t bits_above(F32 x, F32 threshold) {
    return bits_of(vcgtq_f32(x.v, threshold.v));
}

inline uint64_t bits_nan(F32 x) {
    return bits_of(vmvnq_u32(vceqq_f32(x.v, x.v)));
}

}  // namespace
}  // namespace longspan::neon

#include "binarize/kernel.h"
