// Tensor maps: how the copy engine (cp.async.bulk.tensor) finds a box of a tensor. Host code, apart from the type.
#pragma once

#include "core/cuda_host.h"
#include "core/error.h"

#if !LONGSPAN_CUDA_EMULATED
#include <cuda.h>
#endif

namespace longspan::cuda {

#if LONGSPAN_CUDA_EMULATED
using TensorMap = emulator::TensorMap;
#else
using TensorMap = CUtensorMap;  // opaque; goes to a kernel as a __grid_constant__ parameter
#endif

inline constexpr uint32_t kSwizzleBytes = 128;   // a box's rows, whose 16-byte parts are swapped: no bank conflicts
inline constexpr uint32_t kPatternBytes = 1024;  // after which the swapping repeats; a box begins at a multiple of it

// Where in shared memory the copy engine puts, and wgmma looks for, what would lie at `address` without swizzling:
// bits 4 to 6, the 16-byte part of a row of 128, are turned over where bits 7 to 9, the row, are set.
__host__ __device__ constexpr uint32_t swizzled(uint32_t address) {
    return address ^ (address >> 3 & 0x70u);
}

// What the driver is asked for: rows of 16-bit values (total, heads, head_dim), of which a copy takes a box of
// `rows` x 1 x 64. Axes are in the driver's order, the contiguous one first; strides, of the others, in bytes.
struct TensorMapPlan {
    const void* data;
    Float dtype;
    uint64_t sizes[3];
    uint64_t strides[2];
    uint32_t box[3];
};

// Packed rows as an op gets them; strides in values.
struct PackedRows {
    const void* data;
    int64_t total, heads, head_dim, row_stride, head_stride;
};

// Throws std::invalid_argument where the copy engine cannot read `rows`, of which there must be some. An axis of one
// element may have any stride: it is never taken.
inline TensorMapPlan plan_tensor_map(const char* name, const PackedRows& rows, Float dtype, uint32_t box_rows) {
    constexpr int64_t kBytes = 2, kAlignment = 16;
    constexpr int64_t kEnd = int64_t{1} << 40;
    const int64_t head = rows.heads > 1 ? rows.head_stride * kBytes : rows.head_dim * kBytes;
    const int64_t row = rows.total > 1 ? rows.row_stride * kBytes : rows.heads * rows.head_dim * kBytes;
    if (reinterpret_cast<uintptr_t>(rows.data) % kAlignment != 0 || head % kAlignment != 0 || row % kAlignment != 0) {
        reject(name, " must have its rows and heads at multiples of 16 bytes, got strides of ", row, " and ", head);
    }
    if (head <= 0 || row <= 0 || head >= kEnd || row >= kEnd) {
        reject(name, " must have strides from 16 to 2^40 bytes, got ", row, " and ", head);
    }
    const auto size = [](int64_t value) { return static_cast<uint64_t>(value); };
    return {rows.data,
            dtype,
            {size(rows.head_dim), size(rows.heads), size(rows.total)},
            {size(head), size(row)},
            {kSwizzleBytes / kBytes, 1, box_rows}};
}

#if !LONGSPAN_CUDA_EMULATED

// The driver's function, looked up when it is first wanted: the module links no libcuda, so that it can be imported
// where there is none. Throws std::runtime_error where there is no such function; the next call looks again.
inline decltype(&cuTensorMapEncodeTiled) tensor_map_encoder(const char* what) {
    constexpr unsigned kSince = 12000;  // the CUDA version that brought the function as it is called here
    static const auto encoder = [&] {
        void* found = nullptr;
        cudaDriverEntryPointQueryResult result{};
        require(cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &found, kSince, cudaEnableDefault, &result),
                what);
        if (result != cudaDriverEntryPointSuccess || found == nullptr) {
            throw std::runtime_error(std::string(what) + ": the driver has no cuTensorMapEncodeTiled");
        }
        return reinterpret_cast<decltype(&cuTensorMapEncodeTiled)>(found);
    }();
    return encoder;
}

// Throws std::runtime_error where the driver has no tensor maps or refuses this one.
inline TensorMap encode_tensor_map(const char* what, const TensorMapPlan& plan) {
    const cuuint64_t sizes[] = {plan.sizes[0], plan.sizes[1], plan.sizes[2]};
    const cuuint64_t strides[] = {plan.strides[0], plan.strides[1]};
    const cuuint32_t each[] = {1, 1, 1};
    TensorMap map;
    const CUresult status = tensor_map_encoder(what)(
        &map, plan.dtype == Float::bf16 ? CU_TENSOR_MAP_DATA_TYPE_BFLOAT16 : CU_TENSOR_MAP_DATA_TYPE_FLOAT16, 3,
        const_cast<void*>(plan.data), sizes, strides, plan.box, each, CU_TENSOR_MAP_INTERLEAVE_NONE,
        CU_TENSOR_MAP_SWIZZLE_128B, CU_TENSOR_MAP_L2_PROMOTION_L2_128B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
    if (status != CUDA_SUCCESS) {
        throw std::runtime_error(std::string(what) + ": cuTensorMapEncodeTiled says " + std::to_string(status));
    }
    return map;
}

#endif

}  // namespace longspan::cuda
