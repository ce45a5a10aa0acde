#define LONGSPAN_ISA avx512_vnni

#include "linear/lanes_avx512.h"

#include "linear/kernel.h"

namespace longspan::avx512_vnni {

void linear_i8(const LinearArgs& args, const LinearBlock& block) {
    walk<Int8Kind>(args, block);
}

}  // namespace longspan::avx512_vnni
