// The transpose that kernel.h needs, for both AVX-512 files.
#include "core/simd_avx512.h"

namespace longspan::LONGSPAN_ISA {
namespace {

// rows[i] lane j <-> rows[j] lane i: pairs, then quads, then quarters of the registers.
[[gnu::always_inline]] inline void transpose(F32 (&rows)[F32::kLanes]) {
    __m512 pairs[16], quads[16], halves[16];
    for (int i = 0; i < 16; i += 2) {
        pairs[i] = _mm512_unpacklo_ps(rows[i].v, rows[i + 1].v);
        pairs[i + 1] = _mm512_unpackhi_ps(rows[i].v, rows[i + 1].v);
    }
    for (int i = 0; i < 16; i += 4) {
        for (int j = 0; j < 2; ++j) {
            quads[i + 2 * j] = _mm512_shuffle_ps(pairs[i + j], pairs[i + 2 + j], 0x44);
            quads[i + 2 * j + 1] = _mm512_shuffle_ps(pairs[i + j], pairs[i + 2 + j], 0xee);
        }
    }
    // quads[4 g + c]: column c + 4 q of rows 4 g .. 4 g + 3 in its quarter q.
    for (int c = 0; c < 4; ++c) {
        for (int g = 0; g < 2; ++g) {
            halves[c + 8 * g] = _mm512_shuffle_f32x4(quads[8 * g + c], quads[8 * g + 4 + c], 0x88);
            halves[c + 8 * g + 4] = _mm512_shuffle_f32x4(quads[8 * g + c], quads[8 * g + 4 + c], 0xdd);
        }
    }
    for (int c = 0; c < 4; ++c) {
        rows[c].v = _mm512_shuffle_f32x4(halves[c], halves[c + 8], 0x88);
        rows[c + 8].v = _mm512_shuffle_f32x4(halves[c], halves[c + 8], 0xdd);
        rows[c + 4].v = _mm512_shuffle_f32x4(halves[c + 4], halves[c + 12], 0x88);
        rows[c + 12].v = _mm512_shuffle_f32x4(halves[c + 4], halves[c + 12], 0xdd);
    }
}

}  // namespace
}  // namespace longspan::LONGSPAN_ISA
