#define LONGSPAN_ISA avx512_bf16

#include "maxsim/lanes_avx512.h"

namespace longspan::avx512_bf16 {
namespace {

// sum + a[high] * b[high] + a[low] * b[low], the halves of a lane taken as bf16.
inline F32 add_bf16_products(F32 sum, I32 a, I32 b) {
    return {_mm512_dpbf16_ps(sum.v, reinterpret_cast<__m512bh>(a.v), reinterpret_cast<__m512bh>(b.v))};
}

}  // namespace
}  // namespace longspan::avx512_bf16

#include "maxsim/kernel.h"
