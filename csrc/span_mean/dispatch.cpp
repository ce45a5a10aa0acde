#include <algorithm>

#include "core/error.h"
#include "core/isa.h"
#include "core/parallel.h"
#include "span_mean/span_mean.h"

namespace longspan {
namespace {

struct Kernels {
    SpanMeanFn* mean;
    UnitLengthFn* unit_length;
};

struct KernelVariant {
    Isa isa;
    Kernels run;
};

constexpr KernelVariant kVariants[] = {
#if LONGSPAN_X86
    {Isa::avx512, {avx512::span_mean, avx512::unit_length}},
    {Isa::avx2, {avx2::span_mean, avx2::unit_length}},
#endif
#if LONGSPAN_ARM64
    {Isa::neon, {neon::span_mean, neon::unit_length}},
#endif
    {Isa::portable, {portable::span_mean, portable::unit_length}}};

constexpr int64_t kColumnsPerSlice = 256;  // whole tiles of every instruction set
constexpr int64_t kSpansPerThread = 4;     // with fewer, columns are dealt out as well, so that no thread waits long

void check(const SpanMeanArgs& args) {
    if (args.spans.cols != 2)
        reject("span_mean: spans must be (num_spans, 2), got (", args.spans.rows, ", ", args.spans.cols, ")");
    for (int64_t i = 0; i < args.spans.rows; ++i) {
        const int32_t start = args.spans.row(i)[0], end = args.spans.row(i)[1];
        if (start < 0 || end > args.hidden.rows || start >= end) {
            reject("span_mean: spans[", i, "] is (", start, ", ", end, "); it must hold a row and lie in 0 .. ",
                   args.hidden.rows);
        }
    }
    if (args.out.rows != args.spans.rows || args.out.cols > args.hidden.cols) {
        reject("span_mean: out must be (", args.spans.rows, ", ", args.hidden.cols, " at most), got (", args.out.rows,
               ", ", args.out.cols, ")");
    }
}

}  // namespace

void span_mean(const SpanMeanArgs& args) {
    check(args);
    const Kernels run = pick_variant(kVariants, active_isa()).run;
    const int64_t spans = args.spans.rows, dim = args.out.cols;
    if (spans >= kSpansPerThread * num_threads()) {
        parallel_for(spans, [&](int64_t span) {
            run.mean(args, span, 0, dim);
            if (args.normalize) run.unit_length(args, span);
        });
        return;
    }
    const int64_t slices = (dim + kColumnsPerSlice - 1) / kColumnsPerSlice;
    parallel_for(spans * slices, [&](int64_t task) {
        const int64_t first = task % slices * kColumnsPerSlice;
        run.mean(args, task / slices, first, std::min(dim, first + kColumnsPerSlice));
    });
    if (args.normalize) {
        for (int64_t span = 0; span < spans; ++span) run.unit_length(args, span);
    }
}

}  // namespace longspan
