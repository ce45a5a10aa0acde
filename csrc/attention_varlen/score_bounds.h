// What the norms of rows say of scores, before any is made: how far a query reaches beside ALiBi's slope, and whether
// its softmax needs a maximum.

namespace longspan::LONGSPAN_ISA {
namespace {

// Sequences with fewer keys are not worth asking.
constexpr int64_t kKeysWorthNorms = 256;

// The largest norm of `count` rows of one head; NaN or infinite if a value is.
template <class Kind>
float largest_norm(const HeadsView<const float>& view, int64_t first, int64_t count, int64_t head) {
    float largest = 0.0f;
    for (int64_t row = first; row < first + count; ++row) {
        const float* values = view.at(row, head);
        F32 squares = F32::zero();
        for (int64_t d = 0; d < view.head_dim; d += F32::kLanes) {
            const F32 x = F32::load_first(values + d, least(F32::kLanes, view.head_dim - d));
            if constexpr (Kind::kIsPlain) squares = Kind::multiply_add(x, x, squares);  // in its units
            if constexpr (!Kind::kIsPlain) squares = fma(x, x, squares);
        }
        const float square = sum(squares);
        largest = square > largest || square != square ? square : largest;
    }
    return max_lane(sqrt(F32::all(largest)));
}

// By how much RoPE may lengthen a key: tables need not be of angles alone. At least 1; NaN if a value is.
inline float largest_turn(const AttentionArgs& args, int64_t table_start, int64_t num_keys) {
    F32 largest = F32::all(1.0f), poison = F32::zero();
    for (int64_t row = table_start; row < table_start + num_keys; ++row) {
        for (int64_t p = 0; p < args.cos.cols; p += F32::kLanes) {
            const int64_t count = least(F32::kLanes, args.cos.cols - p);
            const F32 c = F32::load_first(args.cos.row(row) + p, count);
            const F32 s = F32::load_first(args.sin.row(row) + p, count);
            const F32 square = fma(c, c, s * s);
            largest = max(square, largest);
            poison = fma(square, F32::zero(), poison);
        }
    }
    return max_lane(sqrt(largest)) + sum(poison);
}

template <class Kind>
class ScoreBounds {
public:
    explicit ScoreBounds(const PartPlan<Kind>& plan) : plan_(plan) {
        const AttentionArgs& args = plan.args;
        const bool asks = args.bias_table.data == nullptr && plan.num_keys > kKeysWorthNorms;
        has_reach_ = asks && args.slopes && args.cos.data == nullptr;
        has_bounds_ = asks && kHasBounds<Kind> && plan.sees_all();
        if (has_reach_ || has_bounds_) {
            largest_key_ = largest_norm<Kind>(args.k, plan.k_start, plan.num_keys, plan.part.kv_head);
        }
        if (has_bounds_ && args.cos.data != nullptr)
            largest_turn_ = largest_turn(args, plan.table_start, plan.num_keys);
    }

    // How far from a query keys may stand to weigh anything beside ALiBi's slope. With |<q, k>| * scale <= bound, a key
    // at distance d scores at most bound - slope * d, the query's own key at least -bound; where the difference is
    // below -87.3 the weight is 0. So blocks of keys beyond are left out, and no bit of the result changes. The bound
    // is the product of the largest norms of the tile's queries and of the sequence's keys; not finite: no limit.
    int64_t reach_of(const Tile& tile) const {
        constexpr float kNothing = 90.0f;
        const float rounding = Kind::kIsWhole ? whole_rounding(plan_.dim) : 1.02f;  // of bf16 too
        const float slope = has_reach_ ? plan_.args.slopes.data[tile.head] : 0.0f;
        if (!(slope > 0.0f) || tile.position < 0) return plan_.num_keys;
        const float query = largest_norm<Kind>(plan_.args.q, plan_.q_start + tile.first_row, tile.num_rows, tile.head);
        const float bound = rounding * query * largest_key_ * positive_scale();
        const float reach = (kNothing + 2.0f * bound) / slope;
        return reach < static_cast<float>(plan_.num_keys) ? static_cast<int64_t>(reach) + 1 : plan_.num_keys;
    }

    // Whether the scores of a tile whose queries are loaded are within bounds (bounded.h).
    bool is_bounded(const Tile& tile) const {
        if (!has_bounds_ || (plan_.args.slopes && !(plan_.args.slopes.data[tile.head] >= 0.0f))) return false;
        constexpr float kRounding = Kind::kIsPlain ? 1.001f : 1.02f;
        const float norm_to_bound = kRounding * largest_key_ * largest_turn_ * positive_scale() * Kind::kLogUnit;
        return are_bounded(tile.queries, plan_.units, tile.vectors() * F32::kLanes, norm_to_bound);
    }

private:
    float positive_scale() const { return plan_.args.scale < 0.0f ? -plan_.args.scale : plan_.args.scale; }

    const PartPlan<Kind>& plan_;
    bool has_reach_, has_bounds_;
    float largest_key_ = 0.0f, largest_turn_ = 1.0f;
};

}  // namespace
}  // namespace longspan::LONGSPAN_ISA
