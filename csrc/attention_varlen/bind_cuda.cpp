#include <optional>

#include "attention_varlen/cuda_sm90.h"
#include "core/bind_cuda.h"

namespace longspan {
namespace {

constexpr const char* kOp = "attention_varlen";

std::string named(const char* name) {
    return std::string(kOp) + ": " + name;
}

cuda::PackedRows packed(const DeviceArray& rows) {
    return {rows.data, rows.shape[0], rows.shape[1], rows.shape[2], rows.strides[0], rows.strides[1]};
}

DeviceArray vector_of(const char* name, const py::capsule& capsule, uint8_t code, uint8_t bits) {
    const DeviceArray array = device_array(named(name).c_str(), capsule, 1, code, bits);
    if (array.shape[0] > 1 && array.strides[0] != 1) reject(named(name), " must be contiguous");
    return array;
}

struct Operands {
    DeviceArray q, k, v, out, offsets_q, offsets_k, workspace;
    std::optional<DeviceArray> slopes, lse;
    int64_t num_sequences;

    Operands(const py::capsule& q, const py::capsule& k, const py::capsule& v, const py::capsule& offsets_q,
             const py::capsule& offsets_k, const std::optional<py::capsule>& slopes, const py::capsule& workspace,
             const py::capsule& out, const std::optional<py::capsule>& lse)
        : q(device_array("attention_varlen: q", q, 3)),
          k(device_array("attention_varlen: k", k, 3, this->q.code, this->q.bits)),
          v(device_array("attention_varlen: v", v, 3, this->q.code, this->q.bits)),
          out(device_array("attention_varlen: out", out, 3, this->q.code, this->q.bits)),
          offsets_q(vector_of("cu_seqlens_q", offsets_q, dlpack::kInt, 32)),
          offsets_k(vector_of("cu_seqlens_k", offsets_k, dlpack::kInt, 32)),
          workspace(vector_of("workspace", workspace, dlpack::kUint, 8)),
          num_sequences(this->offsets_q.shape[0] - 1) {
        if (slopes) this->slopes = vector_of("slopes", *slopes, dlpack::kFloat, 32);
        if (lse) this->lse = device_array("attention_varlen: lse", *lse, 2, dlpack::kFloat, 32);
        check_shapes();
    }

    void check_shapes() const {
        const int64_t total_q = q.shape[0], heads = q.shape[1], dim = q.shape[2], kv_heads = k.shape[1];
        if (cuda::float_of("attention_varlen: q", q) == cuda::Float::f32) {
            reject("attention_varlen: q must be float16 or bfloat16");
        }
        if (dim != 64 && dim != 128) reject("attention_varlen: head_dim must be 64 or 128, got ", dim);
        if (heads < 1 || kv_heads < 1 || heads % kv_heads != 0) {
            reject("attention_varlen: q's ", heads, " heads must be a multiple of k's, got ", kv_heads);
        }
        cuda::require_shape("attention_varlen: k", k, {k.shape[0], kv_heads, dim});
        cuda::require_shape("attention_varlen: v", v, k.shape);
        cuda::require_shape("attention_varlen: out", out, q.shape);
        if (num_sequences < 0) reject("attention_varlen: cu_seqlens_q must have one offset at least");
        cuda::require_shape("attention_varlen: cu_seqlens_k", offsets_k, {num_sequences + 1});
        if (slopes) cuda::require_shape("attention_varlen: slopes", *slopes, {heads});
        if (lse) cuda::require_shape("attention_varlen: lse", *lse, {heads, total_q});
        if (lse && heads > 1 && lse->row_stride != total_q) reject("attention_varlen: lse must be contiguous");
        const auto needed = static_cast<int64_t>(cuda::attention_workspace(total_q, num_sequences));
        if (workspace.shape[0] < needed || reinterpret_cast<uintptr_t>(workspace.data) % alignof(cuda::Tile) != 0) {
            reject("attention_varlen: workspace must have ", needed, " bytes at a multiple of 16, got ",
                   workspace.shape[0]);
        }
    }
};

}  // namespace

void bind_attention_varlen_cuda(py::module_& module) {
    module.def("attention_varlen_workspace", &cuda::attention_workspace, py::arg("total_q"), py::arg("num_sequences"));
    module.def(
        "attention_varlen",
        [](const py::capsule& q, const py::capsule& k, const py::capsule& v, const py::capsule& cu_seqlens_q,
           const py::capsule& cu_seqlens_k, const std::optional<py::capsule>& slopes, float softmax_scale, bool causal,
           const py::capsule& workspace, const py::capsule& out, const std::optional<py::capsule>& lse,
           uintptr_t stream) {
            const Operands all(q, k, v, cu_seqlens_q, cu_seqlens_k, slopes, workspace, out, lse);
            if (!(softmax_scale > 0)) reject("attention_varlen: softmax_scale must be above 0, got ", softmax_scale);
            const cuda::Attention args{packed(all.q),
                                       packed(all.k),
                                       packed(all.v),
                                       packed(all.out),
                                       cuda::float_of("attention_varlen: q", all.q),
                                       all.lse ? all.lse->as<float>() : nullptr,
                                       all.slopes ? all.slopes->as<const float>() : nullptr,
                                       all.offsets_q.as<const int32_t>(),
                                       all.offsets_k.as<const int32_t>(),
                                       all.num_sequences,
                                       softmax_scale,
                                       causal,
                                       all.workspace.data};
            const cuda::DeviceGuard guard(
                kOp, {&all.q, &all.k, &all.v, &all.out, &all.offsets_q, &all.offsets_k, &all.workspace,
                      all.slopes ? &*all.slopes : &all.q, all.lse ? &*all.lse : &all.q});
            cuda::attention_varlen(args, cuda::stream_of(stream));
        },
        py::arg("q"), py::arg("k"), py::arg("v"), py::arg("cu_seqlens_q"), py::arg("cu_seqlens_k"), py::arg("slopes"),
        py::arg("softmax_scale"), py::arg("causal"), py::arg("workspace"), py::arg("out"), py::arg("lse"),
        py::arg("stream"));
}

}  // namespace longspan
