#include <optional>

#include "core/bind_cuda.h"
#include "hamming/cuda.h"

namespace longspan {
namespace {

struct Operands {
    DeviceArray queries, codes;

    Operands(const std::string& op, const py::capsule& q, const py::capsule& stored)
        : queries(device_array((op + ": q").c_str(), q, 2, dlpack::kUint, 8)),
          codes(device_array((op + ": codes").c_str(), stored, 2, dlpack::kUint, 8)) {
        const int64_t n = codes.shape[0], bytes = codes.shape[1];
        if (queries.shape[1] != bytes) reject(op, ": q must have ", bytes, " bytes (as codes), got ", queries.shape[1]);
        if (bytes < 1 || bytes > cuda::kMaxCodeBytes) {
            reject(op, ": codes must have from 1 to ", cuda::kMaxCodeBytes, " bytes on a GPU, got ", bytes);
        }
        if (n < 1 || n > cuda::kMaxRows) reject(op, ": codes must have from 1 to ", cuda::kMaxRows, " rows on a GPU");
    }

    cuda::Queries query_view() const { return {queries.data, queries.row_stride, queries.shape[0]}; }
    cuda::Codes code_view(const uint8_t* filter) const {
        return {codes.data, codes.row_stride, codes.shape[0], static_cast<int32_t>(codes.shape[1]), filter};
    }
};

cuda::TopkPlan plan_of(const cuda::Queries& queries, const cuda::Codes& codes, int64_t k) {
    if (k < 1 || k > codes.n) reject("hamming_topk: k must be from 1 to ", codes.n, ", got ", k);
    return cuda::plan_topk(queries.count, codes.n, codes.bytes, k, cuda::num_multiprocessors());
}

}  // namespace

void bind_hamming_cuda(py::module_& module) {
    module.attr("MAX_CODE_BYTES") = cuda::kMaxCodeBytes;
    module.attr("MAX_SORTED") = cuda::kMaxSorted;
    module.def(
        "hamming",
        [](const py::capsule& q, const py::capsule& codes, const py::capsule& out, uintptr_t stream) {
            const Operands operands("hamming", q, codes);
            const DeviceArray distances = device_array("hamming: out", out, 2, dlpack::kInt, 32);
            const cuda::Queries queries = operands.query_view();
            const cuda::Codes stored = operands.code_view(nullptr);
            cuda::require_shape("hamming: out", distances, {queries.count, stored.n});
            const cuda::DeviceGuard guard("hamming", {&operands.queries, &operands.codes, &distances});
            if (queries.count == 0) return;
            cuda::all_pairs({queries, stored, distances.as<int32_t>(), distances.row_stride}, cuda::stream_of(stream));
        },
        py::arg("q"), py::arg("codes"), py::arg("out"), py::arg("stream"));
    module.def(
        "hamming_topk_workspace",
        [](const py::capsule& q, const py::capsule& codes, int64_t k) {
            const Operands operands("hamming_topk", q, codes);
            const cuda::DeviceGuard guard("hamming_topk", {&operands.queries, &operands.codes});
            return plan_of(operands.query_view(), operands.code_view(nullptr), k).workspace;
        },
        py::arg("q"), py::arg("codes"), py::arg("k"));
    module.def(
        "hamming_topk",
        [](const py::capsule& q, const py::capsule& codes, const std::optional<py::capsule>& filter,
           const py::capsule& keys, const py::capsule& workspace, uintptr_t stream) {
            const Operands operands("hamming_topk", q, codes);
            const DeviceArray found = device_array("hamming_topk: keys", keys, 2, dlpack::kInt, 64);
            const DeviceArray space = device_array("hamming_topk: workspace", workspace, 1, dlpack::kUint, 8);
            DeviceArray bits;
            if (filter) {
                bits = device_array("hamming_topk: filter", *filter, 1, dlpack::kUint, 8);
                cuda::require_shape("hamming_topk: filter", bits, {(operands.codes.shape[0] + 7) / 8});
            }
            const cuda::Queries queries = operands.query_view();
            const cuda::Codes stored = operands.code_view(bits.data);
            const int64_t k = found.shape[1];
            cuda::require_shape("hamming_topk: keys", found, {queries.count, k});
            const cuda::DeviceGuard guard(
                "hamming_topk", {&operands.queries, &operands.codes, &found, &space, filter ? &bits : &found});
            const cuda::TopkPlan plan = plan_of(queries, stored, k);
            if (space.shape[0] < static_cast<int64_t>(plan.workspace) ||
                reinterpret_cast<uintptr_t>(space.data) % 256) {
                reject("hamming_topk: workspace must be ", plan.workspace, " bytes, 256-byte aligned");
            }
            if (queries.count == 0) return;
            cuda::nearest({queries, stored, k, found.as<cuda::Key>(), space.data}, plan, cuda::stream_of(stream));
        },
        py::arg("q"), py::arg("codes"), py::arg("filter"), py::arg("keys"), py::arg("workspace"), py::arg("stream"));
    module.def(
        "hamming_results",
        [](const py::capsule& keys, bool is_sorted, const py::capsule& distances, const py::capsule& rows,
           uintptr_t stream) {
            const DeviceArray found = device_array("hamming_topk: keys", keys, 2, dlpack::kInt, 64);
            const DeviceArray far = device_array("hamming_topk: distances", distances, 2, dlpack::kInt, 32);
            const DeviceArray places = device_array("hamming_topk: rows", rows, 2, dlpack::kInt, 64);
            const int64_t queries = found.shape[0], k = found.shape[1];
            cuda::require_shape("hamming_topk: distances", far, {queries, k});
            cuda::require_shape("hamming_topk: rows", places, {queries, k});
            if (!is_sorted && k > cuda::kMaxSorted) reject("hamming_topk: keys must be sorted, they are ", k);
            const cuda::DeviceGuard guard("hamming_topk", {&found, &far, &places});
            if (queries == 0 || k == 0) return;
            cuda::results({found.as<const cuda::Key>(), queries, k, is_sorted, far.as<int32_t>(), places.as<int64_t>()},
                          cuda::stream_of(stream));
        },
        py::arg("keys"), py::arg("is_sorted"), py::arg("distances"), py::arg("rows"), py::arg("stream"));
}

}  // namespace longspan
