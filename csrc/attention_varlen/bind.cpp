#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <algorithm>

#include "attention_varlen/attention_varlen.h"
#include "core/bind_views.h"

namespace longspan {

void bind_attention_varlen(py::module_& module) {
    module.def(
        "attention_varlen",
        [](const py::array& q, const py::array& k, const py::array& v, const py::array& cu_seqlens_q,
           const py::array& cu_seqlens_k, const std::optional<py::array>& slopes, const std::optional<py::array>& cos,
           const std::optional<py::array>& sin, bool interleaved, const std::optional<py::array>& bias_table,
           std::optional<int64_t> left, std::optional<int64_t> right, float softmax_scale, const py::array& out,
           const std::string& dtype) {
            const auto limit = [](const std::optional<int64_t>& keys) {
                return std::min(keys.value_or(AttentionArgs::kUnlimited), AttentionArgs::kUnlimited);
            };
            if (dtype != "float32" && dtype != "bfloat16") {
                reject("attention_varlen: dtype must be float32 or bfloat16, got '", dtype, "'");
            }
            const AttentionArgs args{heads_view<const float>("attention_varlen: q", q),
                                     heads_view<const float>("attention_varlen: k", k),
                                     heads_view<const float>("attention_varlen: v", v),
                                     vector_view<const int32_t>("attention_varlen: cu_seqlens_q", cu_seqlens_q),
                                     vector_view<const int32_t>("attention_varlen: cu_seqlens_k", cu_seqlens_k),
                                     vector_view<const float>("attention_varlen: slopes", slopes),
                                     matrix_view<const float>("attention_varlen: cos", cos),
                                     matrix_view<const float>("attention_varlen: sin", sin),
                                     interleaved,
                                     matrix_view<const float>("attention_varlen: bias_table", bias_table),
                                     limit(left),
                                     limit(right),
                                     softmax_scale,
                                     heads_view<float>("attention_varlen: out", out),
                                     dtype == "bfloat16"};
            const py::gil_scoped_release unlocked;
            attention_varlen(args);
        },
        py::arg("q"), py::arg("k"), py::arg("v"), py::arg("cu_seqlens_q"), py::arg("cu_seqlens_k"), py::arg("slopes"),
        py::arg("cos"), py::arg("sin"), py::arg("interleaved"), py::arg("bias_table"), py::arg("left"),
        py::arg("right"), py::arg("softmax_scale"), py::arg("out"), py::arg("dtype") = "float32");
}

}  // namespace longspan
