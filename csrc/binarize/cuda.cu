// Grid (ceil(dim / 256), blocks of rows); a warp takes 256 columns of kRows rows at a time and keeps their thresholds
// in registers. A thread has 8 values of each row: as 16-byte reads, one of 2-byte values, two of 4-byte ones that lie
// 128 columns apart, so that the warp reads 512 bytes side by side. Two neighbours then have a half of a byte each.
// Bytes = rows * (dim * sizeof(T) + dim / 8): at most 3 % (f32) or 6 % (f16) are not the one read that must be, and
// about an operation a value. Limit: memory; 64 bytes a thread and 768 threads or more to a multiprocessor are in
// flight. Times: bench/gpu/codes.py.
#include "binarize/cuda.h"

#include "core/cuda_floats.h"

namespace longspan::cuda {
namespace {

inline constexpr int kColumns = 256;  // of a warp
inline constexpr int kWarps = 8;      // of a block, each with rows of its own

// Bits of `count` values, the first highest.
template <class T, int kCount>
__device__ unsigned bits_above(const Pack<T, kCount>& values, const float* thresholds) {
    unsigned bits = 0;
#pragma unroll
    for (int i = 0; i < kCount; ++i) bits = bits << 1 | (to_float(values.values[i]) > thresholds[i] ? 1u : 0u);
    return bits;
}

// What is above nothing: NaN.
template <class T>
__device__ T nothing() {
    if constexpr (sizeof(T) == 4) {
        return float_of_bits(0x7fc00000u);
    } else {
        return T{0x7fff};  // in both types of 2 bytes
    }
}

// `kCount` values from `column` on; past the end of the row (or where the row is none, and dim 0) NaN. kIsAligned:
// reads are either whole or none.
template <class T, int kCount, bool kIsAligned>
__device__ Pack<T, kCount> load_values(const T* row, int64_t column, int64_t dim) {
    if (kIsAligned && column < dim) return load_once<T, kCount>(row + column);
    Pack<T, kCount> pack;
#pragma unroll
    for (int i = 0; i < kCount; ++i) {
        pack.values[i] = !kIsAligned && column + i < dim ? row[column + i] : nothing<T>();
    }
    return pack;
}

template <class T, bool kIsAligned>
__global__ void __launch_bounds__(kWarps* kWarp, 3) binarize_kernel(const Binarize args) {
    constexpr int kCount = 16 / sizeof(T), kReads = 8 / kCount;  // values to a read, reads to a row
    constexpr int kRows = 4 / kReads;                            // rows at a time: 64 bytes in flight
    const int lane = static_cast<int>(threadIdx.x) % kWarp, warp = static_cast<int>(threadIdx.x) / kWarp;
    const int64_t first_column = int64_t{blockIdx.x} * kColumns + lane * kCount;
    float thresholds[kReads][kCount];
#pragma unroll
    for (int read = 0; read < kReads; ++read) {
#pragma unroll
        for (int i = 0; i < kCount; ++i) {
            const int64_t column = first_column + read * (kWarp * kCount) + i;
            thresholds[read][i] = args.thresholds != nullptr && column < args.dim ? args.thresholds[column] : 0.0f;
        }
    }
    // The byte that this thread writes of its warp's 32.
    const int own = kReads == 1 ? lane : lane / 2 + (lane % 2) * (kWarp / 2);
    const int64_t byte = int64_t{blockIdx.x} * (kColumns / 8) + own;
    const bool is_inside = byte < (args.dim + 7) / 8;
    const int64_t step = int64_t{gridDim.y} * kWarps * kRows;
    for (int64_t row = (int64_t{blockIdx.y} * kWarps + warp) * kRows; row < args.rows; row += step) {
        Pack<T, kCount> values[kRows][kReads];
#pragma unroll
        for (int i = 0; i < kRows; ++i) {
            const T* from = static_cast<const T*>(args.x) + (row + i) * args.row_stride;
            const int64_t dim = row + i < args.rows ? args.dim : 0;
#pragma unroll
            for (int read = 0; read < kReads; ++read) {
                const int64_t column = first_column + read * (kWarp * kCount);
                values[i][read] = load_values<T, kCount, kIsAligned>(from, column, dim);
            }
        }
#pragma unroll
        for (int i = 0; i < kRows; ++i) {
            unsigned bits = bits_above(values[i][0], thresholds[0]);
            if constexpr (kReads == 2) {  // the even lane's half is the high one; it writes read 0's byte, the odd 1's
                const unsigned both = bits | bits_above(values[i][1], thresholds[1]) << 4;
                const unsigned theirs = __shfl_xor_sync(kFullWarp, both, 1);
                bits = lane % 2 == 0 ? (both & 15) << 4 | (theirs & 15) : (theirs >> 4) << 4 | both >> 4;
            }
            if (is_inside && row + i < args.rows) {
                args.codes[(row + i) * args.code_stride + byte] = static_cast<uint8_t>(bits);
            }
        }
    }
}

template <class T>
void launch_binarize(const Binarize& args, Stream stream) {
    const uint64_t sizes = static_cast<uint64_t>(args.row_stride) | static_cast<uint64_t>(args.dim);
    const bool is_aligned = (reinterpret_cast<uintptr_t>(args.x) | sizes * sizeof(T)) % 16 == 0;
    const int64_t columns = divide_up<int64_t>(args.dim, kColumns);
    const int64_t rows_at_once = kWarps * (sizeof(T) == 4 ? 2 : 4);
    const int64_t row_blocks = divide_up(args.rows, rows_at_once);
    const int64_t most =
        divide_up<int64_t>(int64_t{16} * num_multiprocessors(), columns);  // several for each that runs
    const dim3 grid(static_cast<unsigned>(columns), static_cast<unsigned>(row_blocks < most ? row_blocks
                                                                          : most < 65535    ? most
                                                                                            : 65535));
    launch("binarize", is_aligned ? binarize_kernel<T, true> : binarize_kernel<T, false>, grid, kWarps * kWarp, 0,
           stream, args);
}

}  // namespace

void binarize(const Binarize& args, Stream stream) {
    if (args.dtype == Float::f32) launch_binarize<float>(args, stream);
    if (args.dtype == Float::f16) launch_binarize<Half>(args, stream);
    if (args.dtype == Float::bf16) launch_binarize<Bfloat16>(args, stream);
}

}  // namespace longspan::cuda
