// The second compiled module, longspan/_cuda: the GPU's CUDA kernels, one line per op. Each op's binding lies in its
// own folder. It links neither torch nor a shared CUDA runtime, and can be imported on a machine without a GPU.
#include <pybind11/pybind11.h>

namespace longspan {

void bind_attention_varlen_cuda(pybind11::module_& module);
void bind_binarize_cuda(pybind11::module_& module);
void bind_hamming_cuda(pybind11::module_& module);
void bind_span_mean_cuda(pybind11::module_& module);

}  // namespace longspan

PYBIND11_MODULE(_cuda, module) {
    using namespace longspan;
    module.doc() = "longspan's CUDA kernels. Call them through longspan.ops, which checks what they are given.";
#if LONGSPAN_SM90A  // the one kernel of an architecture's own; a build without it lacks the function
    bind_attention_varlen_cuda(module);
#endif
    bind_binarize_cuda(module);
    bind_hamming_cuda(module);
    bind_span_mean_cuda(module);
}
