#define LONGSPAN_ISA avx512_vnni

#include "attention_varlen/transpose_avx512.h"

#include "attention_varlen/kernel.h"

#include "attention_varlen/whole_avx512.h"

namespace longspan::avx512_vnni {

void attention_varlen_i8(const AttentionArgs& args, const AttentionPart& part) {
    PartRunner<Whole<RoughFloats, Bytes>>(args, part).run();
}

}  // namespace longspan::avx512_vnni
