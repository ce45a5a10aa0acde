#include "core/simd_portable.h"

namespace longspan::portable {
namespace {

F32 load_levels(const int8_t* p, int64_t n) {
    F32 out = F32::zero();
    for (int64_t i = 0; i < n; ++i) out.v[i] = static_cast<float>(p[i]);
    return out;
}

F32 with_signs(F32 x, const uint8_t* code, int64_t bit, int64_t) {
    for (int64_t i = 0; i < F32::kLanes; ++i) {
        const bool is_set = code[(bit + i) / 8] >> ((bit + i) % 8) & 1;
        x.v[i] = is_set ? x.v[i] : -x.v[i];
    }
    return x;
}

void prefetch(const char*) {}  // no portable way to ask

}  // namespace
}  // namespace longspan::portable

#include "rescore/kernel.h"
