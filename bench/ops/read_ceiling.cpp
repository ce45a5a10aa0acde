// The rate at which this machine's cores read memory: the ceiling that bench_span_mean.py holds span_mean against.
// Built as a shared library: ceilings.py reads arrays of several sizes, bench_span_mean.py takes turns with it.
#include <cstddef>
#include <thread>
#include <vector>

namespace {

// Each lane has a sum of its own, so the compiler adds in vectors; sixteen of them hide the addition's latency.
float sum(const float* data, std::size_t count) {
    constexpr std::size_t kLanes = 256;
    float parts[kLanes] = {};
    for (std::size_t i = 0; i + kLanes <= count; i += kLanes) {
        for (std::size_t lane = 0; lane < kLanes; ++lane) parts[lane] += data[i + lane];
    }
    float total = 0.0f;
    for (const float part : parts) total += part;
    return total;
}

}  // namespace

// Reads `count` floats `passes` times, each thread its own stretch; returns their sum, so that the reads are needed.
extern "C" float read_all(const float* data, std::size_t count, int threads, int passes) {
    std::vector<float> totals(threads);
    std::vector<std::thread> pool;
    const std::size_t share = count / threads;
    for (int i = 0; i < threads; ++i) {
        pool.emplace_back([&, i] {
            for (int pass = 0; pass < passes; ++pass) {
                totals[i] += sum(data + i * share, share);
                asm volatile("" ::: "memory");  // or one pass would do for all
            }
        });
    }
    for (auto& thread : pool) thread.join();
    float total = 0.0f;
    for (const float part : totals) total += part;
    return total;
}
