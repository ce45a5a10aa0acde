#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include "core/bind_views.h"
#include "core/unlocked.h"
#include "retrofit_step/retrofit_step.h"

namespace longspan {
namespace {

using MaybeArray = std::optional<py::array>;

SparseRows sparse_rows(const py::array& indptr, const py::array& indices, const MaybeArray& weights) {
    return {vector_view<const int64_t>("retrofit_step: indptr", indptr),
            vector_view<const int32_t>("retrofit_step: indices", indices),
            vector_view<const float>("retrofit_step: weights", weights)};
}

}  // namespace

void bind_retrofit_step(py::module_& module) {
    module.def(
        "retrofit_step",
        [](const py::array& vectors, const py::array& indptr, const py::array& indices, const py::array& weights,
           const MaybeArray& base, const MaybeArray& anchor, const MaybeArray& sums, const MaybeArray& sum_indptr,
           const MaybeArray& sum_indices, const MaybeArray& sum_weights, const MaybeArray& scale,
           const MaybeArray& divisor, const MaybeArray& squares, const py::array& out) {
            RetrofitStepArgs args;
            args.vectors = matrix_view<const float>("retrofit_step: vectors", vectors);
            args.neighbors = sparse_rows(indptr, indices, weights);
            args.base = matrix_view<const float>("retrofit_step: base", base);
            args.anchor = vector_view<const float>("retrofit_step: anchor", anchor);
            args.sums = matrix_view<const float>("retrofit_step: sums", sums);
            if (sums) args.corrections = sparse_rows(sum_indptr.value(), sum_indices.value(), sum_weights);
            args.scale = vector_view<const float>("retrofit_step: scale", scale);
            args.divisor = vector_view<const float>("retrofit_step: divisor", divisor);
            args.squares = vector_view<double>("retrofit_step: squares", squares);
            args.out = matrix_view<float>("retrofit_step: out", out);
            const Unlocked unlocked;
            retrofit_step(args);
        },
        py::arg("vectors"), py::arg("indptr"), py::arg("indices"), py::arg("weights"), py::arg("base"),
        py::arg("anchor"), py::arg("sums"), py::arg("sum_indptr"), py::arg("sum_indices"), py::arg("sum_weights"),
        py::arg("scale"), py::arg("divisor"), py::arg("squares"), py::arg("out"));
    module.def(
        "group_sums",
        [](const py::array& vectors, const py::array& indptr, const py::array& indices, const MaybeArray& scale,
           const py::array& out) {
            GroupSumsArgs args;
            args.vectors = matrix_view<const float>("group_sums: vectors", vectors);
            args.groups = sparse_rows(indptr, indices, std::nullopt);
            args.scale = vector_view<const float>("group_sums: scale", scale);
            args.out = matrix_view<float>("group_sums: out", out);
            const Unlocked unlocked;
            group_sums(args);
        },
        py::arg("vectors"), py::arg("indptr"), py::arg("indices"), py::arg("scale"), py::arg("out"));
}

}  // namespace longspan
