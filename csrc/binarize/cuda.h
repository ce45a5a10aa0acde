// binarize on a GPU: one bit a value, set where x > threshold (strictly, in f32), most significant bit first.
//   x (rows, dim) f32 | f16 | bf16, `row_stride` values apart, thresholds (dim,) f32 or null (0)
//   -> codes (rows, ceil(dim / 8)) uint8, `code_stride` bytes apart, filled up with zeros
// A NaN is above nothing: its bit is 0. Nothing is waited for.
#pragma once

#include "core/cuda_host.h"

namespace longspan::cuda {

struct Binarize {
    const void* x;
    Float dtype;
    int64_t rows, dim, row_stride;
    const float* thresholds;
    uint8_t* codes;
    int64_t code_stride;
};

void binarize(const Binarize& args, Stream stream);

}  // namespace longspan::cuda
