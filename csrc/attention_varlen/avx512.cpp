#include "attention_varlen/transpose_avx512.h"

#include "attention_varlen/kernel.h"

#include "attention_varlen/whole_avx512.h"

namespace longspan::avx512 {

void attention_varlen(const AttentionArgs& args, const AttentionPart& part) {
    PartRunner<Floats>(args, part).run();
}
void attention_varlen_bf16(const AttentionArgs& args, const AttentionPart& part) {
    PartRunner<RoundedFloats>(args, part).run();
}
void attention_varlen_i8(const AttentionArgs& args, const AttentionPart& part) {
    PartRunner<Whole<RoughFloats, WholeFloats>>(args, part).run();
}

}  // namespace longspan::avx512
