#include <algorithm>

#include "core/error.h"
#include "core/isa.h"
#include "core/parallel.h"
#include "layer_norm/layer_norm.h"

namespace longspan {
namespace {

constexpr Variant<LayerNormFn> kVariants[] = {
#if LONGSPAN_X86
    {Isa::avx512, avx512::layer_norm},
    {Isa::avx2, avx2::layer_norm},
#endif
#if LONGSPAN_ARM64
    {Isa::neon, neon::layer_norm},
#endif
    {Isa::portable, portable::layer_norm}};

// About 10 us of work: less is not worth waking a thread for.
constexpr int64_t kValuesPerTask = 32 * 1024;

template <class T>
void check_shape(const char* name, const HeadsView<T>& view, const HeadsView<const float>& x) {
    if (view.rows == x.rows && view.heads == x.heads && view.head_dim == x.head_dim) return;
    reject("layer_norm: ", name, " must have the shape of x, (", x.rows, ", ", x.heads, ", ", x.head_dim, "), got (",
           view.rows, ", ", view.heads, ", ", view.head_dim, ")");
}

void check(const LayerNormArgs& args) {
    const int64_t dim = args.x.head_dim;
    if (dim < 1) reject(args.is_centred ? "layer_norm" : "rms_norm", ": x must have at least one column, got 0");
    if (args.weight.size != dim) reject("layer_norm: weight must have ", dim, " values, got ", args.weight.size);
    if (args.bias && args.bias.size != dim) reject("layer_norm: bias must have ", dim, " values, got ", args.bias.size);
    if (args.residual.data != nullptr) check_shape("residual", args.residual, args.x);
    check_shape("out", args.out, args.x);
}

}  // namespace

void layer_norm(const LayerNormArgs& args) {
    check(args);
    const auto run = pick_variant(kVariants, active_isa()).run;
    const int64_t runs = args.x.rows * args.x.heads;
    const int64_t runs_per_task = std::max<int64_t>(1, kValuesPerTask / args.x.head_dim);
    parallel_for((runs + runs_per_task - 1) / runs_per_task,
                 [&](int64_t task) { run(args, task * runs_per_task, std::min(runs, (task + 1) * runs_per_task)); });
}

}  // namespace longspan
