// The plan carried out: which kernels a search needs, in which order. Everything here only puts work on the stream.
#include "hamming/cuda.h"

namespace longspan::cuda {
namespace {

// Queries [first, first + count) by samples: bounds first, then all rows.
void nearest_sampled(const Nearest& args, const TopkPlan& plan, int64_t first, int64_t count, Stream stream) {
    const SampledSpace space(plan.group, plan.capacity);
    auto* limits = reinterpret_cast<Key*>(args.workspace + space.limits);
    auto* counts = reinterpret_cast<uint32_t*>(args.workspace + space.counts);
    auto* candidates = reinterpret_cast<Key*>(args.workspace + space.candidates);
    const Queries queries{args.queries.row(first), args.queries.row_stride, count};
    select_whole({queries, args.codes, plan.steps[0], args.k, nullptr, limits}, stream);
    for (int level = 1; level < plan.num_levels; ++level) {
        const int64_t step = plan.steps[level];
        fill_bytes("hamming_topk", counts, 0, static_cast<size_t>(count) * sizeof(uint32_t), stream);
        find_candidates({queries, args.codes, step, limits, counts, candidates, plan.capacity}, stream);
        const bool is_last = level == plan.num_levels - 1;
        Key* keys = is_last ? args.keys + first * args.k : nullptr;
        shrink(
            {{queries, args.codes, step, args.k, keys, is_last ? nullptr : limits}, counts, candidates, plan.capacity},
            stream);
    }
}

}  // namespace

void nearest(const Nearest& args, const TopkPlan& plan, Stream stream) {
    if (plan.route == Route::whole) {
        select_whole({args.queries, args.codes, 1, args.k, args.keys, nullptr}, stream);
        return;
    }
    if (plan.route == Route::histogram) {
        for (int64_t query = 0; query < args.queries.count; ++query) {
            scan({args.queries.row(query), args.codes, args.k, args.keys + query * args.k, args.workspace, plan.blocks,
                  plan.rows_per_block},
                 stream);
        }
        return;
    }
    for (int64_t first = 0; first < args.queries.count; first += plan.group) {
        const int64_t left = args.queries.count - first;
        nearest_sampled(args, plan, first, left < plan.group ? left : plan.group, stream);
    }
}

}  // namespace longspan::cuda
