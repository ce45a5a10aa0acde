#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <optional>
#include <string>
#include <vector>

#include "core/bind_views.h"
#include "core/unlocked.h"
#include "linear/bind_names.h"
#include "row_chain/row_chain.h"

namespace longspan {

void bind_row_chain(py::module_& module) {
    const auto number = [](const std::optional<int>& residual) { return residual.value_or(-1); };
    py::class_<RowChain>(module, "RowChain", "Steps that each row goes through by itself, on numbered values.")
        .def(py::init<int>(), py::arg("num_bound"))
        .def(
            "multiply",
            [number](RowChain& chain, int source, const PackedLinear& weight, const PackedLora* lora,
                     const std::optional<int>& residual, int target, const std::optional<std::string>& activation) {
                const Activation kind = activation_of("row_chain: activation", activation);
                chain.add(ChainProduct{source, number(residual), target, &weight, lora, kind});
            },
            py::arg("source"), py::arg("weight"), py::arg("lora"), py::arg("residual"), py::arg("target"),
            py::arg("activation") = py::none(), py::keep_alive<1, 3>(), py::keep_alive<1, 4>())
        .def(
            "mlp",
            [number](RowChain& chain, int source, const PackedLinear& up, const PackedLora* up_lora,
                     const std::optional<std::string>& activation, const PackedLinear& down,
                     const PackedLora* down_lora, const std::optional<int>& residual, int target) {
                const Activation kind = activation_of("row_chain: activation", activation);
                chain.add(ChainMlp{source, number(residual), target, {&up, kind, up_lora, &down, down_lora}});
            },
            py::arg("source"), py::arg("up"), py::arg("up_lora"), py::arg("activation"), py::arg("down"),
            py::arg("down_lora"), py::arg("residual"), py::arg("target"), py::keep_alive<1, 3>(),
            py::keep_alive<1, 4>(), py::keep_alive<1, 6>(), py::keep_alive<1, 7>())
        .def(
            "norm",
            [number](RowChain& chain, int source, const py::array& weight, const std::optional<py::array>& bias,
                     float eps, bool is_centred, const std::optional<int>& residual, int target, int64_t first_column,
                     int64_t columns) {
                chain.add(ChainNorm{
                    source, number(residual), target, vector_view<const float>("row_chain: weight", weight),
                    vector_view<const float>("row_chain: bias", bias), eps, is_centred, first_column, columns});
            },
            py::arg("source"), py::arg("weight"), py::arg("bias"), py::arg("eps"), py::arg("is_centred"),
            py::arg("residual"), py::arg("target"), py::arg("first_column"), py::arg("columns"), py::keep_alive<1, 3>(),
            py::keep_alive<1, 4>())
        .def(
            "add",
            [](RowChain& chain, int source, int residual, int target) {
                chain.add(ChainAdd{source, residual, target});
            },
            py::arg("source"), py::arg("residual"), py::arg("target"))
        .def(
            "run",
            [](const RowChain& chain, const std::vector<py::array>& bound, const std::optional<py::array>& lora_ids) {
                std::vector<ChainValue> views;
                for (const py::array& value : bound) {
                    if (py::isinstance<py::array_t<uint16_t>>(value)) {
                        views.push_back({{}, matrix_view<uint16_t>("row_chain: values", value)});
                    } else {
                        views.push_back({matrix_view<float>("row_chain: values", value), {}});
                    }
                }
                const auto ids = vector_view<const int32_t>("row_chain: lora_ids", lora_ids);
                const Unlocked unlocked;
                chain.run(views, ids);
            },
            py::arg("bound"), py::arg("lora_ids") = py::none());
}

}  // namespace longspan
