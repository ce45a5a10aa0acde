// Four float lanes on NEON, which every 64-bit Arm has. Same interface as simd_avx2.h, simd_avx512.h and
// simd_portable.h; see simd_math.h. Files compiled for more than plain NEON define LONGSPAN_ISA before, so that the
// lanes land in their own namespace.
#pragma once

#include <arm_neon.h>

#include <cstdint>

#ifndef LONGSPAN_ISA
#define LONGSPAN_ISA neon
#endif

namespace longspan::LONGSPAN_ISA {

struct F32 {
    static constexpr int64_t kLanes = 4;
    // A multiply-add takes one factor from a lane of a register, add_by_lane(): one load brings four of them, where to
    // broadcast each would take a vector unit's time (Neoverse: LD1R waits for both a load and a vector unit).
    static constexpr bool kHasLaneProducts = true;
    float32x4_t v;

    static F32 zero() { return {vdupq_n_f32(0.0f)}; }
    static F32 all(float x) { return {vdupq_n_f32(x)}; }
    static F32 load(const float* p) { return {vld1q_f32(p)}; }
    // The first n lanes from memory (0 <= n <= kLanes), the others 0; touches no byte beyond them.
    static F32 load_first(const float* p, int64_t n) {
        if (n >= kLanes) return load(p);
        const float rest[kLanes] = {n > 0 ? p[0] : 0.0f, n > 1 ? p[1] : 0.0f, n > 2 ? p[2] : 0.0f, 0.0f};
        return load(rest);
    }
    void store(float* p) const { vst1q_f32(p, v); }
    void store_first(float* p, int64_t n) const {
        if (n >= kLanes) return store(p);
        if (n > 0) p[0] = vgetq_lane_f32(v, 0);
        if (n > 1) p[1] = vgetq_lane_f32(v, 1);
        if (n > 2) p[2] = vgetq_lane_f32(v, 2);
    }

    friend F32 operator+(F32 a, F32 b) { return {vaddq_f32(a.v, b.v)}; }
    friend F32 operator-(F32 a, F32 b) { return {vsubq_f32(a.v, b.v)}; }
    friend F32 operator*(F32 a, F32 b) { return {vmulq_f32(a.v, b.v)}; }
    friend F32 operator/(F32 a, F32 b) { return {vdivq_f32(a.v, b.v)}; }
};

inline F32 fma(F32 a, F32 b, F32 c) {
    return {vfmaq_f32(c.v, a.v, b.v)};
}  // a * b + c, rounded once
// sum + x[kLane] * b, rounded once.
template <int kLane>
inline F32 add_by_lane(F32 sum, F32 x, F32 b) {
    return {vfmaq_laneq_f32(sum.v, b.v, x.v, kLane)};
}
// max and min give NaN where either is; b, as other instruction sets, where only b is.
inline F32 max(F32 a, F32 b) {
    return {vmaxq_f32(a.v, b.v)};
}
inline F32 min(F32 a, F32 b) {
    return {vminq_f32(a.v, b.v)};
}
inline F32 abs(F32 a) {
    return {vabsq_f32(a.v)};
}
inline F32 sqrt(F32 a) {
    return {vsqrtq_f32(a.v)};
}
// To the nearest whole number, ties to even.
inline F32 round(F32 a) {
    return {vrndnq_f32(a.v)};
}
inline F32 copy_sign(F32 size, F32 sign) {
    return {vbslq_f32(vdupq_n_u32(0x80000000u), sign.v, size.v)};
}
// Lane by lane: a < b ? yes : no.
inline F32 select_less(F32 a, F32 b, F32 yes, F32 no) {
    return {vbslq_f32(vcltq_f32(a.v, b.v), yes.v, no.v)};
}
// x * 2^n for whole n in [-126, 127].
inline F32 scale_by_power_of_2(F32 x, F32 n) {
    const int32x4_t exponent = vaddq_s32(vcvtq_s32_f32(n.v), vdupq_n_s32(127));
    return {vmulq_f32(x.v, vreinterpretq_f32_s32(vshlq_n_s32(exponent, 23)))};
}
// The whole e with 2^e <= a < 2^(e + 1), for normal a > 0.
inline F32 exponent(F32 a) {
    const int32x4_t biased = vreinterpretq_s32_u32(vshrq_n_u32(vreinterpretq_u32_f32(a.v), 23));
    return {vcvtq_f32_s32(vsubq_s32(biased, vdupq_n_s32(127)))};
}
// To the nearest bf16 value, ties to even; NaN stays.
inline F32 round_to_bf16(F32 a) {
    const uint32x4_t bits = vreinterpretq_u32_f32(a.v);
    const uint32x4_t is_odd = vandq_u32(vshrq_n_u32(bits, 16), vdupq_n_u32(1));
    const uint32x4_t up = vaddq_u32(bits, vaddq_u32(is_odd, vdupq_n_u32(0x7fff)));
    const uint32x4_t rounded = vandq_u32(up, vdupq_n_u32(0xffff0000u));
    return {vbslq_f32(vceqq_f32(a.v, a.v), vreinterpretq_f32_u32(rounded), a.v)};
}
// Sum and maximum of all lanes, in one fixed order.
inline float sum(F32 a) {
    const float32x2_t pair = vadd_f32(vget_low_f32(a.v), vget_high_f32(a.v));
    return vget_lane_f32(pair, 0) + vget_lane_f32(pair, 1);
}
inline float max_lane(F32 a) {
    return vmaxvq_f32(a.v);
}

}  // namespace longspan::LONGSPAN_ISA

#include "core/simd_math.h"
