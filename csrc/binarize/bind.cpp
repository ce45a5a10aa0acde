#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include "binarize/binarize.h"
#include "core/bind_views.h"
#include "core/unlocked.h"

namespace longspan {

void bind_binarize(py::module_& module) {
    module.def(
        "binarize",
        [](const py::array& x, const std::optional<py::array>& thresholds, const py::array& codes) {
            const BinarizeArgs args{matrix_view<const float>("binarize: x", x),
                                    vector_view<const float>("binarize: thresholds", thresholds),
                                    matrix_view<uint8_t>("binarize: codes", codes)};
            const Unlocked unlocked;
            binarize(args);
        },
        py::arg("x"), py::arg("thresholds"), py::arg("codes"));
}

}  // namespace longspan
