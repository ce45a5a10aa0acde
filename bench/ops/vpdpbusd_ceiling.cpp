// The int8 multiply-adds that a register loop reaches. Compiles only for machines with AVX-512 VNNI.
#include <immintrin.h>

#include <utility>

#include "ceiling.h"

namespace {

constexpr int kChains = 16;  // more than latency (4 to 5) * units (2), fewer than 32 registers
constexpr long kSteps = 300000;

volatile int sink;

template <int... kIndex>
void loop(std::integer_sequence<int, kIndex...>) {
    __m512i sums[kChains];
    for (__m512i& sum : sums) sum = _mm512_setzero_si512();
    const __m512i left = _mm512_set1_epi8(3), right = _mm512_set1_epi8(5);
    for (long step = 0; step < kSteps; ++step) {
        ((sums[kIndex] = _mm512_dpbusd_epi32(sums[kIndex], left, right)), ...);
        // Integers may be regrouped, and equal chains be made one: here they may not.
        (([&] { asm volatile("" : "+v"(sums[kIndex])); }()), ...);
    }
    for (const __m512i& sum : sums) sink = _mm512_cvtsi512_si32(sum);
}

}  // namespace

int main(int, char** arguments) {
    return print_ceiling(arguments, 2.0 * kChains * kSteps * 64,
                         [] { loop(std::make_integer_sequence<int, kChains>{}); });
}
