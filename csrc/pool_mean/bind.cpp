#include <pybind11/pybind11.h>

#include "core/bind_views.h"
#include "core/unlocked.h"
#include "pool_mean/pool_mean.h"

namespace longspan {

void bind_pool_mean(py::module_& module) {
    module.def(
        "pool_mean",
        [](const py::array& hidden, const py::array& cu_seqlens, const py::array& out) {
            const PoolMeanArgs args{matrix_view<const float>("pool_mean: hidden", hidden),
                                    vector_view<const int32_t>("pool_mean: cu_seqlens", cu_seqlens),
                                    matrix_view<float>("pool_mean: out", out)};
            const Unlocked unlocked;
            pool_mean(args);
        },
        py::arg("hidden"), py::arg("cu_seqlens"), py::arg("out"));
}

}  // namespace longspan
