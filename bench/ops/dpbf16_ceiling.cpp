// The bfloat16 multiply-adds that a register loop reaches. Compiles only for machines with AVX-512 BF16.
#include <immintrin.h>

#include <utility>

#include "ceiling.h"

namespace {

constexpr int kChains = 24;  // more than latency (6 to 10) * units (2), fewer than 32 registers
constexpr long kSteps = 200000;

volatile float sink;

template <int... kIndex>
void loop(std::integer_sequence<int, kIndex...>) {
    __m512 sums[kChains];
    for (__m512& sum : sums) sum = _mm512_setzero_ps();
    const auto factor = (__m512bh)_mm512_set1_epi32(0x3c003c00);  // pairs of 2^-7
    for (long step = 0; step < kSteps; ++step) ((sums[kIndex] = _mm512_dpbf16_ps(sums[kIndex], factor, factor)), ...);
    for (const __m512& sum : sums) sink = _mm512_cvtss_f32(sum);
}

}  // namespace

int main(int, char** arguments) {
    return print_ceiling(arguments, 2.0 * kChains * kSteps * 32,
                         [] { loop(std::make_integer_sequence<int, kChains>{}); });
}
