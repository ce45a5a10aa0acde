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
    {Isa::portable, portable::layer_norm}};

// About 10 us of work: less is not worth waking a thread for.
constexpr int64_t kValuesPerTask = 32 * 1024;

void check(const LayerNormArgs& args) {
    const auto& x = args.x;
    if (x.cols < 1) reject("layer_norm: x must have at least one column, got 0");
    if (args.weight.size != x.cols) reject("layer_norm: weight must have ", x.cols, " values, got ", args.weight.size);
    if (args.bias && args.bias.size != x.cols) {
        reject("layer_norm: bias must have ", x.cols, " values, got ", args.bias.size);
    }
    if (args.residual.data != nullptr && (args.residual.rows != x.rows || args.residual.cols != x.cols)) {
        reject("layer_norm: residual must have the shape of x, (", x.rows, ", ", x.cols, "), got (", args.residual.rows,
               ", ", args.residual.cols, ")");
    }
    if (args.out.rows != x.rows || args.out.cols != x.cols) {
        reject("layer_norm: out must have the shape of x, (", x.rows, ", ", x.cols, "), got (", args.out.rows, ", ",
               args.out.cols, ")");
    }
}

}  // namespace

void layer_norm(const LayerNormArgs& args) {
    check(args);
    const auto run = pick_variant(kVariants, active_isa()).run;
    const int64_t rows = args.x.rows;
    const int64_t rows_per_task = std::max<int64_t>(1, kValuesPerTask / args.x.cols);
    parallel_for((rows + rows_per_task - 1) / rows_per_task,
                 [&](int64_t task) { run(args, task * rows_per_task, std::min(rows, (task + 1) * rows_per_task)); });
}

}  // namespace longspan
