// span_mean: the mean of the rows of each span, cut to its leading values, brought to unit length where that is wanted.
//   hidden (total_tokens, dim) f32, spans (num_spans, 2) int32 [start, end) -> out (num_spans, out_dim) f32,
//   out_dim <= dim: the columns past it are never read.
// Spans may overlap, nest and come in any order; none is empty. A span's rows are summed in f32 in ascending order, in
// blocks of kSpanBlock rows whose sums are then added in order: the error grows with the block and the number of
// blocks, not with the length, and the order depends on the length alone. Unit length divides by the larger of the
// length and kSmallestNorm, so zeros stay zeros. Bytes = 4 * out_dim * (sum of lengths + num_spans), FLOPs = out_dim *
// sum of lengths: 0.25 a byte, so the limit is memory. Times: bench/ops/bench_span_mean.py.
#pragma once

#include "core/tensor_view.h"

namespace longspan {

inline constexpr int64_t kSpanBlock = 16;
inline constexpr float kSmallestNorm = 1e-12f;

struct SpanMeanArgs {
    MatrixView<const float> hidden;
    MatrixView<const int32_t> spans;
    MatrixView<float> out;
    bool normalize;
};

// The mean of one span in columns [first, last), not yet of unit length.
using SpanMeanFn = void(const SpanMeanArgs&, int64_t span, int64_t first, int64_t last);
// Brings one row of out to unit length.
using UnitLengthFn = void(const SpanMeanArgs&, int64_t span);

namespace portable {
SpanMeanFn span_mean;
UnitLengthFn unit_length;
}  // namespace portable
namespace avx2 {
SpanMeanFn span_mean;
UnitLengthFn unit_length;
}  // namespace avx2
namespace avx512 {
SpanMeanFn span_mean;
UnitLengthFn unit_length;
}  // namespace avx512
namespace neon {
SpanMeanFn span_mean;
UnitLengthFn unit_length;
}  // namespace neon

// Throws std::invalid_argument on shapes or spans that do not fit.
void span_mean(const SpanMeanArgs& args);

}  // namespace longspan
