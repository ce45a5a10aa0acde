#define LONGSPAN_ISA neon_dotprod

#include "attention_varlen/transpose_neon.h"

#include "attention_varlen/kernel.h"

#include "attention_varlen/whole_neon.h"

namespace longspan::neon_dotprod {

void attention_varlen_i8(const AttentionArgs& args, const AttentionPart& part) {
    PartRunner<Whole<Floats, Bytes>>(args, part).run();
}

}  // namespace longspan::neon_dotprod
