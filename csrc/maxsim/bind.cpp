#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include "core/bind_views.h"
#include "core/unlocked.h"
#include "maxsim/maxsim.h"

namespace longspan {
namespace {

template <class T>
TokenRows token_rows(const py::array& d, TokenFormat format) {
    const auto view = matrix_view<const T>("maxsim: d", d);
    const int64_t dim = format == TokenFormat::codes ? view.cols * 8 : view.cols;
    return {reinterpret_cast<const std::byte*>(view.data), view.rows, dim, view.row_stride * int64_t{sizeof(T)},
            format};
}

TokenRows token_rows(const py::array& d, const std::string& format, const std::optional<py::array>& scales) {
    if (format == "float32") return token_rows<float>(d, TokenFormat::f32);
    if (format == "float16") return token_rows<uint16_t>(d, TokenFormat::f16);  // as bit patterns, like bfloat16
    if (format == "bfloat16") return token_rows<uint16_t>(d, TokenFormat::bf16);
    if (format == "codes") return token_rows<uint8_t>(d, TokenFormat::codes);
    if (format != "int8") reject("maxsim: format is unknown: '", format, "'");
    TokenRows rows = token_rows<int8_t>(d, TokenFormat::i8);
    const auto view = vector_view<const float>("maxsim: scales", scales);
    if (view.size != rows.rows) reject("maxsim: scales must have ", rows.rows, " values, got ", view.size);
    rows.scales = view.data;
    return rows;
}

MaxsimInputs inputs_of(const py::array& q, const py::array& d, const std::string& format,
                       const std::optional<py::array>& scales, const py::array& cu_seqlens_q,
                       const py::array& cu_seqlens_d) {
    MaxsimInputs inputs;
    if (py::isinstance<py::array_t<uint8_t>>(q)) {
        inputs.q_codes = matrix_view<const uint8_t>("maxsim: q", q);
    } else {
        inputs.q = matrix_view<const float>("maxsim: q", q);
    }
    inputs.docs = token_rows(d, format, scales);
    inputs.cu_seqlens_q = vector_view<const int32_t>("maxsim: cu_seqlens_q", cu_seqlens_q);
    inputs.cu_seqlens_d = vector_view<const int32_t>("maxsim: cu_seqlens_d", cu_seqlens_d);
    return inputs;
}

}  // namespace

void bind_maxsim(py::module_& module) {
    module.def(
        "maxsim",
        [](const py::array& q, const py::array& d, const std::string& format, const std::optional<py::array>& scales,
           const py::array& cu_seqlens_q, const py::array& cu_seqlens_d, const py::array& out) {
            const MaxsimInputs inputs = inputs_of(q, d, format, scales, cu_seqlens_q, cu_seqlens_d);
            const auto out_view = matrix_view<float>("maxsim: out", out);
            const Unlocked unlocked;
            maxsim(inputs, out_view);
        },
        py::arg("q"), py::arg("d"), py::arg("format"), py::arg("scales"), py::arg("cu_seqlens_q"),
        py::arg("cu_seqlens_d"), py::arg("out"));
    module.def(
        "maxsim_pairs",
        [](const py::array& q, const py::array& d, const std::string& format, const std::optional<py::array>& scales,
           const py::array& cu_seqlens_q, const py::array& cu_seqlens_d, const py::array& pairs, const py::array& out) {
            const MaxsimInputs inputs = inputs_of(q, d, format, scales, cu_seqlens_q, cu_seqlens_d);
            const auto pairs_view = matrix_view<const int32_t>("maxsim_pairs: pairs", pairs);
            const auto out_view = vector_view<float>("maxsim_pairs: out", out);
            const Unlocked unlocked;
            maxsim_pairs(inputs, pairs_view, out_view);
        },
        py::arg("q"), py::arg("d"), py::arg("format"), py::arg("scales"), py::arg("cu_seqlens_q"),
        py::arg("cu_seqlens_d"), py::arg("pairs"), py::arg("out"));
    module.def(
        "maxsim_topk",
        [](const py::array& q, const py::array& d, const std::string& format, const std::optional<py::array>& scales,
           const py::array& cu_seqlens_q, const py::array& cu_seqlens_d, const py::array& scores,
           const py::array& rows) {
            const MaxsimInputs inputs = inputs_of(q, d, format, scales, cu_seqlens_q, cu_seqlens_d);
            const auto scores_view = matrix_view<float>("maxsim_topk: scores", scores);
            const auto rows_view = matrix_view<int64_t>("maxsim_topk: rows", rows);
            const Unlocked unlocked;
            maxsim_topk(inputs, scores_view, rows_view);
        },
        py::arg("q"), py::arg("d"), py::arg("format"), py::arg("scales"), py::arg("cu_seqlens_q"),
        py::arg("cu_seqlens_d"), py::arg("scores"), py::arg("rows"));
}

}  // namespace longspan
