#include "core/simd_portable.h"

namespace longspan::portable {
namespace {

uint64_t bits_above(F32 x, F32 threshold) {
    uint64_t bits = 0;
    for (int i = 0; i < F32::kLanes; ++i) bits |= uint64_t{x.v[i] > threshold.v[i]} << i;
    return bits;
}

uint64_t bits_nan(F32 x) {
    uint64_t bits = 0;
    for (int i = 0; i < F32::kLanes; ++i) bits |= uint64_t{x.v[i] != x.v[i]} << i;
    return bits;
}

}  // namespace
}  // namespace longspan::portable

#include "binarize/kernel.h"
