#include "core/simd_portable.h"

namespace longspan::portable {
namespace {

// rows[i] lane j <-> rows[j] lane i.
inline void transpose(F32 (&rows)[F32::kLanes]) {
    for (int i = 0; i < F32::kLanes; ++i) {
        for (int j = 0; j < i; ++j) {
            const float kept = rows[i].v[j];
            rows[i].v[j] = rows[j].v[i];
            rows[j].v[i] = kept;
        }
    }
}

}  // namespace
}  // namespace longspan::portable

#include "attention_varlen/kernel.h"

#include "attention_varlen/plain_level.h"
