#include "core/simd_avx2.h"

namespace longspan::avx2 {
namespace {

inline F32 load_levels(const int8_t* p, int64_t n) {
    uint64_t bytes = 0;
    if (n == F32::kLanes) {
        bytes = static_cast<uint64_t>(_mm_cvtsi128_si64(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p))));
    } else {
        for (int64_t i = 0; i < n; ++i) bytes |= uint64_t{static_cast<uint8_t>(p[i])} << (8 * i);
    }
    const __m128i levels = _mm_cvtsi64_si128(static_cast<int64_t>(bytes));
    return {_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(levels))};
}

inline F32 with_signs(F32 x, const uint8_t* code, int64_t bit, int64_t) {
    const __m256i lane_bit = _mm256_setr_epi32(1, 2, 4, 8, 16, 32, 64, 128);
    const __m256i is_clear =
        _mm256_cmpeq_epi32(_mm256_and_si256(_mm256_set1_epi32(code[bit / 8]), lane_bit), _mm256_setzero_si256());
    const __m256 flip = _mm256_and_ps(_mm256_castsi256_ps(is_clear), _mm256_set1_ps(-0.0f));
    return {_mm256_xor_ps(x.v, flip)};
}

inline void prefetch(const char* p) {
    _mm_prefetch(p, _MM_HINT_T0);
}

}  // namespace
}  // namespace longspan::avx2

#include "rescore/kernel.h"
