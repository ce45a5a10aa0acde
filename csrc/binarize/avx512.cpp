#include "core/simd_avx512.h"

namespace longspan::avx512 {
namespace {

inline uint64_t bits_above(F32 x, F32 threshold) {
    return _mm512_cmp_ps_mask(x.v, threshold.v, _CMP_GT_OQ);
}

inline uint64_t bits_nan(F32 x) {
    return _mm512_cmp_ps_mask(x.v, x.v, _CMP_UNORD_Q);
}

}  // namespace
}  // namespace longspan::avx512

#include "binarize/kernel.h"
