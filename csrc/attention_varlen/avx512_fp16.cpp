#define LONGSPAN_ISA avx512_fp16

#include "attention_varlen/transpose_avx512.h"

#include "attention_varlen/kernel.h"

#include "attention_varlen/whole_avx512.h"

#include "attention_varlen/halves_avx512.h"

namespace longspan::avx512_fp16 {
namespace {

// Rows of bf16, two in a float, as products of bf16 leave them where the level has such too (amx_avx512_fp16).
struct StoredRows : Floats {
    static int64_t row_floats(int64_t dim) { return (dim + 1) / 2; }
    static void unpack_row(const float* row, int64_t dim, float* out) { widen_row(row, dim, out); }
    // Of pairs: sum + a[high] * b[high] + a[low] * b[low].
    static F32 multiply_add(F32 a, F32 b, F32 sum) {
        const auto low = [](F32 x) {
            return F32{_mm512_castsi512_ps(_mm512_slli_epi32(_mm512_castps_si512(x.v), 16))};
        };
        const auto high = [](F32 x) { return F32{_mm512_and_ps(x.v, _mm512_castsi512_ps(_mm512_set1_epi32(-65536)))}; };
        return fma(high(a), high(b), fma(low(a), low(b), sum));
    }
};

}  // namespace

void attention_varlen_i8(const AttentionArgs& args, const AttentionPart& part) {
    if (!are_finite<Floats>(args, part)) return avx512_vnni::attention_varlen_i8(args, part);
    PartRunner<Whole<Halves<Floats>, Bytes>>(args, part).run();
}

void attention_varlen_stored_bf16_i8(const AttentionArgs& args, const AttentionPart& part) {
    if (!are_finite<StoredRows>(args, part)) return avx512_bf16::attention_varlen_stored_bf16_i8(args, part);
    PartRunner<Whole<Halves<StoredRows>, Bytes>>(args, part).run();
}

}  // namespace longspan::avx512_fp16
