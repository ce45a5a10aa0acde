#include <optional>

#include "binarize/cuda.h"
#include "core/bind_cuda.h"

namespace longspan {

void bind_binarize_cuda(py::module_& module) {
    module.def(
        "binarize",
        [](const py::capsule& x, const std::optional<py::capsule>& thresholds, const py::capsule& codes,
           uintptr_t stream) {
            const DeviceArray values = device_array("binarize: x", x, 2);
            const DeviceArray bits = device_array("binarize: codes", codes, 2, dlpack::kUint, 8);
            const int64_t rows = values.shape[0], dim = values.shape[1];
            cuda::require_shape("binarize: codes", bits, {rows, (dim + 7) / 8});
            DeviceArray limits;
            if (thresholds) {
                limits = device_array("binarize: thresholds", *thresholds, 1, dlpack::kFloat, 32);
                cuda::require_shape("binarize: thresholds", limits, {dim});
            }
            const cuda::Binarize args{values.data,
                                      cuda::float_of("binarize: x", values),
                                      rows,
                                      dim,
                                      values.row_stride,
                                      limits.as<const float>(),
                                      bits.as<uint8_t>(),
                                      bits.row_stride};
            const cuda::DeviceGuard guard("binarize", {&values, &bits, thresholds ? &limits : &values});
            if (rows > 0 && dim > 0) cuda::binarize(args, cuda::stream_of(stream));
        },
        py::arg("x"), py::arg("thresholds"), py::arg("codes"), py::arg("stream"));
}

}  // namespace longspan
