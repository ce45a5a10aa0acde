#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include "core/bind_views.h"
#include "core/unlocked.h"
#include "rescore/rescore.h"

namespace longspan {

void bind_rescore(py::module_& module) {
    module.def(
        "rescore",
        [](const py::array& queries, const py::array& candidates, const std::optional<py::array>& vectors,
           const std::optional<py::array>& levels, const std::optional<py::array>& scales,
           const std::optional<py::array>& codes, const py::array& scores, const py::array& rows) {
            const RescoreArgs args{matrix_view<const float>("rescore: q", queries),
                                   matrix_view<const int64_t>("rescore: candidates", candidates),
                                   matrix_view<const float>("rescore: documents", vectors),
                                   matrix_view<const int8_t>("rescore: documents", levels),
                                   vector_view<const float>("rescore: scales", scales),
                                   matrix_view<const uint8_t>("rescore: documents", codes),
                                   matrix_view<float>("rescore: scores", scores),
                                   matrix_view<int64_t>("rescore: rows", rows)};
            const Unlocked unlocked;
            rescore(args);
        },
        py::arg("queries"), py::arg("candidates"), py::arg("vectors"), py::arg("levels"), py::arg("scales"),
        py::arg("codes"), py::arg("scores"), py::arg("rows"));
}

}  // namespace longspan
