// The softmax of a query tile without a running maximum, for instruction sets whose weights are powers of 2 (kinds.h).
// |<q, k>| * scale is at most |q| times the norm of the sequence's longest key. Where that bound is small, weights are
// 2^score as it is, which neither overflows nor vanishes: no score is looked at before its weight is made, and no
// earlier sum shrinks.

namespace longspan::LONGSPAN_ISA {
namespace {

template <class Kind>
constexpr bool kHasBounds = kCountsInLog2 && Kind::kPerUnit == 1 && !Kind::kIsWhole;

// Scores are within +-kMostBound: sums of values have room on both sides.
constexpr float kMostBound = 60.0f;
// The least score that ALiBi may leave: nothing beside a weight of 2^-60, and far enough above f32's smallest numbers
// for products with values, which would be slow there. And how far ALiBi may take a score down without asking for it.
constexpr float kLowestScore = -100.0f, kNearBias = -kLowestScore - kMostBound - 1.0f;

// Where a run of keys lies for ALiBi: all of it before (or all behind) the tile's queries, or around them.
enum class Alibi { none, one_side, both_sides };

// products -> weights in place, added up in sum (kVectors * lanes). kIsFar: ALiBi takes more than kNearBias off.
template <class Kind, int kVectors, Alibi kAlibi, bool kIsFar>
void weigh_bounded_side(float* products, int64_t keys, const Bias& bias, float side, float* sum) {
    using Lanes = typename Kind::Lanes;
    constexpr int64_t kShortSum = 16;  // as exponentiate()
    const Lanes scale = Lanes::all(bias.scale), slope = Lanes::all(side * bias.slope), one = Lanes::all(1.0f);
    const Lanes falling = Lanes::all(-bias.slope);
    const Lanes lowest = Lanes::all(kLowestScore);
    Lanes distance[kVectors], shift[kVectors], total[kVectors];
    for (int i = 0; i < kVectors; ++i) {
        distance[i] = Lanes::all(static_cast<float>(bias.distance + i * Lanes::kLanes)) + lane_numbers();
        shift[i] = Lanes::zero() - slope * distance[i];
        total[i] = Lanes::zero();
    }
    Lanes number = Lanes::zero();  // of the key
    for (int64_t key = 0; key < keys;) {
        const int64_t end = key + kShortSum < keys ? key + kShortSum : keys;
        Lanes part[kVectors];
        for (Lanes& x : part) x = Lanes::zero();
        for (; key < end; ++key) {
            const Lanes term = slope * number;
            for (int i = 0; i < kVectors; ++i) {
                float* place = products + (key * kVectors + i) * Lanes::kLanes;
                Lanes score = Lanes::load(place);
                if constexpr (kAlibi == Alibi::none) score = score * scale;
                if constexpr (kAlibi == Alibi::one_side) score = fma(score, scale, term) + shift[i];
                if constexpr (kAlibi == Alibi::both_sides) {
                    score = fma(falling, abs(distance[i]), score * scale);
                    distance[i] = distance[i] - one;
                }
                if constexpr (kIsFar) score = max(lowest, score);
                const Lanes weight = Kind::as_multiplied(normal_power_of_2(score));
                weight.store(place);
                part[i] = part[i] + weight;
            }
            if constexpr (kAlibi == Alibi::one_side) number = number + one;
        }
        for (int i = 0; i < kVectors; ++i) total[i] = total[i] + part[i];
    }
    for (int i = 0; i < kVectors; ++i) {
        (Lanes::load(sum + i * Lanes::kLanes) + total[i]).store(sum + i * Lanes::kLanes);
    }
}

template <class Kind, int kVectors>
void weigh_bounded(float* products, int64_t keys, const Bias& bias, float* sum) {
    if (bias.slope == 0.0f) {
        return weigh_bounded_side<Kind, kVectors, Alibi::none, false>(products, keys, bias, 0.0f, sum);
    }
    const int64_t least = bias.distance - bias.last_key, most = bias.distance + kVectors * F32::kLanes - 1;
    const bool is_before = least >= 0, is_behind = most <= 0;
    const float farthest = static_cast<float>(most > -least ? most : -least);
    const bool is_far = bias.slope * farthest > kNearBias;
    const float side = is_before ? 1.0f : -1.0f;
    const auto run = [&]<Alibi kAlibi>() {
        const auto weigh = is_far ? weigh_bounded_side<Kind, kVectors, kAlibi, true>
                                  : weigh_bounded_side<Kind, kVectors, kAlibi, false>;
        weigh(products, keys, bias, side, sum);
    };
    if (is_before || is_behind) return run.template operator()<Alibi::one_side>();
    run.template operator()<Alibi::both_sides>();
}

// Whether all scores of a tile's queries, (units, stride), are within kMostBound, given what the norm of a query is to
// be multiplied by for the bound of its scores; one that is not a number is not.
inline bool are_bounded(const float* queries, int64_t units, int64_t stride, float norm_to_bound) {
    for (int64_t lane = 0; lane < stride; lane += F32::kLanes) {
        F32 squares = F32::zero();
        for (int64_t unit = 0; unit < units; ++unit) {
            const F32 x = F32::load(queries + unit * stride + lane);
            squares = fma(x, x, squares);
        }
        const F32 bound = sqrt(squares) * F32::all(norm_to_bound);
        // max_lane() passes over a NaN; the sum does not.
        if (!(sum(bound) < std::numeric_limits<float>::infinity() && max_lane(bound) <= kMostBound)) return false;
    }
    return true;
}

}  // namespace
}  // namespace longspan::LONGSPAN_ISA
