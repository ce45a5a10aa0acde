// maxsim: how well packed documents answer packed queries, token by token.
//   score[a, b] = sum over tokens i of query a of max over tokens j of document b of <q[i], d[j]>
//   q (total_q, dim) f32, or sign codes (total_q, dim / 8)        cu_seqlens_q (num_queries + 1,) int32
//   d (total_d, dim) in one of TokenFormat                        cu_seqlens_d (num_docs + 1,) int32, always rising
//   out (num_queries, num_docs) f32; an empty query scores 0.
// What is multiplied, on every instruction set:
//   d f32, f16   q as it is, products and sums in f32
//   d bf16       q rounded to bf16, sums in f32
//   d i8         q rounded to whole numbers up to query_limit() with one scale a token, sums exact, then the scales
//   d codes      the same, d as +1 and -1; or with q as codes too: dim - 2 * hamming(q, d), exact
// A query token never leaves its lane and every dot product is summed in one order, over rising dims, so a pair's score
// has the same bits whatever else is scored, and on any number of threads. NaN in a token reaches the scores of its
// query or its document and no others. Multiply-adds = dim * total_q * total_d, bytes = those of d once per 500 query
// tokens or so: the limit is the multiplier from about 16 query tokens on, below that memory.
#pragma once

#include <cstddef>
#include <cstdint>

#include "core/tensor_view.h"

namespace longspan {

enum class TokenFormat { f32, f16, bf16, i8, codes };

// Packed token vectors, row by row.
struct TokenRows {
    const std::byte* data = nullptr;
    int64_t rows = 0;
    int64_t dim = 0;
    int64_t row_bytes = 0;  // from one row to the next
    TokenFormat format = TokenFormat::f32;
    const float* scales = nullptr;  // of i8: (rows,)

    const std::byte* row(int64_t i) const { return data + i * row_bytes; }
};

// What a kernel multiplies: four bytes of a query token with four bytes of a document token.
enum class Unit { f32, bf16_pair, i16_pair, bits };

// Bytes of one unit: a token of dim values has divide_up(dim, values_per_unit(unit)) of them, zeros past the end.
inline constexpr int64_t kUnitBytes = 4;
constexpr int64_t values_per_unit(Unit unit) {
    return unit == Unit::f32 ? 1 : unit == Unit::bits ? 32 : 2;
}

// One document against the tokens of some queries.
struct MaxsimPart {
    const TokenRows* docs;
    int64_t first_row, last_row;  // the document's tokens
    Unit unit;
    int64_t num_units;  // per token
    // Query tokens, one a lane, in num_vectors registers' worth: tiles of two registers (num_units, 2 * lanes) units
    // each, one after the other, the last tile one register wide if num_vectors is odd.
    const std::byte* queries;
    int64_t num_vectors;
    float* best;        // (2, num_vectors * lanes): the results in the first half, each lane's best dot product
    std::byte* staged;  // room for kStagedBytes, or for kMostRows rows if that is more, aligned to 64 bytes
};
using MaxsimFn = void(const MaxsimPart&);

// Document tokens of a document that meet the queries' tiles together take up at most this much of the L1 cache, unless
// a few of them are already more.
inline constexpr int64_t kStagedBytes = 12 * 1024;
inline constexpr int64_t kMostRows = 12;

// kQueryLanes: of a register. kMultipliesBf16: whether Unit::bf16_pair may be asked for.
namespace portable {
inline constexpr int64_t kQueryLanes = 4;
inline constexpr bool kMultipliesBf16 = false;
MaxsimFn maxsim;
}  // namespace portable
namespace avx2 {
inline constexpr int64_t kQueryLanes = 8;
inline constexpr bool kMultipliesBf16 = false;
MaxsimFn maxsim;
}  // namespace avx2
namespace avx_vnni {
inline constexpr int64_t kQueryLanes = 8;
inline constexpr bool kMultipliesBf16 = false;
MaxsimFn maxsim;
}  // namespace avx_vnni
namespace avx512 {
inline constexpr int64_t kQueryLanes = 16;
inline constexpr bool kMultipliesBf16 = false;
MaxsimFn maxsim;
}  // namespace avx512
namespace avx512_vnni {
inline constexpr int64_t kQueryLanes = 16;
inline constexpr bool kMultipliesBf16 = false;
MaxsimFn maxsim;
}  // namespace avx512_vnni
namespace avx512_bf16 {
inline constexpr int64_t kQueryLanes = 16;
inline constexpr bool kMultipliesBf16 = true;
MaxsimFn maxsim;
}  // namespace avx512_bf16
namespace neon {
inline constexpr int64_t kQueryLanes = 4;
inline constexpr bool kMultipliesBf16 = false;
MaxsimFn maxsim;
}  // namespace neon
namespace neon_dotprod {
inline constexpr int64_t kQueryLanes = 4;
inline constexpr bool kMultipliesBf16 = false;
MaxsimFn maxsim;
}  // namespace neon_dotprod
namespace neon_i8mm {
inline constexpr int64_t kQueryLanes = 4;
inline constexpr bool kMultipliesBf16 = true;
MaxsimFn maxsim;
}  // namespace neon_i8mm

// Queries as they come: f32, or sign codes (then the documents are codes too).
struct MaxsimInputs {
    MatrixView<const float> q;
    MatrixView<const uint8_t> q_codes;  // data null: q is f32
    TokenRows docs;
    VectorView<const int32_t> cu_seqlens_q;
    VectorView<const int32_t> cu_seqlens_d;

    int64_t total_q() const { return q_codes.data == nullptr ? q.rows : q_codes.rows; }
    int64_t num_queries() const { return cu_seqlens_q.size - 1; }
    int64_t num_docs() const { return cu_seqlens_d.size - 1; }
};

// The largest whole number that a query value is rounded to for i8 and codes: no sum of products can overflow 32 bits.
constexpr int64_t query_limit(int64_t dim, TokenFormat format) {
    const int64_t largest_value = format == TokenFormat::i8 ? 128 : 1;
    const int64_t limit = INT32_MAX / (largest_value * dim);
    return limit < INT16_MAX ? limit : INT16_MAX;
}

// All throw std::invalid_argument on shapes that do not fit.
void maxsim(const MaxsimInputs& inputs, const MatrixView<float>& out);
// out[p] = score[pairs[p, 0], pairs[p, 1]].
void maxsim_pairs(const MaxsimInputs& inputs, const MatrixView<const int32_t>& pairs, const VectorView<float>& out);
// Each query's best documents, as many as there are columns: score falling, then document rising; NaN last.
void maxsim_topk(const MaxsimInputs& inputs, const MatrixView<float>& scores, const MatrixView<int64_t>& rows);

}  // namespace longspan
