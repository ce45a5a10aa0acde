#define LONGSPAN_ISA avx512_bf16

#include "linear/lanes_avx512.h"

#include "linear/kernel.h"

namespace longspan::avx512_bf16 {

void linear_bf16(const LinearArgs& args, const LinearBlock& block) {
    walk<Bf16Kind>(args, block);
}

}  // namespace longspan::avx512_bf16
