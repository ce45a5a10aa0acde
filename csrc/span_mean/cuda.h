// span_mean on a GPU: the mean of the rows of each span, cut to its leading values, brought to unit length if wanted.
//   hidden (total_tokens, dim) f32 | f16 | bf16, `row_stride` values apart, spans (num_spans, 2) int32 [start, end),
//   contiguous -> out (num_spans, out_dim) f32, `out_stride` values apart, out_dim <= dim
// Sums are f32, in an order that depends on the span's length alone. The spans' values are not known to the host: the
// mean of one that is empty or reaches outside is NaN, and nothing outside is read. Nothing is waited for.
#pragma once

#include "core/cuda_host.h"

namespace longspan::cuda {

struct SpanMean {
    const void* hidden;
    Float dtype;
    int64_t total_tokens, dim, row_stride;
    const int32_t* spans;
    int64_t num_spans;
    float* out;
    int64_t out_dim, out_stride;
    bool normalize;
};

void span_mean(const SpanMean& args, Stream stream);

}  // namespace longspan::cuda
