// binarize: one bit a value, set where x > threshold (strictly), most significant bit first.
//   x (rows, dim) f32, thresholds (dim,) f32 or none (0)   ->   codes (rows, ceil(dim / 8)) uint8, filled up with zeros
// Infinities compare like any number; a NaN has no side, and is an error. Bytes read = 4 * rows * dim: memory is the
// limit.
#pragma once

#include "core/tensor_view.h"

namespace longspan {

struct BinarizeArgs {
    MatrixView<const float> x;
    VectorView<const float> thresholds;  // data null: zeros
    MatrixView<uint8_t> codes;
};

// Rows [first, last). Returns whether one of them holds a NaN.
using BinarizeFn = bool(const BinarizeArgs&, int64_t first, int64_t last);

namespace portable {
BinarizeFn binarize;
}
namespace avx2 {
BinarizeFn binarize;
}
namespace avx512 {
BinarizeFn binarize;
}
namespace neon {
BinarizeFn binarize;
}

// Throws std::invalid_argument on shapes that do not fit, a NaN in x (naming the first), or one in thresholds.
void binarize(const BinarizeArgs& args);

}  // namespace longspan
