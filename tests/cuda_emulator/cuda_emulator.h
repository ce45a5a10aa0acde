// CUDA's names for the CPU: enough of them to run csrc's kernels in a test, as they are written.
//
// Blocks run one after the other, a block's threads as fibers that change over at barriers and warp exchanges only, in
// an order drawn anew each time: a kernel that relies on an order it did not ask for gives another result sooner or
// later. Broken rules are errors: a barrier that not all threads reach, a warp exchange that not all lanes take part
// in or that they take for different ones, shared memory of a block before (it is filled with noise).
#pragma once

#include <ucontext.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cstdint>
#include <cstring>
#include <deque>
#include <functional>
#include <random>
#include <stdexcept>
#include <string>
#include <vector>

#define __host__
#define __device__
#define __global__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __align__(n) alignas(n)

struct uint2 {
    unsigned x, y;
};
struct alignas(16) uint4 {
    unsigned x, y, z, w;
};
struct int2 {
    int x, y;
};
struct alignas(16) float4 {
    float x, y, z, w;
};
struct dim3 {
    unsigned x = 1, y = 1, z = 1;
    dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z) {}
};
using cudaStream_t = void*;

namespace emulator {

inline constexpr int kLanes = 32;
inline constexpr size_t kStackBytes = 128 * 1024;
inline constexpr int kBlockBarrier = -1;
using Payload = std::array<uint32_t, 6>;

struct Copy {
    void* to;
    const void* from;
    size_t bytes;
};

struct Fiber {
    ucontext_t context{};
    std::vector<char> stack = std::vector<char>(kStackBytes);
    bool is_done = false;
    int waits_for = 0;  // 0: can run; kBlockBarrier; else the kind of warp exchange
    int exchanges = 0;
    std::deque<std::vector<Copy>> copies;  // asynchronous ones, by group; the last group is still open
};

struct Warp {
    Payload slots[2][kLanes];  // by parity: a lane can be one exchange ahead of another at most
};

struct Machine {
    std::vector<Fiber> fibers;
    std::vector<Warp> warps;
    std::vector<unsigned char> shared;
    std::function<void()> body;
    ucontext_t scheduler{};
    std::string error;
    std::mt19937 order{1};
    dim3 grid, block, block_index;
    int current = 0, num_threads = 0, multiprocessors = 3;
};

inline Machine& machine() {
    static Machine instance;
    return instance;
}

inline dim3 thread_index() {
    return dim3(static_cast<unsigned>(machine().current), 0, 0);
}

inline void yield(int waits_for) {
    Machine& m = machine();
    Fiber& fiber = m.fibers[static_cast<size_t>(m.current)];
    fiber.waits_for = waits_for;
    swapcontext(&fiber.context, &m.scheduler);
}

[[noreturn]] inline void fail(const std::string& what) {
    machine().error = what;
    for (;;) yield(kBlockBarrier);  // the scheduler throws
}

inline void entry() {
    Machine& m = machine();
    try {
        m.body();
    } catch (const std::exception& error) {
        fail(error.what());
    }
    m.fibers[static_cast<size_t>(m.current)].is_done = true;
    swapcontext(&m.fibers[static_cast<size_t>(m.current)].context, &m.scheduler);
}

// All lanes of the warp hand in a payload and see everybody's.
inline const Payload* exchange(int kind, Payload payload) {
    Machine& m = machine();
    const int thread = m.current;
    Fiber& fiber = m.fibers[static_cast<size_t>(thread)];
    Payload* slots = m.warps[static_cast<size_t>(thread / kLanes)].slots[fiber.exchanges++ % 2];
    slots[thread % kLanes] = std::move(payload);
    yield(kind);
    return slots;
}

// Lets go of the fibers from `first` to `last` if all of them wait for the same; says whether it did.
inline bool release(int first, int last, bool is_block) {
    Machine& m = machine();
    const int kind = m.fibers[static_cast<size_t>(first)].waits_for;
    if (kind == 0 || (kind == kBlockBarrier) != is_block) return false;
    for (int i = first; i < last; ++i) {
        const Fiber& fiber = m.fibers[static_cast<size_t>(i)];
        if (fiber.is_done || fiber.waits_for != kind) return false;
    }
    for (int i = first; i < last; ++i) m.fibers[static_cast<size_t>(i)].waits_for = 0;
    return true;
}

inline void run_block() {
    Machine& m = machine();
    std::generate(m.shared.begin(), m.shared.end(), [&] { return static_cast<unsigned char>(m.order()); });
    for (int i = 0; i < m.num_threads; ++i) {
        Fiber& fiber = m.fibers[static_cast<size_t>(i)];
        fiber.is_done = false;
        fiber.waits_for = fiber.exchanges = 0;
        fiber.copies.assign(1, {});
        getcontext(&fiber.context);
        fiber.context.uc_stack.ss_sp = fiber.stack.data();
        fiber.context.uc_stack.ss_size = fiber.stack.size();
        fiber.context.uc_link = nullptr;
        makecontext(&fiber.context, entry, 0);
    }
    std::vector<int> threads(static_cast<size_t>(m.num_threads));
    for (int i = 0; i < m.num_threads; ++i) threads[static_cast<size_t>(i)] = i;
    for (;;) {
        std::shuffle(threads.begin(), threads.end(), m.order);
        bool has_run = false, all_done = true;
        for (const int i : threads) {
            Fiber& fiber = m.fibers[static_cast<size_t>(i)];
            if (!fiber.is_done && fiber.waits_for == 0) {
                m.current = i;
                swapcontext(&m.scheduler, &fiber.context);
                if (!m.error.empty()) throw std::runtime_error(m.error);
                has_run = true;
            }
            all_done = all_done && fiber.is_done;
        }
        if (all_done) return;
        for (int warp = 0; warp * kLanes < m.num_threads; ++warp) {
            has_run |= release(warp * kLanes, (warp + 1) * kLanes, false);
        }
        has_run |= release(0, m.num_threads, true);
        if (!has_run) throw std::runtime_error("a barrier or warp exchange is not reached by all of its threads");
    }
}

template <class Args>
void run(void (*kernel)(Args), dim3 grid, int threads, size_t shared, const Args& args) {
    Machine& m = machine();
    if (threads % kLanes != 0 || threads > 1024) throw std::runtime_error("a block has whole warps, 32 at most");
    if (shared > 227 * 1024) throw std::runtime_error("a block has 227 KB of shared memory at most");
    if (grid.x == 0 || grid.y == 0 || grid.y > 65535 || grid.z != 1) throw std::runtime_error("not a grid");
    m.num_threads = threads;
    m.fibers.resize(std::max(m.fibers.size(), static_cast<size_t>(threads)));
    m.warps.resize(std::max(m.warps.size(), static_cast<size_t>(threads / kLanes)));
    m.grid = grid;
    m.block = dim3(static_cast<unsigned>(threads));
    m.shared.assign(shared, 0);
    m.error.clear();
    m.body = [&] { kernel(args); };
    for (unsigned y = 0; y < grid.y; ++y) {
        for (unsigned x = 0; x < grid.x; ++x) {
            m.block_index = dim3(x, y, 0);
            run_block();
        }
    }
}

template <class T>
Payload pack(const T& value) {
    static_assert(sizeof(T) <= sizeof(Payload));
    Payload words{};
    std::memcpy(words.data(), &value, sizeof(T));
    return words;
}

template <class T>
T unpack(const Payload& words) {
    T value;
    std::memcpy(&value, words.data(), sizeof(T));
    return value;
}

}  // namespace emulator

#define threadIdx (emulator::thread_index())
#define blockIdx (emulator::machine().block_index)
#define blockDim (emulator::machine().block)
#define gridDim (emulator::machine().grid)

inline void __syncthreads() {
    emulator::yield(emulator::kBlockBarrier);
}
inline void __syncwarp() {
    emulator::exchange(1, {});
}
template <class T>
T __shfl_xor_sync(unsigned, T value, int mask) {
    const auto* slots = emulator::exchange(2, emulator::pack(value));
    return emulator::unpack<T>(slots[(emulator::machine().current % emulator::kLanes) ^ mask]);
}
template <class T>
T __shfl_up_sync(unsigned, T value, unsigned delta) {
    const auto* slots = emulator::exchange(3, emulator::pack(value));
    const int lane = emulator::machine().current % emulator::kLanes;
    return lane < static_cast<int>(delta) ? value : emulator::unpack<T>(slots[lane - static_cast<int>(delta)]);
}

inline int __any_sync(unsigned, int is_true) {
    const auto* slots = emulator::exchange(5, emulator::pack(is_true));
    return std::any_of(slots, slots + emulator::kLanes, [](const auto& lane) { return lane[0] != 0; }) ? 1 : 0;
}

inline int __popc(unsigned word) {
    return std::popcount(word);
}
template <class T>
T atomicAdd(T* target, T value) {
    const T before = *target;
    *target = before + value;
    return before;
}
template <class T>
T __ldcs(const T* from) {
    if (reinterpret_cast<uintptr_t>(from) % sizeof(T) != 0) emulator::fail("a load that is not aligned to its size");
    return *from;
}

namespace longspan::cuda {

using Stream = cudaStream_t;

inline unsigned char* dynamic_shared() {
    return emulator::machine().shared.data();
}
inline int keep_inside(int value) {
    return value;
}
inline void copy_async(void* shared, const void* global, size_t bytes) {
    if (reinterpret_cast<uintptr_t>(global) % bytes != 0 || reinterpret_cast<uintptr_t>(shared) % bytes != 0) {
        emulator::fail("a copy that is not aligned to its size");
    }
    emulator::Machine& m = emulator::machine();
    if (m.order() % 2 == 0) {
        std::memcpy(shared, global, bytes);  // at once, or as late as the rules allow
    } else {
        m.fibers[static_cast<size_t>(m.current)].copies.back().push_back({shared, global, bytes});
    }
}
inline void copy_async_16(void* shared, const void* global) {
    copy_async(shared, global, 16);
}
inline void copy_async_4(void* shared, const void* global) {
    copy_async(shared, global, 4);
}
inline void commit_copies() {
    emulator::Machine& m = emulator::machine();
    m.fibers[static_cast<size_t>(m.current)].copies.emplace_back();
}
template <int kPending>
void wait_for_copies() {
    emulator::Machine& m = emulator::machine();
    auto& groups = m.fibers[static_cast<size_t>(m.current)].copies;
    while (groups.size() > kPending + 1) {
        for (const emulator::Copy& copy : groups.front()) std::memcpy(copy.to, copy.from, copy.bytes);
        groups.pop_front();
    }
}

inline void add_common_bits(int32_t (&sums)[4], const uint32_t (&a)[4], uint2 b, const int32_t (&start)[4]) {
    const auto* slots = emulator::exchange(4, {a[0], a[1], a[2], a[3], b.x, b.y});
    const int lane = emulator::machine().current % emulator::kLanes;
    for (int i = 0; i < 4; ++i) {
        const int row = lane / 4 + 8 * (i / 2), column = 2 * (lane % 4) + i % 2;
        int32_t common = 0;
        for (int word = 0; word < 8; ++word) {  // word t of a row lies with lane t of its four, word 4 + t too
            const uint32_t of_a = slots[row % 8 * 4 + word % 4][static_cast<size_t>(row / 8 + 2 * (word / 4))];
            const uint32_t of_b = slots[column * 4 + word % 4][static_cast<size_t>(4 + word / 4)];
            common += std::popcount(of_a & of_b);
        }
        sums[i] = start[i] + common;
    }
}

template <class Args>
void launch(const char*, void (*kernel)(Args), dim3 grid, int threads, size_t shared, Stream, const Args& args) {
    emulator::run(kernel, grid, threads, shared, args);
}
inline void fill_bytes(const char*, void* memory, int value, size_t bytes, Stream) {
    std::memset(memory, value, bytes);
}
inline int num_multiprocessors() {
    return emulator::machine().multiprocessors;
}

}  // namespace longspan::cuda
