#include <algorithm>

#include "core/error.h"
#include "core/isa.h"
#include "core/parallel.h"
#include "pool_mean/pool_mean.h"

namespace longspan {
namespace {

constexpr Variant<PoolMeanFn> kVariants[] = {
#if LONGSPAN_X86
    {Isa::avx512, avx512::pool_mean},
    {Isa::avx2, avx2::pool_mean},
#endif
#if LONGSPAN_ARM64
    {Isa::neon, neon::pool_mean},
#endif
    {Isa::portable, portable::pool_mean}};

constexpr int64_t kColumnsPerTask = 128;  // whole cache lines, so that no two tasks write one

void check(const PoolMeanArgs& args) {
    const auto& offsets = args.cu_seqlens;
    if (offsets.size < 1 || offsets.data[0] != 0 || offsets.data[offsets.size - 1] != args.hidden.rows) {
        reject("pool_mean: cu_seqlens must go from 0 to ", args.hidden.rows);
    }
    for (int64_t i = 1; i < offsets.size; ++i) {
        if (offsets.data[i] < offsets.data[i - 1]) reject("pool_mean: cu_seqlens must not fall, it does at ", i);
    }
    if (args.out.rows != offsets.size - 1 || args.out.cols != args.hidden.cols) {
        reject("pool_mean: out must be (", offsets.size - 1, ", ", args.hidden.cols, "), got (", args.out.rows, ", ",
               args.out.cols, ")");
    }
}

}  // namespace

void pool_mean(const PoolMeanArgs& args) {
    check(args);
    const auto run = pick_variant(kVariants, active_isa()).run;
    const int64_t dim = args.hidden.cols;
    const int64_t slices = (dim + kColumnsPerTask - 1) / kColumnsPerTask;
    parallel_for(args.out.rows * slices, [&](int64_t task) {
        const int64_t first = task % slices * kColumnsPerTask;
        run(args, task / slices, first, std::min(dim, first + kColumnsPerTask));
    });
}

}  // namespace longspan
