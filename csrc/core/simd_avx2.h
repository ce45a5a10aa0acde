// Eight float lanes on AVX2 + FMA. Same interface as simd_avx512.h and simd_portable.h; see simd_math.h.
// Only files compiled with the AVX2 flags include this; those with more than these define LONGSPAN_ISA before, so that
// the lanes land in their own namespace.
#pragma once

#include <immintrin.h>

#include <cstdint>

#ifndef LONGSPAN_ISA
#define LONGSPAN_ISA avx2
#endif

namespace longspan::LONGSPAN_ISA {

struct F32 {
    static constexpr int64_t kLanes = 8;
    static constexpr bool kHasLaneProducts = false;  // simd_neon.h
    __m256 v;

    static F32 zero() { return {_mm256_setzero_ps()}; }
    static F32 all(float x) { return {_mm256_set1_ps(x)}; }
    static F32 load(const float* p) { return {_mm256_loadu_ps(p)}; }
    // The first n lanes from memory (0 <= n <= kLanes), the others 0; touches no byte beyond them.
    static F32 load_first(const float* p, int64_t n) { return {_mm256_maskload_ps(p, first(n))}; }
    void store(float* p) const { _mm256_storeu_ps(p, v); }
    void store_first(float* p, int64_t n) const { _mm256_maskstore_ps(p, first(n), v); }

    friend F32 operator+(F32 a, F32 b) { return {_mm256_add_ps(a.v, b.v)}; }
    friend F32 operator-(F32 a, F32 b) { return {_mm256_sub_ps(a.v, b.v)}; }
    friend F32 operator*(F32 a, F32 b) { return {_mm256_mul_ps(a.v, b.v)}; }
    friend F32 operator/(F32 a, F32 b) { return {_mm256_div_ps(a.v, b.v)}; }

    static __m256i first(int64_t n) {
        const __m256i lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
        return _mm256_cmpgt_epi32(_mm256_set1_epi32(static_cast<int>(n)), lane);
    }
};

inline F32 fma(F32 a, F32 b, F32 c) {
    return {_mm256_fmadd_ps(a.v, b.v, c.v)};
}  // a * b + c, rounded once
// max and min give b where either is NaN.
inline F32 max(F32 a, F32 b) {
    return {_mm256_max_ps(a.v, b.v)};
}
inline F32 min(F32 a, F32 b) {
    return {_mm256_min_ps(a.v, b.v)};
}
inline F32 abs(F32 a) {
    return {_mm256_andnot_ps(_mm256_set1_ps(-0.0f), a.v)};
}
inline F32 sqrt(F32 a) {
    return {_mm256_sqrt_ps(a.v)};
}
inline F32 round(F32 a) {
    return {_mm256_round_ps(a.v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)};
}
inline F32 copy_sign(F32 size, F32 sign) {
    const __m256 mask = _mm256_set1_ps(-0.0f);
    return {_mm256_or_ps(_mm256_and_ps(mask, sign.v), _mm256_andnot_ps(mask, size.v))};
}
// Lane by lane: a < b ? yes : no.
inline F32 select_less(F32 a, F32 b, F32 yes, F32 no) {
    return {_mm256_blendv_ps(no.v, yes.v, _mm256_cmp_ps(a.v, b.v, _CMP_LT_OQ))};
}
// x * 2^n for whole n in [-126, 127].
inline F32 scale_by_power_of_2(F32 x, F32 n) {
    const __m256i exponent = _mm256_add_epi32(_mm256_cvtps_epi32(n.v), _mm256_set1_epi32(127));
    return {_mm256_mul_ps(x.v, _mm256_castsi256_ps(_mm256_slli_epi32(exponent, 23)))};
}
// The whole e with 2^e <= a < 2^(e + 1), for normal a > 0.
inline F32 exponent(F32 a) {
    const __m256i biased = _mm256_srli_epi32(_mm256_castps_si256(a.v), 23);
    return {_mm256_cvtepi32_ps(_mm256_sub_epi32(biased, _mm256_set1_epi32(127)))};
}
// To the nearest bf16 value, ties to even; NaN stays.
inline F32 round_to_bf16(F32 a) {
    const __m256i bits = _mm256_castps_si256(a.v);
    const __m256i is_odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
    const __m256i up = _mm256_add_epi32(bits, _mm256_add_epi32(is_odd, _mm256_set1_epi32(0x7fff)));
    const __m256 rounded = _mm256_castsi256_ps(_mm256_and_si256(up, _mm256_set1_epi32(-0x10000)));
    return {_mm256_blendv_ps(rounded, a.v, _mm256_cmp_ps(a.v, a.v, _CMP_UNORD_Q))};
}
// Sum and maximum of all lanes, in one fixed order.
inline float sum(F32 a) {
    const __m128 quad = _mm_add_ps(_mm256_castps256_ps128(a.v), _mm256_extractf128_ps(a.v, 1));
    const __m128 pair = _mm_add_ps(quad, _mm_movehl_ps(quad, quad));
    return _mm_cvtss_f32(_mm_add_ss(pair, _mm_movehdup_ps(pair)));
}
inline float max_lane(F32 a) {
    const __m128 quad = _mm_max_ps(_mm256_castps256_ps128(a.v), _mm256_extractf128_ps(a.v, 1));
    const __m128 pair = _mm_max_ps(quad, _mm_movehl_ps(quad, quad));
    return _mm_cvtss_f32(_mm_max_ss(pair, _mm_movehdup_ps(pair)));
}

}  // namespace longspan::LONGSPAN_ISA

#include "core/simd_math.h"
