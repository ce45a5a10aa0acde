// The compiled module: process-wide settings, then one line per op. Each op's binding lies in its own folder.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include "core/isa.h"
#include "core/parallel.h"

namespace longspan {

void bind_attention_varlen(pybind11::module_& module);
void bind_binarize(pybind11::module_& module);
void bind_embed(pybind11::module_& module);
void bind_hamming(pybind11::module_& module);
void bind_layer_norm(pybind11::module_& module);
void bind_linear(pybind11::module_& module);
void bind_maxsim(pybind11::module_& module);
void bind_pool_mean(pybind11::module_& module);
void bind_postings(pybind11::module_& module);
void bind_rescore(pybind11::module_& module);
void bind_retrofit_step(pybind11::module_& module);
void bind_row_chain(pybind11::module_& module);
void bind_span_mean(pybind11::module_& module);

}  // namespace longspan

// Free-threaded CPython may run this without a lock of its own: what calls share is immutable, atomic, a thread's own,
// or behind the thread pool's mutexes.
PYBIND11_MODULE(_core, module, pybind11::mod_gil_not_used()) {
    using namespace longspan;
    module.doc() = "longspan's compiled kernels. Call them through longspan.ops, which checks what they are given.";
    module.def("isa", [] { return std::string(name_of(active_isa())); });
    module.def("available_isas", [] {
        std::vector<std::string> names;
        for (const Isa isa : available_isas()) names.emplace_back(name_of(isa));
        return names;
    });
    module.def("set_isa", [](const std::string& name) { set_isa(name); }, pybind11::arg("name"));
    module.def("num_threads", &num_threads);
    module.def("set_num_threads", &set_num_threads, pybind11::arg("limit"));

    bind_attention_varlen(module);
    bind_binarize(module);
    bind_embed(module);
    bind_hamming(module);
    bind_layer_norm(module);
    bind_linear(module);
    bind_maxsim(module);
    bind_pool_mean(module);
    bind_postings(module);
    bind_rescore(module);
    bind_retrofit_step(module);
    bind_row_chain(module);
    bind_span_mean(module);
}
