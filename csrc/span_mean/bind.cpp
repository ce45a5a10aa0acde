#include <pybind11/pybind11.h>

#include "core/bind_views.h"
#include "core/unlocked.h"
#include "span_mean/span_mean.h"

namespace longspan {

void bind_span_mean(py::module_& module) {
    module.def(
        "span_mean",
        [](const py::array& hidden, const py::array& spans, bool normalize, const py::array& out) {
            const SpanMeanArgs args{matrix_view<const float>("span_mean: hidden", hidden),
                                    matrix_view<const int32_t>("span_mean: spans", spans),
                                    matrix_view<float>("span_mean: out", out), normalize};
            const Unlocked unlocked;
            span_mean(args);
        },
        py::arg("hidden"), py::arg("spans"), py::arg("normalize"), py::arg("out"));
}

}  // namespace longspan
