#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include "core/bind_views.h"
#include "core/unlocked.h"
#include "layer_norm/layer_norm.h"

namespace longspan {

void bind_layer_norm(py::module_& module) {
    module.def(
        "layer_norm",
        [](const py::array& x, const std::optional<py::array>& residual, const py::array& weight,
           const std::optional<py::array>& bias, float eps, bool is_centred, const py::array& out) {
            const auto name = [&](const char* of_layer_norm, const char* of_rms_norm) {
                return is_centred ? of_layer_norm : of_rms_norm;
            };
            const LayerNormArgs args{
                grouped_view<const float>(name("layer_norm: x", "rms_norm: x"), x),
                grouped_view<const float>(name("layer_norm: residual", "rms_norm: residual"), residual),
                vector_view<const float>(name("layer_norm: weight", "rms_norm: weight"), weight),
                vector_view<const float>("layer_norm: bias", bias),
                eps,
                is_centred,
                grouped_view<float>(name("layer_norm: out", "rms_norm: out"), out)};
            const Unlocked unlocked;
            layer_norm(args);
        },
        py::arg("x"), py::arg("residual"), py::arg("weight"), py::arg("bias"), py::arg("eps"), py::arg("is_centred"),
        py::arg("out"));
}

}  // namespace longspan
