#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <algorithm>

#include "attention_varlen/attention_varlen.h"
#include "core/bind_views.h"
#include "core/unlocked.h"

namespace longspan {

namespace {

// Rows of bf16, given as its bits, as "floats" of two neighbours.
HeadsView<const float> pairs_view(const char* name, const py::array& array) {
    const auto bits = heads_view<const uint16_t>(name, array);
    const bool is_even = bits.head_dim % 2 == 0 && bits.row_stride % 2 == 0 && bits.head_stride % 2 == 0;
    if (!is_even || reinterpret_cast<uintptr_t>(bits.data) % alignof(float) != 0) {
        reject(name, " in bfloat16 must have an even head_dim, and rows and heads at multiples of four bytes");
    }
    return {reinterpret_cast<const float*>(bits.data),
            bits.rows,
            bits.heads,
            bits.head_dim / 2,
            bits.row_stride / 2,
            bits.head_stride / 2};
}

}  // namespace

void bind_attention_varlen(py::module_& module) {
    module.def(
        "attention_varlen",
        [](const py::array& q, const py::array& k, const py::array& v, const py::array& cu_seqlens_q,
           const py::array& cu_seqlens_k, const std::optional<py::array>& slopes, const std::optional<py::array>& cos,
           const std::optional<py::array>& sin, bool interleaved, const std::optional<py::array>& bias_table,
           std::optional<int64_t> left, std::optional<int64_t> right, float softmax_scale, const py::array& out,
           const std::string& dtype, bool rotary_by_key) {
            const auto limit = [](const std::optional<int64_t>& keys) {
                return std::min(keys.value_or(AttentionArgs::kUnlimited), AttentionArgs::kUnlimited);
            };
            if (dtype != "float32" && dtype != "bfloat16" && dtype != "int8") {
                reject("attention_varlen: dtype must be float32, bfloat16 or int8, got '", dtype, "'");
            }
            const bool holds_bf16 = py::isinstance<py::array_t<uint16_t>>(q);
            const auto view = holds_bf16 ? pairs_view : [](const char* name, const py::array& array) {
                return heads_view<const float>(name, array);
            };
            const AttentionArgs args{view("attention_varlen: q", q),
                                     view("attention_varlen: k", k),
                                     view("attention_varlen: v", v),
                                     vector_view<const int32_t>("attention_varlen: cu_seqlens_q", cu_seqlens_q),
                                     vector_view<const int32_t>("attention_varlen: cu_seqlens_k", cu_seqlens_k),
                                     vector_view<const float>("attention_varlen: slopes", slopes),
                                     matrix_view<const float>("attention_varlen: cos", cos),
                                     matrix_view<const float>("attention_varlen: sin", sin),
                                     interleaved,
                                     rotary_by_key,
                                     matrix_view<const float>("attention_varlen: bias_table", bias_table),
                                     limit(left),
                                     limit(right),
                                     softmax_scale,
                                     heads_view<float>("attention_varlen: out", out),
                                     dtype == "bfloat16",
                                     dtype == "int8",
                                     holds_bf16};
            const Unlocked unlocked;
            attention_varlen(args);
        },
        py::arg("q"), py::arg("k"), py::arg("v"), py::arg("cu_seqlens_q"), py::arg("cu_seqlens_k"), py::arg("slopes"),
        py::arg("cos"), py::arg("sin"), py::arg("interleaved"), py::arg("bias_table"), py::arg("left"),
        py::arg("right"), py::arg("softmax_scale"), py::arg("out"), py::arg("dtype") = "float32",
        py::arg("rotary_by_key") = false);
    module.def("attention_reads_bf16", &attention_reads_bf16);
}

}  // namespace longspan
