// The weights of a tile's queries for a run of keys: scores, their bias and mask, the softmax.

namespace longspan::LONGSPAN_ISA {
namespace {

// What a tile sees of a run of keys; if nothing, an empty run.
template <class Kind>
KeyRun seen_by(const Tile& tile, const KeyRun& run) {
    const int64_t first = most(run.first, tile.first_key), last = least(run.last, tile.last_key);
    return {first,
            last,
            run.keys + (first - run.first) * run.key_stride,
            run.values + (first - run.first) / Kind::kPerUnit * run.value_stride,
            run.mean,
            run.key_stride,
            run.value_stride};
}

template <class Kind>
Bias bias_of(const PartPlan<Kind>& plan, const PartScratch<Kind>& scratch, const Tile& tile, const KeyRun& run) {
    const AttentionArgs& args = plan.args;
    Bias bias{};
    bias.scale = args.scale * Kind::kLogUnit;
    bias.distance = tile.position - run.first;
    bias.slope = args.slopes ? args.slopes.data[tile.head] * Kind::kLogUnit : 0.0f;
    bias.last_key = run.last - run.first - 1;
    bias.left = args.left;
    bias.right = args.right;
    bias.scales = tile.scales;
    bias.shifts = scratch.shifts;
    if (args.bias_table.data != nullptr) {
        const float* table = args.bias_table.row(tile.head);
        const int64_t reach = args.bias_table.cols / 2;
        const int64_t nearest = bias.distance - bias.last_key;
        const int64_t size = bias.last_key + tile.vectors() * F32::kLanes;
        for (int64_t x = 0; x < size; ++x) {
            scratch.strip[x] = table[reach - most(-reach, least(reach, nearest + x))] * Kind::kLogUnit;
        }
        bias.strip = scratch.strip;
    }
    return bias;
}

// What whole numbers leave to floats: scores of the mean of a block's keys.
template <class Kind, int kVectors>
void score_mean(const PartPlan<Kind>& plan, const Tile& tile, const float* mean, float* shifts) {
    const F32 scale = F32::all(plan.args.scale * Kind::kLogUnit);
    score_rows<Floats, 1, kVectors>(tile.floats, mean, 0, plan.dim, shifts);
    for (int64_t lane = 0; lane < kVectors * F32::kLanes; lane += F32::kLanes) {
        (F32::load(shifts + lane) * scale).store(shifts + lane);
    }
}

// Weights of the keys, in scratch.scores or `weights` (exponentiate), and what sums so far shrink by.
template <class Kind, int kVectors>
void weigh_keys(const PartPlan<Kind>& plan, const PartScratch<Kind>& scratch, const Tile& tile, const KeyRun& run,
                float* shrink, float* weights) {
    const int64_t keys = run.last - run.first, last_position = tile.position + tile.num_rows - 1;
    const bool is_masked = run.last - 1 > tile.position + plan.args.right || run.first < last_position - plan.args.left;
    const Bias bias = bias_of(plan, scratch, tile, run);
    if constexpr (Kind::kIsWhole) score_mean<Kind, kVectors>(plan, tile, run.mean, scratch.shifts);
    score_keys<Kind, kVectors>(tile.queries, run.keys, run.key_stride, keys, plan.units, scratch.scores);
    if (tile.is_bounded) {
        if constexpr (kHasBounds<Kind>) weigh_bounded<Kind, kVectors>(scratch.scores, keys, bias, tile.sum);
        for (int64_t i = 0; i < kVectors * F32::kLanes; ++i) shrink[i] = 1.0f;
    } else {
        weigh<Kind, kVectors>(scratch.scores, keys, bias, is_masked, tile.top, tile.sum, shrink, weights);
    }
}

}  // namespace
}  // namespace longspan::LONGSPAN_ISA
