#include "core/bind_cuda.h"
#include "span_mean/cuda.h"

namespace longspan {

void bind_span_mean_cuda(py::module_& module) {
    module.def(
        "span_mean",
        [](const py::capsule& hidden, const py::capsule& spans, bool normalize, const py::capsule& out,
           uintptr_t stream) {
            const DeviceArray rows = device_array("span_mean: hidden", hidden, 2);
            const DeviceArray bounds = device_array("span_mean: spans", spans, 2, dlpack::kInt, 32);
            const DeviceArray means = device_array("span_mean: out", out, 2, dlpack::kFloat, 32);
            const int64_t num_spans = bounds.shape[0], out_dim = means.shape[1];
            cuda::require_shape("span_mean: spans", bounds, {num_spans, 2});
            cuda::require_shape("span_mean: out", means, {num_spans, out_dim});
            if (bounds.row_stride != 2 && num_spans > 1) reject("span_mean: spans must be contiguous");
            if (out_dim > rows.shape[1]) reject("span_mean: out must have ", rows.shape[1], " columns at most");
            const cuda::SpanMean args{rows.data,       cuda::float_of("span_mean: hidden", rows),
                                      rows.shape[0],   rows.shape[1],
                                      rows.row_stride, bounds.as<const int32_t>(),
                                      num_spans,       means.as<float>(),
                                      out_dim,         means.row_stride,
                                      normalize};
            const cuda::DeviceGuard guard("span_mean", {&rows, &bounds, &means});
            if (num_spans > 0 && out_dim > 0) cuda::span_mean(args, cuda::stream_of(stream));
        },
        py::arg("hidden"), py::arg("spans"), py::arg("normalize"), py::arg("out"), py::arg("stream"));
}

}  // namespace longspan
