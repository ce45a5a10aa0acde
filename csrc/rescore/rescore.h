// rescore: float queries against the candidate documents of each, as dot products; best first.
//   queries (num_queries, dim) f32, candidates (num_queries, m) int64 rows of one of
//     vectors (n, dim) f32                    score = <q, d>
//     levels (n, dim) int8, scales (n,) f32   score = <q, d> * scale
//     codes (n, ceil(dim / 8)) uint8          score = <q, s>, s = +1 where the bit is set, -1 where not
//   -> the k best of each query by (score falling, row rising): scores f32, rows int64
// A score is one chain of additions that depends on dim and the instruction set alone: the same pair, the same bits.
// Bytes = num_queries * m * (bytes of a document), at random places: memory latency is the limit.
#pragma once

#include "core/tensor_view.h"

namespace longspan {

struct RescoreArgs {
    MatrixView<const float> queries;
    MatrixView<const int64_t> candidates;
    MatrixView<const float> vectors;  // exactly one of vectors, levels and codes has data
    MatrixView<const int8_t> levels;
    VectorView<const float> scales;  // with levels
    MatrixView<const uint8_t> codes;
    MatrixView<float> scores;  // (num_queries, k), k <= m
    MatrixView<int64_t> rows;
};

// Scores of `count` documents, `rows` of them in turn, for one query. `query` has dim values, and for codes as many as
// fill whole registers: turned over by groups of 8 (a code's first value is its byte's highest bit), with zeros beyond.
using RescoreFn = void(const RescoreArgs&, const float* query, const int64_t* rows, int64_t count, float* scores);

namespace portable {
RescoreFn rescore;
}
namespace avx2 {
RescoreFn rescore;
}
namespace avx512 {
RescoreFn rescore;
}
namespace neon {
RescoreFn rescore;
}

// Throws std::invalid_argument on shapes that do not fit, a candidate that is no row, or a score that is NaN.
void rescore(const RescoreArgs& args);

}  // namespace longspan
