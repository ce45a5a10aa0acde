// The functions of a level that multiplies floats alone. Included behind its lanes and kernel.h.

namespace longspan::LONGSPAN_ISA {

void attention_varlen(const AttentionArgs& args, const AttentionPart& part) {
    PartRunner<Floats>(args, part).run();
}
void attention_varlen_bf16(const AttentionArgs& args, const AttentionPart& part) {
    PartRunner<RoundedFloats>(args, part).run();
}
void attention_varlen_i8(const AttentionArgs& args, const AttentionPart& part) {
    PartRunner<Whole<Floats, WholeFloats>>(args, part).run();
}

}  // namespace longspan::LONGSPAN_ISA
