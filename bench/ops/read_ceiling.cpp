// The rate at which this machine's cores read memory: the ceiling that bench_span_mean.py holds span_mean against.
// Built as a shared library, so that it runs in turn with the kernel, on the same memory.
#include <cstddef>
#include <thread>
#include <vector>

namespace {

// -ffast-math lets the compiler add in vectors; sixteen sums hide the addition's latency.
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

// Reads `count` floats once, each thread its own stretch of them; returns their sum, so that the reads are needed.
extern "C" float read_all(const float* data, std::size_t count, int threads) {
    std::vector<float> totals(threads);
    std::vector<std::thread> pool;
    const std::size_t share = count / threads;
    for (int i = 0; i < threads; ++i) {
        pool.emplace_back([&, i] { totals[i] = sum(data + i * share, share); });
    }
    for (auto& thread : pool) thread.join();
    float total = 0.0f;
    for (const float part : totals) total += part;
    return total;
}
