// What the kernels use of CUDA, and how they are launched; for .cu files.
#pragma once

#include "core/cuda_host.h"

#if !LONGSPAN_CUDA_EMULATED
#include <cuda_fp16.h>

#include <map>
#include <mutex>
#include <utility>
#endif

namespace longspan::cuda {

inline constexpr unsigned kFullWarp = 0xffffffffu;
inline constexpr int kWarp = 32;

// The 16 bits of a half or a bfloat16: no framework's header is needed to hold one.
struct Half {
    uint16_t bits;
};
struct Bfloat16 {
    uint16_t bits;
};

__host__ __device__ inline float float_of_bits(uint32_t bits) {
#if defined(__CUDA_ARCH__)
    return __uint_as_float(bits);
#else
    float value;
    static_assert(sizeof value == sizeof bits);
    __builtin_memcpy(&value, &bits, sizeof value);
    return value;
#endif
}

__host__ __device__ inline float to_float(float value) {
    return value;
}
__host__ __device__ inline float to_float(Bfloat16 value) {
    return float_of_bits(uint32_t{value.bits} << 16);
}
__host__ __device__ inline float to_float(Half value) {
#if defined(__CUDA_ARCH__)
    return __half2float(__ushort_as_half(value.bits));
#else
    const uint32_t sign = uint32_t{value.bits & 0x8000u} << 16, rest = value.bits & 0x7fffu;
    if (rest >= 0x7c00) return float_of_bits(sign | 0x7f800000u | (rest & 0x3ffu) << 13);  // infinity or NaN
    if (rest >= 0x0400) return float_of_bits(sign | ((rest << 13) + 0x38000000u));
    const float tiny = static_cast<float>(rest) * 0x1p-24f;
    return sign != 0 ? -tiny : tiny;
#endif
}

#if !LONGSPAN_CUDA_EMULATED

// The block's dynamic shared memory, 16-byte aligned.
__device__ __forceinline__ unsigned char* dynamic_shared() {
    extern __shared__ __align__(16) unsigned char longspan_dynamic_shared[];
    return longspan_dynamic_shared;
}

// `value`, of which the compiler knows nothing: addresses and terms made from it are made where they are used, and do
// not wait in registers through a loop.
__device__ __forceinline__ int keep_inside(int value) {
    asm volatile("" : "+r"(value));
    return value;
}
__device__ __forceinline__ float keep_inside(float value) {
    asm volatile("" : "+f"(value));
    return value;
}

// Copies 4 or 16 bytes, aligned to their size, from global to shared memory behind the thread's back, until
// wait_for_copies<n> says that all but the last n groups that commit_copies closed have arrived.
__device__ __forceinline__ void copy_async_16(void* shared, const void* global) {
    const uint32_t to = static_cast<uint32_t>(__cvta_generic_to_shared(shared));
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(to), "l"(global) : "memory");
}
__device__ __forceinline__ void copy_async_4(void* shared, const void* global) {
    const uint32_t to = static_cast<uint32_t>(__cvta_generic_to_shared(shared));
    asm volatile("cp.async.ca.shared.global [%0], [%1], 4;" ::"r"(to), "l"(global) : "memory");
}
__device__ __forceinline__ void commit_copies() {
    asm volatile("cp.async.commit_group;" ::: "memory");
}
template <int kPending>
__device__ __forceinline__ void wait_for_copies() {
    asm volatile("cp.async.wait_group %0;" ::"n"(kPending) : "memory");
}

// A warp's 16 rows of 256 bits against 8: sums[i][j] = start[i][j] + popcount(a[i] & b[j]) (PTX: mma.m16n8k256.b1, a
// tensor-core instruction on sm_80 and sm_90; for sm_100 the assembler makes it of eight 8-bit products).
// With g = lane / 4 and t = lane % 4, a thread holds 32-bit words t of rows g, g + 8 of a, then words 4 + t of both;
// words t and 4 + t of row g of b; sums [g][2t], [g][2t + 1], [g + 8][2t], [g + 8][2t + 1].
__device__ __forceinline__ void add_common_bits(int32_t (&sums)[4], const uint32_t (&a)[4], uint2 b,
                                                const int32_t (&start)[4]) {
    asm volatile(
        "mma.sync.aligned.m16n8k256.row.col.s32.b1.b1.s32.and.popc {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
        "{%10, %11, %12, %13};"
        : "=r"(sums[0]), "=r"(sums[1]), "=r"(sums[2]), "=r"(sums[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b.x), "r"(b.y), "r"(start[0]), "r"(start[1]), "r"(start[2]),
          "r"(start[3]));
}

// Once for each kernel and device: loads the kernel, and lets its blocks have `shared` bytes. CUDA loads a kernel when
// it is first wanted, which may be while the caller captures a graph; relaxed, this thread may do so even then.
inline void prepare(const char* what, const void* kernel, size_t shared) {
    constexpr size_t kFreeShared = 48 * 1024;  // what a block may have without asking
    static std::mutex mutex;
    static std::map<std::pair<const void*, int>, size_t> prepared;  // the bytes that its blocks may have
    int device = 0;
    require(cudaGetDevice(&device), what);
    const std::lock_guard<std::mutex> lock(mutex);
    const auto place = prepared.find({kernel, device});
    if (place != prepared.end() && shared <= place->second) return;
    cudaStreamCaptureMode mode = cudaStreamCaptureModeRelaxed;
    require(cudaThreadExchangeStreamCaptureMode(&mode), what);
    cudaFuncAttributes attributes;
    cudaError_t status = cudaFuncGetAttributes(&attributes, kernel);
    if (status == cudaSuccess && shared > kFreeShared) {
        status = cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(shared));
    }
    cudaThreadExchangeStreamCaptureMode(&mode);
    require(status, what);
    prepared[{kernel, device}] = shared;
}

// Puts kernel(args) on the stream; waits for nothing. `shared` counts bytes of dynamic shared memory.
template <class Args>
void launch(const char* what, void (*kernel)(Args), dim3 grid, int threads, size_t shared, Stream stream,
            const Args& args) {
    prepare(what, reinterpret_cast<const void*>(kernel), shared);
    kernel<<<grid, static_cast<unsigned>(threads), shared, stream>>>(args);
    require(cudaGetLastError(), what);
}

#endif

// Sum over the lanes of a warp, in each of them: a butterfly, so always in the same order.
template <class T>
__device__ inline T warp_sum(T value) {
    for (int offset = kWarp / 2; offset > 0; offset /= 2) value += __shfl_xor_sync(kFullWarp, value, offset);
    return value;
}

// Sum of `value` over the threads before this one in the block, and of all of them. `scratch` has room for 33 values;
// begins and ends with a barrier. Every thread of the block must call it.
__device__ inline uint32_t block_sum_before(uint32_t value, uint32_t* scratch, uint32_t& total) {
    const int lane = static_cast<int>(threadIdx.x) % kWarp, warp = static_cast<int>(threadIdx.x) / kWarp;
    const int warps = static_cast<int>(blockDim.x) / kWarp;
    uint32_t through = value;  // over the lanes up to this one
    for (int offset = 1; offset < kWarp; offset *= 2) {
        const uint32_t below = __shfl_up_sync(kFullWarp, through, static_cast<unsigned>(offset));
        if (lane >= offset) through += below;
    }
    __syncthreads();
    if (lane == kWarp - 1) scratch[warp] = through;
    __syncthreads();
    uint32_t before = through - value;
    uint32_t sum = 0;
    for (int i = 0; i < warps; ++i) {
        if (i == warp) before += sum;
        sum += scratch[i];
    }
    total = sum;
    __syncthreads();
    return before;
}

}  // namespace longspan::cuda
