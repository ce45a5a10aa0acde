#include "attention_varlen/lanes_avx2.h"

#include "attention_varlen/kernel.h"

namespace longspan::avx2 {

void attention_varlen(const AttentionArgs& args, const AttentionPart& part) {
    PartRunner<Floats>(args, part).run();
}
void attention_varlen_bf16(const AttentionArgs& args, const AttentionPart& part) {
    PartRunner<RoundedFloats>(args, part).run();
}
void attention_varlen_i8(const AttentionArgs& args, const AttentionPart& part) {
    PartRunner<Whole<Floats, WholeFloats>>(args, part).run();
}

}  // namespace longspan::avx2
