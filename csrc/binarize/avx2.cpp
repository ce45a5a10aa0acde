#include "core/simd_avx2.h"

namespace longspan::avx2 {
namespace {

inline uint64_t bits_above(F32 x, F32 threshold) {
    return static_cast<uint64_t>(_mm256_movemask_ps(_mm256_cmp_ps(x.v, threshold.v, _CMP_GT_OQ)));
}

inline uint64_t bits_nan(F32 x) {
    return static_cast<uint64_t>(_mm256_movemask_ps(_mm256_cmp_ps(x.v, x.v, _CMP_UNORD_Q)));
}

}  // namespace
}  // namespace longspan::avx2

#include "binarize/kernel.h"
