#include <algorithm>
#include <atomic>
#include <cmath>

#include "binarize/binarize.h"
#include "core/error.h"
#include "core/isa.h"
#include "core/parallel.h"

namespace longspan {
namespace {

constexpr Variant<BinarizeFn> kVariants[] = {
#if LONGSPAN_X86
    {Isa::avx512, avx512::binarize},
    {Isa::avx2, avx2::binarize},
#endif
#if LONGSPAN_ARM64
    {Isa::neon, neon::binarize},
#endif
    {Isa::portable, portable::binarize}};

// About 10 us of work: less is not worth waking a thread for.
constexpr int64_t kValuesPerTask = 64 * 1024;

void check(const BinarizeArgs& args) {
    const auto& [x, thresholds, codes] = args;
    if (x.cols < 1) reject("binarize: x must have at least one column, got 0");
    if (thresholds && thresholds.size != x.cols) {
        reject("binarize: thresholds must have ", x.cols, " values, got ", thresholds.size);
    }
    if (codes.rows != x.rows || codes.cols != (x.cols + 7) / 8) {
        reject("binarize: codes must be (", x.rows, ", ", (x.cols + 7) / 8, "), got (", codes.rows, ", ", codes.cols,
               ")");
    }
    for (int64_t i = 0; i < thresholds.size; ++i) {
        if (std::isnan(thresholds.data[i])) reject("binarize: thresholds must not hold NaN, got one at ", i);
    }
}

[[noreturn]] void reject_nan(const MatrixView<const float>& x) {
    int64_t i = 0;
    while (!std::isnan(x.row(i / x.cols)[i % x.cols])) ++i;
    reject("binarize: x must not hold NaN, got one at [", i / x.cols, ", ", i % x.cols, "]");
}

}  // namespace

void binarize(const BinarizeArgs& args) {
    check(args);
    const auto run = pick_variant(kVariants, active_isa()).run;
    const int64_t rows = args.x.rows;
    const int64_t rows_per_task = std::max<int64_t>(1, kValuesPerTask / args.x.cols);
    std::atomic<bool> has_nan{false};
    parallel_for((rows + rows_per_task - 1) / rows_per_task, [&](int64_t task) {
        if (run(args, task * rows_per_task, std::min(rows, (task + 1) * rows_per_task))) has_nan.store(true);
    });
    if (has_nan.load()) reject_nan(args.x);
}

}  // namespace longspan
