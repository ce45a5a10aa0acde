// The bfloat16 multiply-adds that a register loop reaches: the ceiling that bench_maxsim.py holds bfloat16 against.
// Prints GFLOP/s of all threads together, the best of several short runs. Usage: dpbf16_ceiling THREADS RUNS
// Compiles only for machines with AVX-512 BF16.
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

constexpr int kChains = 24;  // more than latency (6 to 10) * units (2), fewer than 32 registers
constexpr long kSteps = 200000;

template <int... kIndex>
void loop(std::integer_sequence<int, kIndex...>, __m512 (&sums)[kChains]) {
    const auto factor = (__m512bh)_mm512_set1_epi32(0x3c003c00);  // pairs of 2^-7
    for (long step = 0; step < kSteps; ++step) ((sums[kIndex] = _mm512_dpbf16_ps(sums[kIndex], factor, factor)), ...);
}

double seconds_now() {
    return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

volatile float sink;

}  // namespace

int main(int, char** arguments) {
    const int threads = std::atoi(arguments[1]), runs = std::atoi(arguments[2]);
    std::barrier start(threads);
    std::vector<double> rates(runs, 0.0), begin(threads), end(threads);
    const auto work = [&](int thread) {
        for (int run = 0; run < runs; ++run) {
            __m512 sums[kChains];
            for (__m512& sum : sums) sum = _mm512_setzero_ps();
            start.arrive_and_wait();
            begin[thread] = seconds_now();
            loop(std::make_integer_sequence<int, kChains>{}, sums);
            end[thread] = seconds_now();
            for (const __m512& sum : sums) sink = _mm512_cvtss_f32(sum);
            start.arrive_and_wait();
            if (thread != 0) continue;
            const double seconds =
                *std::max_element(end.begin(), end.end()) - *std::min_element(begin.begin(), begin.end());
            rates[run] = 2.0 * kChains * kSteps * 32 * threads / seconds * 1e-9;
        }
    };
    std::vector<std::thread> pool;
    for (int i = 1; i < threads; ++i) pool.emplace_back(work, i);
    work(0);
    for (auto& thread : pool) thread.join();
    std::printf("%.1f\n", *std::max_element(rates.begin(), rates.end()));
}
