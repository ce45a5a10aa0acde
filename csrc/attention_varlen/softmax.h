// The online softmax of a query tile: bias and mask, running maximum, exponentials, running sum; one lane per query.

namespace longspan::LONGSPAN_ISA {
namespace {

constexpr float kHidden = -std::numeric_limits<float>::infinity();  // the score of a pair that is masked
constexpr float kLowestTop = -std::numeric_limits<float>::max();    // stands for the maximum of no scores

inline F32 lane_numbers() {
    float lanes[F32::kLanes];
    for (int i = 0; i < F32::kLanes; ++i) lanes[i] = static_cast<float>(i);
    return F32::load(lanes);
}

// What is added to the scores of one tile and one run of keys.
struct Bias {
    float scale;          // softmax_scale
    int64_t distance;     // i - j for the tile's first query and the run's first key
    float slope;          // ALiBi
    const float* strip;   // strip[x] = table bias of distance i - j = distance - (keys - 1) + x
    int64_t last_key;     // keys - 1
    int64_t left, right;  // visible: -right <= i - j <= left
    // Of whole numbers, a scale in place of `scale` for each query, and what each gains beside; (vectors * lanes,).
    const float *scales, *shifts;
};

// Products to scores without their bias.
template <class Kind, int kVectors>
class Scaling {
    static constexpr int kScales = Kind::kIsWhole ? kVectors : 1;

public:
    explicit Scaling(const Bias& bias) {
        if constexpr (Kind::kIsWhole) {
            for (int i = 0; i < kVectors; ++i) {
                scale_[i] = F32::load(bias.scales + i * F32::kLanes);
                shift_[i] = F32::load(bias.shifts + i * F32::kLanes);
            }
        } else {
            scale_[0] = F32::all(bias.scale);
        }
    }

    F32 operator()(F32 product, int i) const {
        if constexpr (Kind::kIsWhole) return fma(product, scale_[i], shift_[i]);
        return product * scale_[0];
    }

    F32 scale(int i) const { return scale_[Kind::kIsWhole ? i : 0]; }
    F32 shift(int i) const { return Kind::kIsWhole ? shift_[Kind::kIsWhole ? i : 0] : F32::zero(); }

private:
    F32 scale_[kScales], shift_[kScales];
};

// products -> scores in place: times scale, plus bias, kHidden where the key is not visible. Raises top to the largest.
// Distances are floats: exact up to 2^24.
template <class Kind, int kVectors, bool kAlibi, bool kTable, bool kMasked>
inline void add_bias(float* products, int64_t keys, const Bias& bias, F32 (&top)[kVectors]) {
    const Scaling<Kind, kVectors> scaled(bias);
    const F32 negative_slope = F32::all(-bias.slope);
    const F32 left = F32::all(static_cast<float>(bias.left)), right = F32::all(static_cast<float>(-bias.right));
    const F32 hidden = F32::all(kHidden), one = F32::all(1.0f);
    F32 distance[kVectors];  // i - j
    for (int i = 0; i < kVectors; ++i) {
        distance[i] = F32::all(static_cast<float>(bias.distance + i * F32::kLanes)) + lane_numbers();
    }
    for (int64_t key = 0; key < keys; ++key) {
        for (int i = 0; i < kVectors; ++i) {
            float* place = products + (key * kVectors + i) * F32::kLanes;
            F32 score = scaled(F32::load(place), i);
            if constexpr (kAlibi) score = fma(negative_slope, abs(distance[i]), score);
            if constexpr (kTable) score = score + F32::load(bias.strip + (bias.last_key - key + i * F32::kLanes));
            if constexpr (kMasked) {
                score = select_less(left, distance[i], hidden, score);
                score = select_less(distance[i], right, hidden, score);
            }
            score.store(place);
            top[i] = max(top[i], score);
            distance[i] = distance[i] - one;
        }
    }
}

// Raises top to the largest score, where no bias is added; scales are above 0.
template <class Kind, int kVectors>
inline void find_top(const float* products, int64_t keys, const Scaling<Kind, kVectors>& scaled, F32 (&top)[kVectors]) {
    F32 largest[kVectors];
    for (F32& x : largest) x = F32::all(kHidden);
    for (int64_t key = 0; key < keys; ++key) {
        for (int i = 0; i < kVectors; ++i) {
            largest[i] = max(largest[i], F32::load(products + (key * kVectors + i) * F32::kLanes));
        }
    }
    for (int i = 0; i < kVectors; ++i) top[i] = max(top[i], scaled(largest[i], i));
}

// The weight of a score, relative to the largest, which gives 0 exactly: product and difference are not fused, or what
// is left of the product's rounding would count, and where scores are huge that is no small number.
template <class Kind, int kVectors, bool kScaled>
inline F32 weigh_score(const float* place, const Scaling<Kind, kVectors>& scaled, int i, F32 top) {
    const F32 score = F32::load(place);
    return Kind::weight((kScaled ? scaled(score, i) : score) - top);
}

// scores -> weights in place, or where tiles go together into `weights`, their common matrix; added up in total;
// kScaled: scores want their scale yet. The sum is made of short sums, which round less.
template <class Kind, int kVectors, bool kScaled>
inline void exponentiate(float* scores, int64_t keys, const Scaling<Kind, kVectors>& scaled, const F32 (&top)[kVectors],
                         F32 (&total)[kVectors], [[maybe_unused]] float* weights) {
    constexpr int64_t kShortSum = 16;
    for (int64_t key = 0; key < keys;) {
        const int64_t end = key + kShortSum < keys ? key + kShortSum : keys;
        F32 part[kVectors];
        for (F32& x : part) x = F32::zero();
        for (; key < end; ++key) {
            for (int i = 0; i < kVectors; ++i) {
                float* place = scores + (key * kVectors + i) * F32::kLanes;
                const F32 weight = weigh_score<Kind, kVectors, kScaled>(place, scaled, i, top[i]);
                if constexpr (Kind::kTogether > 1) {
                    Kind::store_weight(weight, weights, key, i);
                } else {
                    weight.store(place);
                }
                part[i] = part[i] + weight;
            }
        }
        for (int i = 0; i < kVectors; ++i) total[i] = total[i] + part[i];
    }
}

// The same where a unit is two weights: scores (keys, lanes) become units (half of keys, lanes), the last one filled up
// with a weight of 0. The sum is that of the weights as the second product takes them.
template <class Kind, int kVectors, bool kScaled>
inline void exponentiate_pairs(float* scores, int64_t keys, const Scaling<Kind, kVectors>& scaled,
                               const F32 (&top)[kVectors], F32 (&total)[kVectors]) {
    const F32 ones = Kind::join(F32::all(1.0f), F32::all(1.0f));
    if (keys % 2 != 0) {
        for (int i = 0; i < kVectors; ++i) F32::all(kHidden).store(scores + (keys * kVectors + i) * F32::kLanes);
    }
    for (int64_t key = 0; key < keys; key += 2) {
        for (int i = 0; i < kVectors; ++i) {
            const auto weight = [&](int64_t row) {
                return weigh_score<Kind, kVectors, kScaled>(scores + (row * kVectors + i) * F32::kLanes, scaled, i,
                                                            top[i]);
            };
            const F32 unit = Kind::join(weight(key), weight(key + 1));
            unit.store(scores + (key / 2 * kVectors + i) * F32::kLanes);
            total[i] = Kind::multiply_add(unit, ones, total[i]);
        }
    }
}

// What a run of keys leaves behind: the new maximum, what earlier weights shrink by for it, and the sum of all.
template <class Kind, int kVectors>
[[gnu::always_inline]] inline void raise_top(const F32 (&new_top)[kVectors], const F32 (&finite_top)[kVectors],
                                             const F32 (&total)[kVectors], float* top, float* sum, float* shrink) {
    for (int i = 0; i < kVectors; ++i) {
        const int64_t lane = i * F32::kLanes;
        const F32 factor = exp((F32::load(top + lane) - finite_top[i]) * F32::all(1.0f / Kind::kLogUnit));
        new_top[i].store(top + lane);
        factor.store(shrink + lane);
        fma(F32::load(sum + lane), factor, total[i]).store(sum + lane);
    }
}

// Turns a run of keys' products <q, k> into weights. Updates top and sum (kVectors * lanes each); shrink is what
// earlier weights, relative to the old top, must be multiplied by. `weights`: as exponentiate().
template <class Kind, int kVectors, bool kAlibi, bool kTable, bool kMasked>
void weigh_kind(float* products, int64_t keys, const Bias& bias, float* top, float* sum, float* shrink,
                float* weights) {
    constexpr bool kPlain = !kAlibi && !kTable && !kMasked;
    const Scaling<Kind, kVectors> scaled(bias);
    F32 new_top[kVectors], finite_top[kVectors], total[kVectors];
    for (int i = 0; i < kVectors; ++i) new_top[i] = F32::load(top + i * F32::kLanes);
    if constexpr (kPlain) {
        find_top(products, keys, scaled, new_top);
    } else {
        add_bias<Kind, kVectors, kAlibi, kTable, kMasked>(products, keys, bias, new_top);
    }
    for (int i = 0; i < kVectors; ++i) {
        // A query that has seen no key yet has no maximum: its weights must come out as 0, not as exp(inf - inf).
        finite_top[i] = max(F32::all(kLowestTop), new_top[i]);
        total[i] = F32::zero();
    }
    if constexpr (Kind::kPerUnit == 1) {
        exponentiate<Kind, kVectors, kPlain>(products, keys, scaled, finite_top, total, weights);
    } else {
        exponentiate_pairs<Kind, kVectors, kPlain>(products, keys, scaled, finite_top, total);
    }
    raise_top<Kind>(new_top, finite_top, total, top, sum, shrink);
}

// The same for ALiBi alone, where a run of keys lies wholly before the tile's queries or wholly behind them (`side` 1
// or -1): -slope * |i - j| is a term of the key plus one of the query, so that a score costs one multiply-add, and the
// query's term joins the maximum. Keys and distances count from the run's first key.
template <class Kind, int kVectors>
void weigh_one_side(float* products, int64_t keys, const Bias& bias, float side, float* top, float* sum, float* shrink,
                    float* weights) {
    const Scaling<Kind, kVectors> scaled(bias);
    const float slope = side * bias.slope;
    F32 largest[kVectors], total[kVectors];
    for (F32& x : largest) x = F32::all(kHidden);
    for (int64_t key = 0; key < keys; ++key) {
        const F32 term = F32::all(slope * static_cast<float>(key));
        for (int i = 0; i < kVectors; ++i) {
            float* place = products + (key * kVectors + i) * F32::kLanes;
            const F32 score = fma(F32::load(place), scaled.scale(i), term);
            score.store(place);
            largest[i] = max(largest[i], score);
        }
    }
    F32 new_top[kVectors], finite_top[kVectors], shifted_top[kVectors];
    for (int i = 0; i < kVectors; ++i) {
        const F32 distance = F32::all(static_cast<float>(bias.distance + i * F32::kLanes)) + lane_numbers();
        F32 shift = F32::all(-slope) * distance;
        if constexpr (Kind::kIsWhole) shift = shift + scaled.shift(i);
        new_top[i] = max(F32::load(top + i * F32::kLanes), largest[i] + shift);
        finite_top[i] = max(F32::all(kLowestTop), new_top[i]);
        shifted_top[i] = finite_top[i] - shift;
        total[i] = F32::zero();
    }
    exponentiate<Kind, kVectors, false>(products, keys, scaled, shifted_top, total, weights);
    raise_top<Kind>(new_top, finite_top, total, top, sum, shrink);
}

template <class Kind, int kVectors>
void weigh(float* products, int64_t keys, const Bias& bias, bool is_masked, float* top, float* sum, float* shrink,
           float* weights = nullptr) {
    const auto run = [&]<bool kAlibi, bool kTable>() {
        if (is_masked) {
            weigh_kind<Kind, kVectors, kAlibi, kTable, true>(products, keys, bias, top, sum, shrink, weights);
        } else {
            weigh_kind<Kind, kVectors, kAlibi, kTable, false>(products, keys, bias, top, sum, shrink, weights);
        }
    };
    const bool has_slope = bias.slope != 0.0f, has_table = bias.strip != nullptr;
    if constexpr (kCountsInLog2 && Kind::kPerUnit == 1) {
        const bool is_before = bias.distance >= bias.last_key;
        const bool is_behind = bias.distance + kVectors * F32::kLanes <= 1;
        if (has_slope && !has_table && !is_masked && (is_before || is_behind)) {
            const float side = is_before ? 1.0f : -1.0f;
            return weigh_one_side<Kind, kVectors>(products, keys, bias, side, top, sum, shrink, weights);
        }
    }
    if (has_slope && has_table) return run.template operator()<true, true>();
    if (has_slope) return run.template operator()<true, false>();
    if (has_table) return run.template operator()<false, true>();
    return run.template operator()<false, false>();
}

}  // namespace
}  // namespace longspan::LONGSPAN_ISA
