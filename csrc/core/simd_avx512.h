// Sixteen float lanes on AVX-512. Same interface as simd_avx2.h and simd_portable.h; see simd_math.h.
// Only files compiled with AVX-512 flags include this; those with more than the plain ones define LONGSPAN_ISA before,
// so that the lanes land in their own namespace.
#pragma once

#include <immintrin.h>

#include <cstdint>

#ifndef LONGSPAN_ISA
#define LONGSPAN_ISA avx512
#endif

namespace longspan::LONGSPAN_ISA {

struct F32 {
    static constexpr int64_t kLanes = 16;
    static constexpr bool kHasLaneProducts = false;  // simd_neon.h
    __m512 v;

    static F32 zero() { return {_mm512_setzero_ps()}; }
    static F32 all(float x) { return {_mm512_set1_ps(x)}; }
    static F32 load(const float* p) { return {_mm512_loadu_ps(p)}; }
    // The first n lanes from memory (0 <= n <= kLanes), the others 0; touches no byte beyond them.
    static F32 load_first(const float* p, int64_t n) { return {_mm512_maskz_loadu_ps(first(n), p)}; }
    void store(float* p) const { _mm512_storeu_ps(p, v); }
    void store_first(float* p, int64_t n) const { _mm512_mask_storeu_ps(p, first(n), v); }

    friend F32 operator+(F32 a, F32 b) { return {_mm512_add_ps(a.v, b.v)}; }
    friend F32 operator-(F32 a, F32 b) { return {_mm512_sub_ps(a.v, b.v)}; }
    friend F32 operator*(F32 a, F32 b) { return {_mm512_mul_ps(a.v, b.v)}; }
    friend F32 operator/(F32 a, F32 b) { return {_mm512_div_ps(a.v, b.v)}; }

    static __mmask16 first(int64_t n) { return static_cast<__mmask16>((1u << n) - 1u); }
};

inline F32 fma(F32 a, F32 b, F32 c) {
    return {_mm512_fmadd_ps(a.v, b.v, c.v)};
}  // a * b + c, rounded once
// max and min give b where either is NaN.
inline F32 max(F32 a, F32 b) {
    return {_mm512_max_ps(a.v, b.v)};
}
inline F32 min(F32 a, F32 b) {
    return {_mm512_min_ps(a.v, b.v)};
}
inline F32 abs(F32 a) {
    return {_mm512_abs_ps(a.v)};
}
inline F32 sqrt(F32 a) {
    return {_mm512_sqrt_ps(a.v)};
}
inline F32 round(F32 a) {
    return {_mm512_roundscale_ps(a.v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)};
}
inline F32 copy_sign(F32 size, F32 sign) {
    const __m512i mask = _mm512_set1_epi32(INT32_MIN);
    return {_mm512_castsi512_ps(
        _mm512_ternarylogic_epi32(mask, _mm512_castps_si512(sign.v), _mm512_castps_si512(size.v), 0xca))};
}
// Lane by lane: a < b ? yes : no.
inline F32 select_less(F32 a, F32 b, F32 yes, F32 no) {
    return {_mm512_mask_blend_ps(_mm512_cmp_ps_mask(a.v, b.v, _CMP_LT_OQ), no.v, yes.v)};
}
// x * 2^n for whole n in [-126, 127].
inline F32 scale_by_power_of_2(F32 x, F32 n) {
    return {_mm512_scalef_ps(x.v, n.v)};
}
// The whole e with 2^e <= a < 2^(e + 1), for normal a > 0.
inline F32 exponent(F32 a) {
    return {_mm512_getexp_ps(a.v)};
}
// To the nearest bf16 value, ties to even; NaN stays.
inline F32 round_to_bf16(F32 a) {
    const __m512i bits = _mm512_castps_si512(a.v);
    const __m512i is_odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
    const __m512i up = _mm512_add_epi32(bits, _mm512_add_epi32(is_odd, _mm512_set1_epi32(0x7fff)));
    const __m512 rounded = _mm512_castsi512_ps(_mm512_and_si512(up, _mm512_set1_epi32(-0x10000)));
    return {_mm512_mask_blend_ps(_mm512_cmp_ps_mask(a.v, a.v, _CMP_UNORD_Q), rounded, a.v)};
}
// Sum and maximum of all lanes, in one fixed order.
inline float sum(F32 a) {
    const __m256 half = _mm256_add_ps(_mm512_castps512_ps256(a.v), _mm512_extractf32x8_ps(a.v, 1));
    const __m128 quad = _mm_add_ps(_mm256_castps256_ps128(half), _mm256_extractf128_ps(half, 1));
    const __m128 pair = _mm_add_ps(quad, _mm_movehl_ps(quad, quad));
    return _mm_cvtss_f32(_mm_add_ss(pair, _mm_movehdup_ps(pair)));
}
inline float max_lane(F32 a) {
    const __m256 half = _mm256_max_ps(_mm512_castps512_ps256(a.v), _mm512_extractf32x8_ps(a.v, 1));
    const __m128 quad = _mm_max_ps(_mm256_castps256_ps128(half), _mm256_extractf128_ps(half, 1));
    const __m128 pair = _mm_max_ps(quad, _mm_movehl_ps(quad, quad));
    return _mm_cvtss_f32(_mm_max_ss(pair, _mm_movehdup_ps(pair)));
}

}  // namespace longspan::LONGSPAN_ISA

#include "core/simd_math.h"
