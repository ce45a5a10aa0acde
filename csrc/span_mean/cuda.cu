// span_mean: grid (spans, parts of the columns), 4 warps, one a row group, of 32 vectors of columns (16 bytes each).
//   Row group g sums rows g, g + 4, ... of the span, 8 at a time as a tree, those sums one after the other; then the
//   four groups' sums in order. So a column's order of additions depends on the span's length alone, and the longest
//   chain is length / 32.
// Where there are fewer spans than fill the GPU, a span's columns are dealt out to several blocks, and unit_length
// follows as a kernel of its own; else a block has all columns, and scales them itself.
// Bytes = sizeof(T) * out_dim * (sum of lengths) + 4 * out_dim * num_spans; FLOPs = out_dim * (sum of lengths).
// Limit: memory; a thread has 8 reads of 16 bytes in flight. Times: bench/gpu/codes.py.
#include "span_mean/cuda.h"

#include "core/cuda_floats.h"

namespace longspan::cuda {
namespace {

inline constexpr int kGroups = 4;
inline constexpr int kMeanThreads = kWarp * kGroups;
inline constexpr int kAtOnce = 8;
inline constexpr float kShortest = 1e-12f;  // a shorter mean is divided by this: zeros stay zeros

// Adds `pack` as f32.
template <class T, int kCount>
__device__ void add(float (&sums)[kCount], const Pack<T, kCount>& pack) {
#pragma unroll
    for (int i = 0; i < kCount; ++i) sums[i] += to_float(pack.values[i]);
}

// Sums rows first, first + kGroups, ... below `rows` of one vector of columns.
template <class T, int kCount>
__device__ void sum_rows(const T* from, int64_t stride, int first, int rows, float (&sums)[kCount]) {
#pragma unroll
    for (int i = 0; i < kCount; ++i) sums[i] = 0.0f;
    int row = first;
    for (; row + (kAtOnce - 1) * kGroups < rows; row += kAtOnce * kGroups) {
        Pack<T, kCount> packs[kAtOnce];
#pragma unroll
        for (int i = 0; i < kAtOnce; ++i) packs[i] = load_once<T, kCount>(from + (row + i * kGroups) * stride);
#pragma unroll
        for (int i = 0; i < kCount; ++i) {
            float tree[kAtOnce];
#pragma unroll
            for (int j = 0; j < kAtOnce; ++j) tree[j] = to_float(packs[j].values[i]);
            sums[i] += ((tree[0] + tree[1]) + (tree[2] + tree[3])) + ((tree[4] + tree[5]) + (tree[6] + tree[7]));
        }
    }
    for (; row < rows; row += kGroups) add(sums, load_once<T, kCount>(from + row * stride));
}

// Brings one row of out to unit length, in an order that depends on out_dim alone. All threads of the block call it,
// behind a barrier. `scratch` has room for kGroups.
__device__ void bring_to_unit_length(float* out, int64_t out_dim, float* scratch) {
    float squares = 0.0f;
    for (int64_t column = threadIdx.x; column < out_dim; column += kMeanThreads) squares += out[column] * out[column];
    squares = warp_sum(squares);
    if (threadIdx.x % kWarp == 0) scratch[threadIdx.x / kWarp] = squares;
    __syncthreads();
    const float norm = sqrtf((scratch[0] + scratch[1]) + (scratch[2] + scratch[3]));
    const float length = norm < kShortest ? kShortest : norm;  // NaN goes through
    for (int64_t column = threadIdx.x; column < out_dim; column += kMeanThreads) out[column] /= length;
}

template <class T, int kCount>
__global__ void __launch_bounds__(kMeanThreads) span_mean_kernel(const SpanMean args) {
    auto* partial = reinterpret_cast<float*>(dynamic_shared());  // (kGroups - 1, kCount, kWarp)
    float* scratch = partial + (kGroups - 1) * kCount * kWarp;
    const int64_t span = blockIdx.x;
    const int start = args.spans[2 * span], end = args.spans[2 * span + 1];
    const bool is_good = 0 <= start && start < end && end <= args.total_tokens;
    const int rows = is_good ? end - start : 0;
    const int vector = static_cast<int>(threadIdx.x) % kWarp, group = static_cast<int>(threadIdx.x) / kWarp;
    const T* first_row = static_cast<const T*>(args.hidden) + (is_good ? start : 0) * args.row_stride;
    float* out = args.out + span * args.out_stride;
    const int64_t columns_at_once = int64_t{kWarp} * kCount;
    for (int64_t base = blockIdx.y * columns_at_once; base < args.out_dim; base += gridDim.y * columns_at_once) {
        const int64_t column = base + vector * kCount;
        float sums[kCount];
#pragma unroll
        for (int i = 0; i < kCount; ++i) sums[i] = 0.0f;
        if (column < args.out_dim) sum_rows<T, kCount>(first_row + column, args.row_stride, group, rows, sums);
        if (group > 0) {
#pragma unroll
            for (int i = 0; i < kCount; ++i) partial[((group - 1) * kCount + i) * kWarp + vector] = sums[i];
        }
        __syncthreads();
        if (group == 0) {
#pragma unroll
            for (int i = 0; i < kCount; ++i) {
#pragma unroll
                for (int other = 0; other < kGroups - 1; ++other) {
                    sums[i] += partial[(other * kCount + i) * kWarp + vector];
                }
                const float mean = is_good ? sums[i] / static_cast<float>(rows) : float_of_bits(0x7fc00000u);
                if (column + i < args.out_dim) out[column + i] = mean;
            }
        }
        __syncthreads();  // the sums are read before others take their place
    }
    if (args.normalize && gridDim.y == 1) bring_to_unit_length(out, args.out_dim, scratch);
}

// Grid (num_spans,). Bytes = 8 * out_dim * num_spans.
__global__ void __launch_bounds__(kMeanThreads) unit_length_kernel(const SpanMean args) {
    auto* scratch = reinterpret_cast<float*>(dynamic_shared());
    bring_to_unit_length(args.out + int64_t{blockIdx.x} * args.out_stride, args.out_dim, scratch);
}

template <class T, int kCount>
void launch_span_mean(const SpanMean& args, Stream stream) {
    constexpr int kBlocksPerMultiprocessor = 8;
    constexpr size_t kShared = (size_t{kGroups - 1} * kCount * kWarp + kGroups) * sizeof(float);
    const int64_t parts = divide_up<int64_t>(args.out_dim, int64_t{kWarp} * kCount);
    const bool is_split = args.num_spans < int64_t{kBlocksPerMultiprocessor} * num_multiprocessors() && parts > 1;
    const int64_t rows = is_split ? (parts < 65535 ? parts : 65535) : 1;
    const auto spans = static_cast<unsigned>(args.num_spans);
    launch("span_mean", span_mean_kernel<T, kCount>, dim3(spans, static_cast<unsigned>(rows)), kMeanThreads, kShared,
           stream, args);
    if (args.normalize && rows > 1) {
        launch("span_mean", unit_length_kernel, dim3(spans), kMeanThreads, kGroups * sizeof(float), stream, args);
    }
}

template <class T>
void launch_by_alignment(const SpanMean& args, Stream stream) {
    constexpr int kCount = 16 / sizeof(T);
    const uint64_t place =
        reinterpret_cast<uintptr_t>(args.hidden) | static_cast<uint64_t>(args.row_stride) * sizeof(T);
    if (place % 16 == 0 && args.dim % kCount == 0) {
        launch_span_mean<T, kCount>(args, stream);
    } else {
        launch_span_mean<T, 1>(args, stream);
    }
}

}  // namespace

void span_mean(const SpanMean& args, Stream stream) {
    if (args.dtype == Float::f32) launch_by_alignment<float>(args, stream);
    if (args.dtype == Float::f16) launch_by_alignment<Half>(args, stream);
    if (args.dtype == Float::bf16) launch_by_alignment<Bfloat16>(args, stream);
}

}  // namespace longspan::cuda
