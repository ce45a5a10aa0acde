// From NumPy arrays to views, at the border. Shapes are the ops' matter; here an array must only be what a view can
// show.
#pragma once

#include <pybind11/numpy.h>

#include <cstdint>
#include <optional>
#include <string>
#include <type_traits>

#include "core/error.h"
#include "core/tensor_view.h"

namespace longspan {

namespace py = pybind11;

namespace detail {

// Rejects what is not a T array of `ndim` axes with whole, aligned strides and a contiguous last axis.
template <class T>
void require_viewable(const char* name, const py::array& array, int ndim) {
    using Value = std::remove_const_t<T>;
    if (!py::isinstance<py::array_t<Value>>(array)) {
        reject(name, " must be ", std::string(py::str(py::dtype::of<Value>())), ", got ",
               std::string(py::str(array.dtype())));
    }
    if (array.ndim() != ndim) reject(name, " must have ", ndim, " axes, got ", array.ndim());
    if (reinterpret_cast<uintptr_t>(array.data()) % alignof(Value) != 0) reject(name, " must be aligned in memory");
    for (int axis = 0; axis < ndim && array.size() > 0; ++axis) {  // NumPy leaves an empty array's strides open
        const auto stride = array.strides(axis);
        const bool is_last = axis == ndim - 1;
        if (is_last ? stride != sizeof(Value) && array.shape(axis) > 1 : stride % py::ssize_t{sizeof(Value)} != 0) {
            reject(name, " must have a contiguous last axis and aligned rows");
        }
    }
    if (!std::is_const_v<T> && !array.writeable()) reject(name, " must be writeable");
}

template <class T>
T* data_of(const py::array& array) {
    return static_cast<T*>(const_cast<void*>(array.data()));
}

}  // namespace detail

// Input views take const T, outputs T. An optional array that is None gives a view whose data is null.
template <class T>
MatrixView<T> matrix_view(const char* name, const py::array& array) {
    detail::require_viewable<T>(name, array, 2);
    return {detail::data_of<T>(array), array.shape(0), array.shape(1), array.strides(0) / py::ssize_t{sizeof(T)}};
}

template <class T>
MatrixView<T> matrix_view(const char* name, const std::optional<py::array>& array) {
    return array ? matrix_view<T>(name, *array) : MatrixView<T>{};
}

template <class T>
HeadsView<T> heads_view(const char* name, const py::array& array) {
    detail::require_viewable<T>(name, array, 3);
    constexpr py::ssize_t kSize = sizeof(T);
    return {detail::data_of<T>(array), array.shape(0),          array.shape(1), array.shape(2),
            array.strides(0) / kSize,  array.strides(1) / kSize};
}

// As heads_view, where a matrix counts as one head.
template <class T>
HeadsView<T> grouped_view(const char* name, const py::array& array) {
    if (array.ndim() == 3) return heads_view<T>(name, array);
    const auto matrix = matrix_view<T>(name, array);
    return {matrix.data, matrix.rows, 1, matrix.cols, matrix.row_stride, 0};
}

template <class T>
HeadsView<T> grouped_view(const char* name, const std::optional<py::array>& array) {
    return array ? grouped_view<T>(name, *array) : HeadsView<T>{};
}

template <class T>
VectorView<T> vector_view(const char* name, const py::array& array) {
    detail::require_viewable<T>(name, array, 1);
    return {detail::data_of<T>(array), array.shape(0)};
}

template <class T>
VectorView<T> vector_view(const char* name, const std::optional<py::array>& array) {
    return array ? vector_view<T>(name, *array) : VectorView<T>{};
}

}  // namespace longspan
