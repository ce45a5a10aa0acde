// What the ceilings share: a loop on all threads at once, several times, of which the fastest counts.
#pragma once

#ifdef __linux__
#include <sched.h>
#endif

#include <algorithm>
#include <barrier>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <thread>
#include <vector>

// Each thread on a core of its own: two that share one reach half, and in milliseconds nothing moves them apart.
inline void pin_to_core([[maybe_unused]] int thread) {
#ifdef __linux__
    cpu_set_t allowed, chosen;
    if (sched_getaffinity(0, sizeof allowed, &allowed) != 0) return;
    int skip = thread % CPU_COUNT(&allowed);
    for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
        if (!CPU_ISSET(cpu, &allowed) || skip-- > 0) continue;
        CPU_ZERO(&chosen);
        CPU_SET(cpu, &chosen);
        sched_setaffinity(0, sizeof chosen, &chosen);
        return;
    }
#endif
}

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
    // The first pins itself last: those that it starts inherit what it may run on.
    for (int i = 1; i < threads; ++i) pool.emplace_back([&, i] { pin_to_core(i), work(i); });
    pin_to_core(0);
    work(0);
    for (auto& thread : pool) thread.join();
    std::printf("%.1f\n", *std::max_element(rates.begin(), rates.end()));
    return 0;
}
