// What the ceilings share: a loop on all threads at once, several times, of which the fastest counts.
#pragma once

#include <algorithm>
#include <barrier>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <thread>
#include <vector>

// Runs loop() on every thread, again and again, and prints GFLOP/s of all threads together; flops are of one call.
// Usage of the programs: NAME THREADS RUNS
template <typename Loop>
int print_ceiling(char** arguments, double flops, Loop loop) {
    const int threads = std::atoi(arguments[1]), runs = std::atoi(arguments[2]);
    std::barrier start(threads);
    std::vector<double> rates(runs, 0.0), begin(threads), end(threads);
    const auto now = [] {
        return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
    };
    const auto work = [&](int thread) {
        for (int run = 0; run < runs; ++run) {
            start.arrive_and_wait();
            begin[thread] = now();
            loop();
            end[thread] = now();
            start.arrive_and_wait();
            if (thread != 0) continue;
            const double first = *std::min_element(begin.begin(), begin.end());
            rates[run] = flops * threads / (*std::max_element(end.begin(), end.end()) - first) * 1e-9;
        }
    };
    std::vector<std::thread> pool;
    for (int i = 1; i < threads; ++i) pool.emplace_back(work, i);
    work(0);
    for (auto& thread : pool) thread.join();
    std::printf("%.1f\n", *std::max_element(rates.begin(), rates.end()));
    return 0;
}
