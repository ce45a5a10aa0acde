#include "linear/lanes_portable.h"

#include "linear/kernel.h"

#include "linear/int8.h"

namespace longspan::portable {

void linear_f32(const LinearArgs& args, const LinearBlock& block) {
    walk<FloatKind>(args, block);
}
void linear_bf16(const LinearArgs& args, const LinearBlock& block) {
    walk<Bf16Kind>(args, block);
}
void linear_i8(const LinearArgs& args, const LinearBlock& block) {
    walk<Int8Kind>(args, block);
}

}  // namespace longspan::portable
