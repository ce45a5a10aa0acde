// CUDA's names for the CPU: enough of them to run csrc's kernels in a test, as they are written.
//
// Blocks run one after the other, a block's threads as fibers that change over at barriers and warp exchanges only, in
// an order drawn anew each time: a kernel that relies on an order it did not ask for gives another result sooner or
// later. Broken rules are errors: a barrier that not all threads reach, a warp exchange that not all lanes take part
// in or that they take for different ones, shared memory of a block before (it is filled with noise).
#pragma once

#include <bit>
#include <cmath>

#include "fibers.h"
#include "tensor_map.h"

#define __host__
#define __device__
#define __global__
#define __grid_constant__
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
using cudaStream_t = void*;

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
template <class T>
T keep_inside(T value) {
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
inline void require_hopper(const char*) {}

}  // namespace longspan::cuda
