// The fused multiply-adds that a register loop reaches: the ceiling that bench_linear.py holds linear against.
// Prints GFLOP/s of all threads together, the best of several short runs. Usage: fma_ceiling THREADS RUNS
#include <immintrin.h>

#include <algorithm>
#include <barrier>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <thread>
#include <utility>
#include <vector>

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

template <int... kIndex>
void loop(std::integer_sequence<int, kIndex...>, Lanes (&sums)[kChains]) {
    const Lanes factor = all(0.999f), term = all(0.001f);
    for (long step = 0; step < kSteps; ++step) ((sums[kIndex] = fma(sums[kIndex], factor, term)), ...);
}

volatile float sink;

}  // namespace

int main(int, char** arguments) {
    const int threads = std::atoi(arguments[1]), runs = std::atoi(arguments[2]);
    std::barrier start(threads);
    std::vector<double> best(runs, 0.0), begin(threads), end(threads);
    const auto now = [] { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()); };
    const auto work = [&](int thread) {
        for (int run = 0; run < runs; ++run) {
            Lanes sums[kChains];
            for (Lanes& sum : sums) sum = all(1.0f);
            start.arrive_and_wait();
            begin[thread] = now().count();
            loop(std::make_integer_sequence<int, kChains>{}, sums);
            end[thread] = now().count();
            for (const Lanes& sum : sums) sink = reinterpret_cast<const float&>(sum);
            start.arrive_and_wait();
            if (thread == 0) {
                const double seconds =
                    *std::max_element(end.begin(), end.end()) - *std::min_element(begin.begin(), begin.end());
                best[run] = 2.0 * kChains * kSteps * (sizeof(Lanes) / sizeof(float)) * threads / seconds * 1e-9;
            }
        }
    };
    std::vector<std::thread> pool;
    for (int i = 1; i < threads; ++i) pool.emplace_back(work, i);
    work(0);
    for (auto& thread : pool) thread.join();
    std::printf("%.1f\n", *std::max_element(best.begin(), best.end()));
}
