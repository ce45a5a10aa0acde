// linear: y = activation(x W^T + bias) [+ residual], with the weights packed once, at load (packed.h).
//   u[r, n] = bias[n] + sum over k of x[r, k] W[n, k] [+ sum over j of shrunk[r, j] B[n, j]]
//   shrunk[r, j] = sum over k of x[r, k] A[j, k]        A (rank, K), B (N, rank) of the row's adapter, if it has one
//   not gated: out = activation(u) + residual           x (rows, K) f32, W (N, K), bias (N,), out, residual (rows, N)
//   gated:     out = activation(u[gate]) * u[other] + residual, where gate and other are the two halves of N;
//              out, residual (rows, N / 2)
// Every u is summed in one order, which depends on K and the instruction set alone: K is cut into blocks of
// PanelShape::depth, each block is one chain of fused multiply-adds over rising k, and the blocks' sums are added in
// order; the adapter's sum, one chain as well, comes last. So a row has the same bits alone, in any batch, in any tile,
// on any number of threads, and beside rows of any adapters; a row without one has the bits of a call without adapters.
// `out` may be `residual`, not `x`. FLOPs = 2 rows K N: the limit is the FMA rate for many rows, and memory (the
// weights are read once: 4 N K bytes) for few.
#pragma once

#include "core/tensor_view.h"

namespace longspan {

enum class Activation { none, relu, gelu, gelu_tanh, silu, tanh };

// How an instruction set wants the weights cut and walks over them.
struct PanelShape {
    int64_t columns;    // of W^T to a panel: two registers
    int64_t tile_rows;  // rows of x whose sums fit in the registers, beside a panel's two
    int64_t depth;      // the K block
};

// Packed weights as the kernels read them. Panel p is (K, columns) contiguous, at panels + p * K * columns; its columns
// are u[p * columns ...], or for gated weights columns / 2 of the gate's half and then the same ones of the other half.
// Columns past the end are zeros.
struct PackedView {
    const float* panels = nullptr;
    const float* bias = nullptr;  // (num_panels, columns), zeros where there is none
    int64_t num_panels = 0;
    int64_t in_features = 0;
    int64_t out_features = 0;
    bool is_gated = false;
};

// What one adapter adds to the columns of a panel: j of its B from `first` on, (depth, columns) at `panel`. Rows of B^T
// that are zero in the whole panel are left out at both ends: parts that are stacked by rows have an A each, and a
// panel of the one needs nothing of the others'.
struct LoraSegment {
    const float* panel = nullptr;
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

struct LinearArgs {
    MatrixView<const float> x;
    PackedView weights;
    Activation activation;
    MatrixView<const float> residual;  // data null: none
    MatrixView<float> out;
    LoraView lora;
};

// One task: these rows of x times these panels.
struct LinearBlock {
    int64_t first_row, last_row;
    int64_t first_panel, last_panel;
};
using LinearFn = void(const LinearArgs&, const LinearBlock&);

namespace portable {
inline constexpr PanelShape kPanel{8, 4, 256};
LinearFn linear;
}  // namespace portable
namespace avx2 {
inline constexpr PanelShape kPanel{16, 6, 256};
LinearFn linear;
}  // namespace avx2
namespace avx512 {
inline constexpr PanelShape kPanel{32, 14, 256};
LinearFn linear;
}  // namespace avx512

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

// The adapters' sum alone: out[r, n] = sum over j of shrunk[r, j] B[n, j], zeros for rows without an adapter.
void multi_lora(const MatrixView<const float>& x, const RowAdapters& adapters, const MatrixView<float>& out);

}  // namespace longspan
