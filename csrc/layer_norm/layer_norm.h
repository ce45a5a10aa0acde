// layer_norm and rms_norm: one row at a time, with the residual added before.
//   z = x + residual
//   layer_norm: out = (z - mean(z)) / sqrt(mean((z - mean(z))^2) + eps) * weight + bias
//   rms_norm:   out = z / sqrt(mean(z^2) + eps) * weight + bias
//   x, residual, out (rows, dim) or (rows, groups, dim) f32, each dim normalised by itself; weight, bias (dim,) f32;
//   sums in f32, in an order that depends on dim alone.
// `out` may be `x` or `residual`. Bytes = 4 * rows * groups * dim * (2 or 3): the limit is memory (here, mostly the L2
// cache).
#pragma once

#include "core/tensor_view.h"

namespace longspan {

struct LayerNormArgs {
    HeadsView<const float> x;         // heads: the groups
    HeadsView<const float> residual;  // data null: none
    VectorView<const float> weight;
    VectorView<const float> bias;  // data null: none
    float eps;
    bool is_centred;  // true: layer_norm, false: rms_norm
    HeadsView<float> out;
};

// Runs of dim values [first, last), counted row by row and group by group.
using LayerNormFn = void(const LayerNormArgs&, int64_t first, int64_t last);

namespace portable {
LayerNormFn layer_norm;
}
namespace avx2 {
LayerNormFn layer_norm;
}
namespace avx512 {
LayerNormFn layer_norm;
}
namespace neon {
LayerNormFn layer_norm;
}

// Throws std::invalid_argument on shapes that do not fit.
void layer_norm(const LayerNormArgs& args);

}  // namespace longspan
