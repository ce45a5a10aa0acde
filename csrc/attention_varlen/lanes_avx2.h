// What kernel.h needs of AVX2 beside F32, for both of its levels: the transpose, and the exponential.
#include "core/simd_avx2.h"

namespace longspan::LONGSPAN_ISA {
namespace {

// rows[i] lane j <-> rows[j] lane i: pairs, then quads, then halves.
[[gnu::always_inline]] inline void transpose(F32 (&rows)[F32::kLanes]) {
    __m256 pairs[8], quads[8];
    for (int i = 0; i < 8; i += 2) {
        pairs[i] = _mm256_unpacklo_ps(rows[i].v, rows[i + 1].v);
        pairs[i + 1] = _mm256_unpackhi_ps(rows[i].v, rows[i + 1].v);
    }
    for (int i = 0; i < 8; i += 4) {
        for (int j = 0; j < 2; ++j) {
            quads[i + 2 * j] = _mm256_shuffle_ps(pairs[i + j], pairs[i + 2 + j], 0x44);
            quads[i + 2 * j + 1] = _mm256_shuffle_ps(pairs[i + j], pairs[i + 2 + j], 0xee);
        }
    }
    for (int i = 0; i < 4; ++i) {
        rows[i].v = _mm256_permute2f128_ps(quads[i], quads[i + 4], 0x20);
        rows[i + 4].v = _mm256_permute2f128_ps(quads[i], quads[i + 4], 0x31);
    }
}

// 2^x for x <= 127, 0 below -126. With n = round(x) from the sum with 1.5 * 2^23, whose lowest bits are n's, and
// |r| = |x - n| <= 1/2: 2^n * 2^r, where 2^n is made of those bits.
inline F32 power_of_2(F32 x) {
    const F32 lowest = F32::all(-126.0f), magic = F32::all(12582912.0f);
    const F32 clamped = max(lowest, x);  // NaN goes through
    const F32 shifted = clamped + magic;
    const F32 r = clamped - (shifted - magic);
    const __m256i exponent = _mm256_slli_epi32(_mm256_castps_si256(shifted.v), 23);
    const __m256i one = _mm256_castps_si256(F32::all(1.0f).v);
    const F32 power{_mm256_castsi256_ps(_mm256_add_epi32(exponent, one))};
    const F32 result = fma(exp2_slope(r), r, F32::all(1.0f)) * power;
    return {_mm256_and_ps(result.v, _mm256_cmp_ps(x.v, lowest.v, _CMP_NLT_UQ))};
}

// 2^x for x from -125 to 127. As power_of_2(), but that n is added to the exponent of 2^r.
inline F32 normal_power_of_2(F32 x) {
    const F32 magic = F32::all(12582912.0f);
    const F32 shifted = x + magic;
    const F32 r = x - (shifted - magic);
    const __m256i exponent = _mm256_slli_epi32(_mm256_castps_si256(shifted.v), 23);
    const __m256i power = _mm256_castps_si256(fma(exp2_slope(r), r, F32::all(1.0f)).v);
    return {_mm256_castsi256_ps(_mm256_add_epi32(power, exponent))};
}

}  // namespace
}  // namespace longspan::LONGSPAN_ISA
