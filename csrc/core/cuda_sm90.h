// Hopper's own instructions, each in one small function; for .cu files that are compiled for sm_90a alone. The emulator
// has a twin of every one (tests/cuda_emulator/cuda_emulator_sm90.h). Source: PTX ISA 9.0, sections 9.7.9.27 (bulk
// tensor copies), 9.7.13.15 (mbarrier), 9.7.15 (wgmma), 9.7.19.5 (setmaxnreg).
#pragma once

#include "core/cuda_device.h"
#include "core/cuda_tensor_map.h"

namespace longspan::cuda {

inline constexpr int kWarpgroup = 128;

// A ring of stages, by how often it was gone round: a stage's barriers change phase once a round.
template <int kStages>
struct Ring {
    uint32_t used = 0;

    __host__ __device__ uint32_t stage() const { return used % kStages; }
    __host__ __device__ uint32_t phase() const { return used / kStages % 2; }
    __host__ __device__ void advance(uint32_t by = 1) { used += by; }
};

#if !LONGSPAN_CUDA_EMULATED

// An address as shared memory has it: 0 is the window's start.
__device__ __forceinline__ uint32_t shared_address(const void* shared) {
    return static_cast<uint32_t>(__cvta_generic_to_shared(shared));
}

// ---- mbarriers: 8 bytes of shared memory; a phase ends when all have arrived and all expected bytes have landed ----

__device__ __forceinline__ void barrier_init(uint64_t* barrier, uint32_t arrivals) {
    asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(shared_address(barrier)), "r"(arrivals) : "memory");
}

// Behind the last barrier_init of a thread, before the __syncthreads that tells the others: copies see them too.
__device__ __forceinline__ void publish_barriers() {
    asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
    asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
}

__device__ __forceinline__ void barrier_arrive(uint64_t* barrier) {
    asm volatile("mbarrier.arrive.release.cta.shared::cta.b64 _, [%0];" ::"r"(shared_address(barrier)) : "memory");
}

// Arrives, and lets the phase wait for `bytes` of tensor copies.
__device__ __forceinline__ void barrier_expect(uint64_t* barrier, uint32_t bytes) {
    asm volatile("mbarrier.arrive.expect_tx.release.cta.shared::cta.b64 _, [%0], %1;" ::"r"(shared_address(barrier)),
                 "r"(bytes)
                 : "memory");
}

// Waits for the end of the phase of this parity: of the first one, 0. Parity 1 of a fresh barrier counts as ended. What
// has not come after seconds never will: better an error than a GPU that hangs.
__device__ __forceinline__ void barrier_wait(uint64_t* barrier, uint32_t parity) {
    constexpr uint32_t kMostTries = 1u << 26;  // of 20 ns and more
#pragma unroll 1
    for (uint32_t tries = 0; tries < kMostTries; ++tries) {
        uint32_t has_ended;
        asm volatile(
            "{\n"
            ".reg .pred ended;\n"
            "mbarrier.try_wait.parity.acquire.cta.shared::cta.b64 ended, [%1], %2;\n"
            "selp.u32 %0, 1, 0, ended;\n"
            "}"
            : "=r"(has_ended)
            : "r"(shared_address(barrier)), "r"(parity)
            : "memory");
        if (has_ended != 0) return;
    }
    asm volatile("trap;");
}

// ---- bulk tensor copies ----

__device__ __forceinline__ void prefetch_map(const TensorMap* map) {
    asm volatile("prefetch.tensormap [%0];" ::"l"(reinterpret_cast<uint64_t>(map)) : "memory");
}

// Copies the map's box at (x, y, z), x being the contiguous axis, to shared memory, swizzled as the map says, with
// zeros outside the tensor; its bytes count towards the barrier's phase. One thread calls it.
__device__ __forceinline__ void copy_box(void* shared, const TensorMap* map, uint64_t* barrier, int x, int y, int z) {
    asm volatile(
        "cp.async.bulk.tensor.3d.shared::cluster.global.tile.mbarrier::complete_tx::bytes [%0], [%1, {%3, %4, %5}], "
        "[%2];" ::"r"(shared_address(shared)),
        "l"(reinterpret_cast<uint64_t>(map)), "r"(shared_address(barrier)), "r"(x), "r"(y), "r"(z)
        : "memory");
}

// Between a thread's plain writes to shared memory and the barrier behind which wgmma reads them.
__device__ __forceinline__ void publish_writes() {
    asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
}

// ---- named barriers, 1 to 15, of `threads` threads in all; 0 is that of __syncthreads ----

__device__ __forceinline__ void named_barrier_sync(int barrier, int threads) {
    asm volatile("bar.sync %0, %1;" ::"r"(barrier), "r"(threads) : "memory");
}
__device__ __forceinline__ void named_barrier_arrive(int barrier, int threads) {
    asm volatile("bar.arrive %0, %1;" ::"r"(barrier), "r"(threads) : "memory");
}

// ---- registers: what a warpgroup has from here on, of what the block was started with ----

template <int kRegisters>
__device__ __forceinline__ void keep_registers() {
    asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(kRegisters));
}
template <int kRegisters>
__device__ __forceinline__ void take_registers() {
    asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(kRegisters));
}

// ---- numbers ----

// A value that all lanes of a warp have: told to the compiler, which then keeps what follows from it once a warp.
__device__ __forceinline__ int same_in_warp(int value) {
    return __shfl_sync(kFullWarp, value, 0);
}

// 2^x to 2 units in the last place; 0 for -infinity.
__device__ __forceinline__ float exp2_approx(float x) {
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

// Two values rounded to nearest even, `low` in the lower 16 bits.
template <class T>
__device__ __forceinline__ uint32_t pack_pair(float low, float high);
template <>
__device__ __forceinline__ uint32_t pack_pair<Bfloat16>(float low, float high) {
    uint32_t pair;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(high), "f"(low));
    return pair;
}
template <>
__device__ __forceinline__ uint32_t pack_pair<Half>(float low, float high) {
    uint32_t pair;
    asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(high), "f"(low));
    return pair;
}

#endif

}  // namespace longspan::cuda

#if LONGSPAN_CUDA_EMULATED
#include "cuda_emulator_sm90.h"
#endif
