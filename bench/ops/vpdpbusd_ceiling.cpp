// The int8 multiply-adds that a register loop reaches. Compiles only for machines with AVX-512 VNNI.
#ifndef __AVX512VNNI__
#error "this processor has no AVX-512 VNNI"
#endif

#include "ceiling.h"

namespace {

constexpr int kChains = 16;  // more than latency (4 to 5) * units (2), fewer than 32 registers
constexpr long kSteps = 300000;

// By hand: of the intrinsic GCC 12 copies the sums from register to register at each step, at half the rate.
void loop() {
    long steps = kSteps;
    asm volatile(
        "1:\n"
        ".irp sum, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15\n"
        "vpdpbusd %%zmm30, %%zmm31, %%zmm\\sum\n"
        ".endr\n"
        "dec %0\n"
        "jnz 1b\n"
        : "+r"(steps)
        :
        : "cc", "zmm0", "zmm1", "zmm2", "zmm3", "zmm4", "zmm5", "zmm6", "zmm7", "zmm8", "zmm9", "zmm10", "zmm11",
          "zmm12", "zmm13", "zmm14", "zmm15");
}

}  // namespace

int main(int, char** arguments) {
    return print_ceiling(arguments, 2.0 * kChains * kSteps * 64, loop);
}
