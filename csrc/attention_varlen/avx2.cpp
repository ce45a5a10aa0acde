#include "core/simd_avx2.h"

namespace longspan::avx2 {
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

}  // namespace
}  // namespace longspan::avx2

#include "attention_varlen/kernel.h"

namespace longspan::avx2 {

void attention_varlen(const AttentionArgs& args, const AttentionPart& part) {
    PartRunner<Floats>(args, part).run();
}
void attention_varlen_bf16(const AttentionArgs& args, const AttentionPart& part) {
    PartRunner<RoundedFloats>(args, part).run();
}

}  // namespace longspan::avx2
