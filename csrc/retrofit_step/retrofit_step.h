// retrofit_step: one step of RETRO, a sparse product of rows with its epilogue; group_sums: what its corrections need.
//   out[i] = (anchor[i] * base[i] + sum of weights[k] * scale[j] * vectors[j] + sum of sum_weights[k] * sums[g])
//            / divisor[i], over j = indices[k] for k in [indptr[i], indptr[i + 1]), and g likewise
//   vectors (n, dim) f32, base (rows, dim) f32, sums (groups, dim) f32 -> out (rows, dim) f32, squares[i] += |out[i]|^2
// Rows of base whose anchor is 0 are not read. A row's terms are added in their order, in blocks of kTerms whose sums
// are then added in order: the error grows with the block and the number of blocks, and a result depends on its row
// alone. Its columns are independent, so a caller may give any of them by themselves.
// Bytes = 4 * dim * (non-zeros + corrections + 2 * rows) + 8 * non-zeros, FLOPs = 2 * dim * (non-zeros + corrections):
// 0.5 a byte, and the rows lie anywhere, so the limit is how fast memory gives rows that are asked for ahead.
//
// group_sums: out[g] = sum of scale[j] * vectors[j] over the members j of group g, added in f64, in members' order by
// chunks of kMembers: (n, dim) f32 -> (groups, dim) f32.
// Times: bench/ops/bench_retrofit_step.py.
#pragma once

#include "core/tensor_view.h"

namespace longspan {

inline constexpr int64_t kTerms = 64;
inline constexpr int64_t kMembers = 2048;

// Which rows meet in which: CSR without a shape. weights is null for sums of members.
struct SparseRows {
    VectorView<const int64_t> indptr;
    VectorView<const int32_t> indices;
    VectorView<const float> weights;
};

struct RetrofitStepArgs {
    MatrixView<const float> vectors;
    SparseRows neighbors;
    MatrixView<const float> base;    // data may be null, with anchor
    VectorView<const float> anchor;  // (rows,)
    MatrixView<const float> sums;    // data may be null, with the next
    SparseRows corrections;
    VectorView<const float> scale;    // (n,) or null for 1
    VectorView<const float> divisor;  // (rows,) or null for 1
    VectorView<double> squares;       // (rows,) or null
    MatrixView<float> out;
};

struct GroupSumsArgs {
    MatrixView<const float> vectors;
    SparseRows groups;
    VectorView<const float> scale;
    MatrixView<float> out;
};

// Rows [first, last).
using RetrofitStepFn = void(const RetrofitStepArgs&, int64_t first, int64_t last);
// Members [first, last) of the groups' list, summed into total (dim,).
using GroupSumsFn = void(const GroupSumsArgs&, int64_t first, int64_t last, double* total);

namespace portable {
RetrofitStepFn retrofit_step;
GroupSumsFn group_sums;
}  // namespace portable
namespace avx2 {
RetrofitStepFn retrofit_step;
GroupSumsFn group_sums;
}  // namespace avx2
namespace avx512 {
RetrofitStepFn retrofit_step;
GroupSumsFn group_sums;
}  // namespace avx512
namespace neon {
RetrofitStepFn retrofit_step;
GroupSumsFn group_sums;
}  // namespace neon

// Throw std::invalid_argument on shapes, offsets or indices that do not fit.
void retrofit_step(const RetrofitStepArgs& args);
void group_sums(const GroupSumsArgs& args);

}  // namespace longspan
