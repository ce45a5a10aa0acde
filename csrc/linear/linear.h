// linear: y = activation(x W^T + bias) [+ residual], with the weights packed once, at load (packed.h).
//   u[r, n] = bias[n] + sum over k of x[r, k] W[n, k] [+ sum over j of shrunk[r, j] B[n, j]]
//   shrunk[r, j] = sum over k of x[r, k] A[j, k]        A (rank, K), B (N, rank) of the row's adapter, if it has one
//   not gated: out = activation(u) + residual           x (rows, K) f32, W (N, K), bias (N,), out, residual (rows, N)
//   gated:     out = activation(u[gate]) * u[other] + residual, where gate and other are the two halves of N;
//              out, residual (rows, N / 2)
// The products are made in the dtype that the weights are packed in; x, out and all else are f32:
//   f32   as it stands.
//   bf16  x and W (A, B and shrunk too) are rounded to bf16, to nearest, ties to even; their products are exact in f32,
//         which the sums are in. Where the instruction set has dpbf16, numbers below 2^-126 count as zeros.
//   i8    rows of x and of W are rotated first (rotate.h), which leaves their products as they are. Then
//         W[n, k] ~ s[n] V[n, k], V from -127 to 127;  x[r, k] ~ s[r] (q[r, k] - z[r]), q and z from 0 to 255
//         (stage.h). u[r, n] = bias[n] + f32(sum over k of q V - z[r] sum over k of V) (s[r] s[n]): the sums are exact,
//         and the same in every instruction set. A row with a NaN or an infinity is NaN, and so is a column. A is i8 as
//         W is; B and shrunk are bf16.
// Every u is summed in one order, which depends on K, the dtype and the instruction set alone: K is cut into blocks of
// PanelShape::depth(), each block is one chain of fused multiply-adds over rising k, and the blocks' sums are added in
// order; the adapter's products go on from there, in one chain. So a row has the same bits alone, in any batch, in any
// tile, on any number of threads, and beside rows of any adapters; a row without one has the bits of a call without
// adapters. `out` may be `residual`, not `x`. FLOPs = 2 rows K N: the limit is the multiply-add rate for many rows, and
// memory (the weights are read once: 4, 2 or 1 bytes times N K) for few.
#pragma once

#include <cstddef>

#include "core/tensor_view.h"

namespace longspan {

enum class Activation { none, relu, gelu, gelu_tanh, silu, tanh };

// What becomes of a logit u that is pooled: itself; log(1 + max(u, 0)); or log(1 + log(1 + max(u, 0))).
enum class Saturation { none, log1p, log1p_twice };

// What is multiplied.
enum class Dtype { f32, bf16, i8 };

// Weights, and rows of x beside them, are read in words of 32 bits: one, two or four values of k, lowest first.
using Word = uint32_t;
constexpr int64_t values_per_word(Dtype dtype) {
    return dtype == Dtype::f32 ? 1 : dtype == Dtype::bf16 ? 2 : 4;
}
constexpr int64_t words_for(Dtype dtype, int64_t values) {
    return (values + values_per_word(dtype) - 1) / values_per_word(dtype);
}
inline constexpr int64_t kRotated = 64;  // values of i8 that are rotated together (rotate.h)

// How an instruction set wants the weights of a dtype cut, and walks over them.
struct PanelShape {
    int64_t columns;    // of W^T to a panel: two registers
    int64_t tile_rows;  // rows of x whose sums fit in the registers, beside a panel's two
    int64_t parts;      // registers that a register of words is widened to before it is multiplied
    int64_t step = 1;   // words of a column that are multiplied together: there are a multiple of so many
    int64_t side = 1;   // words of a column that lie side by side, before the next column's

    static constexpr int64_t kTileStep = 16;         // `step` where AMX's tiles multiply (tiles.h)
    static constexpr int64_t kDepth = 256;           // the K block, in staged words of x
    static constexpr int64_t kStride = kDepth + 16;  // from one staged row to the next: no two share cache sets
    constexpr int64_t depth() const { return kDepth / parts; }  // the K block, in words of weights
    constexpr int64_t words(Dtype dtype, int64_t values) const {
        return (words_for(dtype, values) + step - 1) / step * step;
    }
    // Where in a panel a column's word is.
    constexpr int64_t at(int64_t word, int64_t column) const {
        return (word / side * columns + column) * side + word % side;
    }
    bool operator==(const PanelShape&) const = default;
};

// Packed weights as the kernels read them. Panel p is (num_words, columns) contiguous (PanelShape::at), at panels + p *
// num_words * columns; its columns are u[p * columns ...], or for gated weights columns / 2 of the gate's half and then
// the same ones of the other half. Columns past the end are zeros, and so are values past the last k.
struct PackedView {
    const Word* panels = nullptr;
    const float* bias = nullptr;    // (num_panels, columns), zeros where there is none
    const float* scales = nullptr;  // (num_panels, columns); i8 alone has these two
    const int32_t* sums = nullptr;  // (num_panels, columns), of a column's V
    int64_t num_panels = 0;
    int64_t in_features = 0;
    int64_t num_words = 0;  // of a column
    int64_t out_features = 0;
    bool is_gated = false;
};

// What one adapter adds to the columns of a panel: words of its B from the word `first` on, (depth, columns) at
// `panel`. Rows of B^T that are zero in the whole panel are left out at both ends: parts that are stacked by rows have
// an A each, and a panel of the one needs nothing of the others'.
struct LoraSegment {
    const Word* panel = nullptr;
    int64_t first = 0;
    int64_t depth = 0;
};

struct LoraView {
    const LoraSegment* segments = nullptr;  // (num_panels, num_adapters); null: a call without adapters
    int64_t num_adapters = 0;
    int64_t rank = 0;
    const int32_t* ids = nullptr;    // (rows,), the adapter of each row, -1 for none
    MatrixView<const float> shrunk;  // (rows, num_adapters * rank); only the columns of the row's adapter are defined
};

// Rows of x as the kernel reads them: row r's words of K block b at words + (b * rows + r) * stride, where a word is as
// many registers' worth as the kernel widens a word of weights to (PanelShape::parts).
struct StagedRows {
    Word* words = nullptr;
    int64_t rows = 0;
    float* scales = nullptr;  // (rows,); i8 alone has these two: x[r, k] ~ scales[r] * (q[r, k] - zeros[r])
    int32_t* zeros = nullptr;
};

// Where outputs are pooled over the rows of a sequence instead of being stored: see pool_logits.
struct PooledRows {
    MatrixView<float> out;                     // (num_sequences, N), begun with -infinity (max) or 0 (sum)
    const int32_t* sequences = nullptr;        // (rows,), never falling; null: outputs are not pooled
    bool is_sum = false;                       // else the largest
    Saturation saturation = Saturation::none;  // of a sum's terms; the largest is saturated in the end
};

struct LinearArgs {
    MatrixView<const float> x;
    StagedRows staged;  // of x
    PackedView weights;
    Activation activation;
    MatrixView<const float> residual;  // data null: none
    MatrixView<float> out;
    LoraView lora;
    StagedRows next;  // words not null: outputs are staged for another product of the same dtype, and `out` is none
    MatrixView<uint16_t> rounded;  // data not null: outputs are rounded to bf16, and `out` and `residual` are none
    PooledRows pooled;             // sequences not null: outputs are pooled, and `out` and `residual` are none
};

// One task: these rows of x times these panels.
struct LinearBlock {
    int64_t first_row, last_row;
    int64_t first_panel, last_panel;
    // What is asked for ahead: where the thread's next task begins; -1: not known, or (rows) in the cache as it is.
    int64_t next_row = -1, next_panel = -1;
};
using LinearFn = void(const LinearArgs&, const LinearBlock&);
// Fills rows [first_row, last_row) of args.staged.
using StageFn = void(const LinearArgs& args, int64_t first_row, int64_t last_row);
// Saturates `count` values in place.
using SaturateFn = void(float* values, int64_t count, Saturation saturation);

namespace portable {
inline constexpr PanelShape kF32{8, 4, 1}, kBf16{8, 4, 2}, kI8{8, 4, 4};
LinearFn linear_f32, linear_bf16, linear_i8;
StageFn stage_f32, stage_bf16, stage_i8;
SaturateFn saturate;
}  // namespace portable
namespace avx2 {
inline constexpr PanelShape kF32{16, 6, 1}, kBf16{16, 6, 2}, kI8{16, 6, 2};
LinearFn linear_f32, linear_bf16, linear_i8;
StageFn stage_f32, stage_bf16, stage_i8;
SaturateFn saturate;
}  // namespace avx2
namespace avx_vnni {
inline constexpr PanelShape kF32{16, 6, 1}, kBf16{16, 6, 2}, kI8{16, 6, 1};
LinearFn linear_i8;
StageFn stage_i8;
SaturateFn saturate;
}  // namespace avx_vnni
namespace avx512 {
inline constexpr PanelShape kF32{32, 14, 1}, kBf16{32, 14, 2}, kI8{32, 14, 2};
LinearFn linear_f32, linear_bf16, linear_i8;
StageFn stage_f32, stage_bf16, stage_i8;
SaturateFn saturate;
}  // namespace avx512
namespace avx512_vnni {
inline constexpr PanelShape kF32{32, 14, 1}, kBf16{32, 14, 2}, kI8{32, 14, 1};
LinearFn linear_i8;
StageFn stage_i8;
SaturateFn saturate;
}  // namespace avx512_vnni
namespace avx512_bf16 {
inline constexpr PanelShape kF32{32, 14, 1}, kBf16{32, 14, 1}, kI8{32, 14, 1};
LinearFn linear_bf16, linear_i8;
StageFn stage_bf16, stage_i8;
SaturateFn saturate;
}  // namespace avx512_bf16

// Tiles of 16 rows: memory of staged rows has room for so many more, which are read and come to nothing.
inline constexpr int64_t kRowsBehind = 31;
namespace amx {
inline constexpr PanelShape kF32{32, 14, 1}, kBf16{32, 32, 1, 16}, kI8{32, 32, 1, 16};
LinearFn linear_bf16, linear_i8;
StageFn stage_bf16, stage_i8;
SaturateFn saturate;
}  // namespace amx
namespace amx_emulated {
inline constexpr PanelShape kF32{8, 4, 1}, kBf16{8, 32, 1, 16}, kI8{8, 32, 1, 16};
LinearFn linear_bf16, linear_i8;
StageFn stage_bf16, stage_i8;
SaturateFn saturate;
}  // namespace amx_emulated
namespace neon {
inline constexpr PanelShape kF32{8, 8, 1}, kBf16{8, 8, 2}, kI8{8, 4, 2, 2};
LinearFn linear_f32, linear_bf16, linear_i8;
StageFn stage_f32, stage_bf16, stage_i8;
SaturateFn saturate;
}  // namespace neon
namespace neon_dotprod {
inline constexpr PanelShape kF32{8, 8, 1}, kBf16{8, 8, 2}, kI8{8, 8, 1};
LinearFn linear_i8;
StageFn stage_i8;
SaturateFn saturate;
}  // namespace neon_dotprod
namespace neon_i8mm {
inline constexpr PanelShape kF32{8, 4, 1}, kBf16{8, 4, 1, 2, 2}, kI8{8, 4, 1, 2, 2};
LinearFn linear_bf16, linear_i8;
StageFn stage_bf16, stage_i8;
SaturateFn saturate;
}  // namespace neon_i8mm

class PackedLinear;
class PackedLora;

// Adapters and the choice of one for each row; null: none.
struct RowAdapters {
    const PackedLora* lora = nullptr;
    VectorView<const int32_t> ids;  // (rows,), -1: none
};

// Throws std::invalid_argument on shapes that do not fit, an id that is no adapter's, or memory that overlaps.
void linear(const MatrixView<const float>& x, const PackedLinear& weights, Activation activation,
            const MatrixView<const float>& residual, const RowAdapters& adapters, const MatrixView<float>& out);

// The same with outputs rounded to bf16, to nearest, ties to even, as its bits.
void linear(const MatrixView<const float>& x, const PackedLinear& weights, const RowAdapters& adapters,
            const MatrixView<uint16_t>& out);

// What an MLP is made of: out = activation(x U^T + bias) D^T + bias [+ residual], each product with
// its rows' adapters: linear() twice, with its bits. Where both are f32 or bf16, what lies between them is written as
// the second one reads it.
struct Mlp {
    const PackedLinear* up;
    Activation activation;
    const PackedLora* up_lora;  // null: none
    const PackedLinear* down;
    const PackedLora* down_lora;
};
void mlp(const MatrixView<const float>& x, const Mlp& weights, const VectorView<const int32_t>& lora_ids,
         const MatrixView<const float>& residual, const MatrixView<float>& out);

// pool_logits: an output layer's logits, pooled over the tokens of each sequence; (tokens, N) is never stored.
//   u[t, n] = bias[n] + sum over k of x[t, k] W[n, k]      as linear(), in the weights' dtype
//   max: out[s, n] = f(max over tokens t of sequence s of u[t, n]); -infinity, before f, for one without tokens
//   sum: out[s, n] = sum over t of f(u[t, n]), from 0, in ascending order of t
//   f: Saturation. x (total_tokens, K) f32, cu_seqlens (num_sequences + 1,) int32, out (num_sequences, N) f32.
// A sequence with a u that is no finite number has NaN there. It depends on its own rows alone, bit for bit.
// FLOPs = 2 total_tokens K N, and 4 (max) or 30 to 60 (sum, for f) total_tokens N in the epilogue. Bytes = the weights,
// once for every 168 rows, and 4 N num_sequences; stored logits would be 4 N total_tokens, written and read.
// Limit: as linear(). Throws std::invalid_argument on shapes, offsets or memory that do not fit, and gated weights.
void pool_logits(const MatrixView<const float>& x, const PackedLinear& weights,
                 const VectorView<const int32_t>& cu_seqlens, bool is_sum, Saturation saturation,
                 const MatrixView<float>& out);

// The adapters' sum alone: out[r, n] = sum over j of shrunk[r, j] B[n, j], zeros for rows without an adapter.
void multi_lora(const MatrixView<const float>& x, const RowAdapters& adapters, const MatrixView<float>& out);

}  // namespace longspan
