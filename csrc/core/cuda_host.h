// What host code needs to put kernels on a stream; the .cu files add core/cuda_device.h. One source, two worlds: CUDA,
// and tests/cuda_emulator, which runs the very same kernels on the CPU, a block at a time and a thread at a time, and
// holds them to CUDA's rules for barriers and warps.
#pragma once

#include <cstddef>
#include <cstdint>
#include <stdexcept>
#include <string>

#if LONGSPAN_CUDA_EMULATED
#include "cuda_emulator.h"
#else
#include <cuda_runtime.h>
#endif

namespace longspan::cuda {

using Stream = cudaStream_t;

// The floating types that kernels read, named at run time.
enum class Float { f32, f16, bf16 };

template <class T>
__host__ __device__ constexpr T divide_up(T value, T by) {
    return (value + by - 1) / by;
}

#if !LONGSPAN_CUDA_EMULATED

// Throws std::runtime_error with CUDA's own words where `status` is an error.
inline void require(cudaError_t status, const char* what) {
    if (status != cudaSuccess) throw std::runtime_error(std::string(what) + ": " + cudaGetErrorString(status));
}

inline void fill_bytes(const char* what, void* memory, int value, size_t bytes, Stream stream) {
    require(cudaMemsetAsync(memory, value, bytes, stream), what);
}

// Multiprocessors of the current device.
inline int num_multiprocessors() {
    int device = 0, count = 0;
    require(cudaGetDevice(&device), "cuda");
    require(cudaDeviceGetAttribute(&count, cudaDevAttrMultiProcessorCount, device), "cuda");
    return count;
}

// Throws std::runtime_error unless the current device has compute capability 9.0, of which sm_90a's instructions are.
inline void require_hopper(const char* what) {
    int device = 0, major = 0, minor = 0;
    require(cudaGetDevice(&device), what);
    require(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device), what);
    require(cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, device), what);
    if (major == 9 && minor == 0) return;
    throw std::runtime_error(std::string(what) + ": needs a GPU of compute capability 9.0, got " +
                             std::to_string(major) + "." + std::to_string(minor));
}

#endif

}  // namespace longspan::cuda
