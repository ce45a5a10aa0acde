// pool_mean: the mean of each sequence's rows.
//   hidden (total_tokens, dim) f32, cu_seqlens (rows + 1,) int32 -> out (rows, dim) f32
// Rows are summed in f32 in ascending order, in blocks of kPoolBlock rows whose sums are then added in order: the error
// grows with the block and the number of blocks, not with the length. An empty sequence gives zeros.
// Bytes = 4 * dim * (total_tokens + rows), FLOPs = dim * total_tokens: the limit is memory.
#pragma once

#include "core/tensor_view.h"

namespace longspan {

inline constexpr int64_t kPoolBlock = 16;

struct PoolMeanArgs {
    MatrixView<const float> hidden;
    VectorView<const int32_t> cu_seqlens;
    MatrixView<float> out;
};

// One sequence, columns [first, last).
using PoolMeanFn = void(const PoolMeanArgs&, int64_t sequence, int64_t first, int64_t last);

namespace portable {
PoolMeanFn pool_mean;
}
namespace avx2 {
PoolMeanFn pool_mean;
}
namespace avx512 {
PoolMeanFn pool_mean;
}
namespace neon {
PoolMeanFn pool_mean;
}

// Throws std::invalid_argument on shapes or offsets that do not fit.
void pool_mean(const PoolMeanArgs& args);

}  // namespace longspan
