// The fused multiply-adds in float32 that a register loop reaches: the ceiling of every kernel that makes them.
#include <immintrin.h>

#include <utility>

#include "ceiling.h"

namespace {

#if defined(__AVX512F__)
using Lanes = __m512;
Lanes all(float x) {
    return _mm512_set1_ps(x);
}
Lanes fma(Lanes a, Lanes b, Lanes c) {
    return _mm512_fmadd_ps(a, b, c);
}
#else
using Lanes = __m256;
Lanes all(float x) {
    return _mm256_set1_ps(x);
}
Lanes fma(Lanes a, Lanes b, Lanes c) {
    return _mm256_fmadd_ps(a, b, c);
}
#endif
constexpr int kChains = 12;  // more than latency (4) * units (2), fewer than 16 registers
constexpr long kSteps = 400000;

volatile float sink;

template <int... kIndex>
void loop(std::integer_sequence<int, kIndex...>) {
    Lanes sums[kChains];
    for (Lanes& sum : sums) sum = all(1.0f);
    const Lanes factor = all(0.999f), term = all(0.001f);
    for (long step = 0; step < kSteps; ++step) ((sums[kIndex] = fma(sums[kIndex], factor, term)), ...);
    for (const Lanes& sum : sums) sink = reinterpret_cast<const float&>(sum);
}

}  // namespace

int main(int, char** arguments) {
    return print_ceiling(arguments, 2.0 * kChains * kSteps * (sizeof(Lanes) / sizeof(float)),
                         [] { loop(std::make_integer_sequence<int, kChains>{}); });
}
