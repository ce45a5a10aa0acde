#include "core/simd_avx512.h"

namespace longspan::avx512 {
namespace {

inline F32 load_levels(const int8_t* p, int64_t n) {
    return {_mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_maskz_loadu_epi8(F32::first(n), p)))};
}

inline F32 with_signs(F32 x, const uint8_t* code, int64_t bit, int64_t bytes) {
    const int64_t byte = bit / 8;
    const uint32_t low = code[byte], high = byte + 1 < bytes ? code[byte + 1] : 0u;
    const __mmask16 is_clear = static_cast<__mmask16>(~(low | high << 8));
    return {_mm512_mask_sub_ps(x.v, is_clear, _mm512_setzero_ps(), x.v)};
}

inline void prefetch(const char* p) {
    _mm_prefetch(p, _MM_HINT_T0);
}

}  // namespace
}  // namespace longspan::avx512

#include "rescore/kernel.h"
