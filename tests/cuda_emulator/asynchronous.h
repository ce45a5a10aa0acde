// What a block has on its way, and what it waits for.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>

namespace emulator {

struct Copy {
    void* to;
    const void* from;
    size_t bytes;
};

// A product of a warpgroup, as one of its threads asked for it.
struct Product {
    float* sums;
    const uint32_t* operand;  // null: descriptor a
    uint64_t a, b;
    int columns;
    bool is_half, adds;
};

// An mbarrier, which lies in shared memory for the kernel.
struct Mbarrier {
    int64_t expected, pending, bytes;
    uint32_t phases;  // that have ended
    int owner;        // -1 once all may see it
};

// A tensor copy; a late one arrives when nothing else can happen.
struct BoxCopy {
    std::function<void()> arrive;
    bool is_late;
};

struct NamedBarrier {
    int threads = 0, arrived = 0;
    uint32_t phases = 0;
};

}  // namespace emulator
