#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include "core/bind_views.h"
#include "core/unlocked.h"
#include "hamming/hamming.h"

namespace longspan {

void bind_hamming(py::module_& module) {
    module.def(
        "hamming",
        [](const py::array& queries, const py::array& codes, const py::array& out) {
            const auto query_view = matrix_view<const uint8_t>("hamming: q", queries);
            const auto code_view = matrix_view<const uint8_t>("hamming: codes", codes);
            const auto out_view = matrix_view<int32_t>("hamming: out", out);
            const Unlocked unlocked;
            hamming(query_view, code_view, out_view);
        },
        py::arg("queries"), py::arg("codes"), py::arg("out"));
    module.def(
        "hamming_topk",
        [](const py::array& queries, const py::array& codes, const std::optional<py::array>& filter,
           const std::optional<py::array>& tie_ranks, const py::array& distances, const py::array& rows) {
            const HammingTopkArgs args{matrix_view<const uint8_t>("hamming_topk: q", queries),
                                       matrix_view<const uint8_t>("hamming_topk: codes", codes),
                                       vector_view<const uint8_t>("hamming_topk: filter", filter),
                                       vector_view<const int64_t>("hamming_topk: tie_ranks", tie_ranks),
                                       matrix_view<int32_t>("hamming_topk: distances", distances),
                                       matrix_view<int64_t>("hamming_topk: rows", rows)};
            const Unlocked unlocked;
            hamming_topk(args);
        },
        py::arg("queries"), py::arg("codes"), py::arg("filter"), py::arg("tie_ranks"), py::arg("distances"),
        py::arg("rows"));
}

}  // namespace longspan
