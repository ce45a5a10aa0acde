// Views of memory that somebody else owns. Strides count elements, not bytes; the last axis is always contiguous.
#pragma once

#include <cstdint>

namespace longspan {

// (rows, cols) with `row_stride` elements from one row to the next.
template <class T>
struct MatrixView {
    T* data = nullptr;
    int64_t rows = 0;
    int64_t cols = 0;
    int64_t row_stride = 0;

    T* row(int64_t i) const { return data + i * row_stride; }
    bool empty() const { return rows == 0 || cols == 0; }
};

// (rows, heads, head_dim): token rows of packed sequences, split into attention heads.
template <class T>
struct HeadsView {
    T* data = nullptr;
    int64_t rows = 0;
    int64_t heads = 0;
    int64_t head_dim = 0;
    int64_t row_stride = 0;
    int64_t head_stride = 0;

    T* at(int64_t row, int64_t head) const { return data + row * row_stride + head * head_stride; }
};

// A contiguous run of `size` values; data may be null where an argument is optional.
template <class T>
struct VectorView {
    T* data = nullptr;
    int64_t size = 0;

    explicit operator bool() const { return data != nullptr; }
};

}  // namespace longspan
