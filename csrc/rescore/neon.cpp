#include <cstring>

#include "core/simd_neon.h"

namespace longspan::neon {
namespace {

inline F32 load_levels(const int8_t* p, int64_t n) {
    uint32_t bytes = 0;
    if (n == F32::kLanes) {
        std::memcpy(&bytes, p, sizeof bytes);
    } else {
        for (int64_t i = 0; i < n; ++i) bytes |= uint32_t{static_cast<uint8_t>(p[i])} << (8 * i);
    }
    const int16x8_t levels = vmovl_s8(vreinterpret_s8_u32(vdup_n_u32(bytes)));
    return {vcvtq_f32_s32(vmovl_s16(vget_low_s16(levels)))};
}

// A register's four bits are half a byte.
inline F32 with_signs(F32 x, const uint8_t* code, int64_t bit, int64_t) {
    const uint32_t places[] = {1, 2, 4, 8};
    const uint32x4_t bits = vdupq_n_u32(static_cast<uint32_t>(code[bit / 8]) >> bit % 8);
    const uint32x4_t is_clear = vceqq_u32(vandq_u32(bits, vld1q_u32(places)), vdupq_n_u32(0));
    const uint32x4_t flip = vandq_u32(is_clear, vdupq_n_u32(0x80000000u));
    return {vreinterpretq_f32_u32(veorq_u32(vreinterpretq_u32_f32(x.v), flip))};
}

inline void prefetch(const char* p) {
    __builtin_prefetch(p);
}

}  // namespace
}  // namespace longspan::neon

#include "rescore/kernel.h"
