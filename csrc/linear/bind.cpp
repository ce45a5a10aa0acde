#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <array>
#include <utility>

#include "core/bind_views.h"
#include "core/unlocked.h"
#include "linear/bind_names.h"
#include "linear/packed.h"
#include "linear/variants.h"

namespace longspan {
namespace {

constexpr Names<Gate, 2> kGates = {{{"first", Gate::first}, {"second", Gate::second}}};

constexpr Names<Dtype, 3> kDtypes = {{{"float32", Dtype::f32}, {"bfloat16", Dtype::bf16}, {"int8", Dtype::i8}}};

template <class Value, size_t kCount>
std::optional<std::string> name_of(const Names<Value, kCount>& names, Value value) {
    for (const auto& [known, candidate] : names) {
        if (candidate == value) return known;
    }
    return std::nullopt;
}

template <class T>
MatrixView<const std::byte> weight_bytes(const char* name, const py::array& weight) {
    const auto view = matrix_view<const T>(name, weight);
    return {reinterpret_cast<const std::byte*>(view.data), view.rows, view.cols, view.row_stride * int64_t{sizeof(T)}};
}

LinearPart linear_part(const std::string& weight_name, const py::array& weight, const std::string& bias_name,
                       const std::optional<py::array>& bias) {
    LinearPart part{WeightFormat::f32, {}, vector_view<const float>(bias_name.c_str(), bias)};
    if (weight.dtype().kind() == 'f' && weight.itemsize() == 2) {  // pybind11 knows no half: viewed as its bits
        part.format = WeightFormat::f16;
        part.weight = weight_bytes<uint16_t>(weight_name.c_str(), py::array(weight).view("uint16"));
    } else if (py::isinstance<py::array_t<uint16_t>>(weight)) {
        part.format = WeightFormat::bf16;
        part.weight = weight_bytes<uint16_t>(weight_name.c_str(), weight);
    } else {
        part.weight = weight_bytes<float>(weight_name.c_str(), weight);
    }
    return part;
}

std::unique_ptr<PackedLinear> pack(const std::vector<py::array>& weights,
                                   const std::vector<std::optional<py::array>>& biases,
                                   const std::optional<std::string>& gate, const std::string& dtype) {
    if (weights.size() != biases.size()) {
        reject("pack_linear: biases must be as many as weights, ", weights.size(), ", got ", biases.size());
    }
    std::vector<LinearPart> parts;
    for (size_t i = 0; i < weights.size(); ++i) {
        const auto named = [&](const char* list) { return std::string(list) + "[" + std::to_string(i) + "]"; };
        parts.push_back(
            linear_part(named("pack_linear: weights"), weights[i], named("pack_linear: biases"), biases[i]));
    }
    const Gate kind = value_of("pack_linear: gate", kGates, gate);
    const auto* const packed_as =
        std::find_if(kDtypes.begin(), kDtypes.end(), [&](const auto& known) { return dtype == known.first; });
    if (packed_as == kDtypes.end()) reject("pack_linear: dtype is unknown: '", dtype, "'");
    const Unlocked unlocked;
    return std::make_unique<PackedLinear>(parts, packed_as->second, kind);
}

py::tuple unpack(const PackedLinear& packed) {
    py::array_t<float> weight({packed.rows(), packed.in_features()});
    py::array_t<float> bias(packed.rows());
    packed.unpack(matrix_view<float>("unpack: weight", weight), bias.mutable_data());
    return py::make_tuple(weight, bias);
}

std::unique_ptr<PackedLora> pack_lora(const py::array& lora_a, const py::array& lora_b,
                                      const std::vector<float>& scaling, const PackedLinear& base) {
    const auto a = heads_view<const float>("pack_lora: lora_a", lora_a);
    const auto b = heads_view<const float>("pack_lora: lora_b", lora_b);
    if (a.head_dim != base.in_features()) {
        reject("pack_lora: lora_a must have ", base.in_features(), " inputs, as base, got ", a.head_dim);
    }
    const Unlocked unlocked;
    return std::make_unique<PackedLora>(a, b, scaling, base.order());
}

py::tuple unpack_lora(const PackedLora& packed) {
    py::array_t<float> lora_a({packed.num_adapters(), packed.rank(), packed.in_features()});
    py::array_t<float> lora_b({packed.num_adapters(), packed.order().rows, packed.rank()});
    packed.unpack(heads_view<float>("unpack: lora_a", lora_a), heads_view<float>("unpack: lora_b", lora_b));
    return py::make_tuple(lora_a, lora_b);
}

void bind_lora(py::module_& module) {
    py::class_<PackedLora>(module, "PackedLora", "Low-rank adapters of a PackedLinear, in the layout of its kernel.")
        .def(py::init(&pack_lora), py::arg("lora_a"), py::arg("lora_b"), py::arg("scaling"), py::arg("base"))
        .def("unpack", &unpack_lora)
        .def_property_readonly("num_adapters", &PackedLora::num_adapters)
        .def_property_readonly("rank", &PackedLora::rank)
        .def_property_readonly("dtype",
                               [](const PackedLora& packed) { return *name_of(kDtypes, packed.order().dtype); })
        .def_property_readonly("nbytes", &PackedLora::nbytes)
        .def("__repr__", [](const PackedLora& packed) {
            std::ostringstream text;
            text << "PackedLora(num_adapters=" << packed.num_adapters() << ", rank=" << packed.rank() << ")";
            return text.str();
        });
    module.def("multiplies_bf16", [] { return variant_for(Dtype::bf16, active_isa()).panel.parts == 1; });
    module.def(
        "multi_lora",
        [](const py::array& x, const py::array& lora_a, const py::array& lora_b, const py::array& lora_ids,
           const std::vector<float>& scaling, const py::array& out) {
            const auto x_view = matrix_view<const float>("multi_lora: x", x);
            const auto a = heads_view<const float>("multi_lora: lora_a", lora_a);
            const auto b = heads_view<const float>("multi_lora: lora_b", lora_b);
            const auto ids = vector_view<const int32_t>("multi_lora: lora_ids", lora_ids);
            const auto out_view = matrix_view<float>("multi_lora: out", out);
            const Unlocked unlocked;
            const PackedLora lora(a, b, scaling, PanelOrder::of(active_isa(), Dtype::f32, Gate::none, b.heads));
            multi_lora(x_view, {&lora, ids}, out_view);
        },
        py::arg("x"), py::arg("lora_a"), py::arg("lora_b"), py::arg("lora_ids"), py::arg("scaling"), py::arg("out"));
}

}  // namespace

void bind_linear(py::module_& module) {
    py::class_<PackedLinear>(module, "PackedLinear",
                             "The weights and bias of a linear layer, in the layout of one instruction set's kernel.")
        .def(py::init(&pack), py::arg("weights"), py::arg("biases"), py::arg("gate"), py::arg("dtype"))
        .def("unpack", &unpack)
        .def_property_readonly("dtype", [](const PackedLinear& packed) { return *name_of(kDtypes, packed.dtype()); })
        .def_property_readonly("in_features", &PackedLinear::in_features)
        .def_property_readonly("out_features", &PackedLinear::out_features)
        .def_property_readonly("gate", [](const PackedLinear& packed) { return name_of(kGates, packed.gate()); })
        .def_property_readonly("isa", [](const PackedLinear& packed) { return std::string(name_of(packed.isa())); })
        .def_property_readonly("nbytes", &PackedLinear::nbytes)
        .def("__repr__", [](const PackedLinear& packed) {
            std::ostringstream text;
            text << "PackedLinear(in_features=" << packed.in_features() << ", out_features=" << packed.out_features()
                 << (packed.gate() == Gate::none ? "" : ", gated") << ", dtype=" << *name_of(kDtypes, packed.dtype())
                 << ", isa=" << name_of(packed.isa()) << ")";
            return text.str();
        });
    module.def(
        "linear",
        [](const py::array& x, const PackedLinear& weight, const std::optional<std::string>& activation,
           const std::optional<py::array>& residual, const py::array& out, const PackedLora* lora,
           const std::optional<py::array>& lora_ids) {
            const auto x_view = matrix_view<const float>("linear: x", x);
            const auto residual_view = matrix_view<const float>("linear: residual", residual);
            const auto out_view = matrix_view<float>("linear: out", out);
            const RowAdapters adapters{lora, vector_view<const int32_t>("linear: lora_ids", lora_ids)};
            const Activation kind = activation_of("linear: activation", activation);
            const Unlocked unlocked;
            linear(x_view, weight, kind, residual_view, adapters, out_view);
        },
        py::arg("x"), py::arg("weight"), py::arg("activation"), py::arg("residual"), py::arg("out"),
        py::arg("lora") = py::none(), py::arg("lora_ids") = py::none());
    module.def(
        "pool_logits",
        [](const py::array& x, const PackedLinear& weight, const py::array& cu_seqlens, bool is_sum, int saturation,
           const py::array& out) {
            const auto x_view = matrix_view<const float>("pool_logits: x", x);
            const auto offsets = vector_view<const int32_t>("pool_logits: cu_seqlens", cu_seqlens);
            const auto out_view = matrix_view<float>("pool_logits: out", out);
            if (saturation < 0 || saturation > 2) reject("pool_logits: saturation must be 0, 1 or 2, got ", saturation);
            const Unlocked unlocked;
            pool_logits(x_view, weight, offsets, is_sum, static_cast<Saturation>(saturation), out_view);
        },
        py::arg("x"), py::arg("weight"), py::arg("cu_seqlens"), py::arg("is_sum"), py::arg("saturation"),
        py::arg("out"));
    bind_lora(module);
}

}  // namespace longspan
