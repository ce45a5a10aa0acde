// The two matrix products of a query tile, as outer products: kVectors lanes of queries times one broadcast unit of a
// key or value row. A query never leaves its lane, so no result depends on what the other lanes hold.
// A tile stores matrices with the query in the fast axis: (units of head_dim or of keys, kVectors * lanes).

namespace longspan::LONGSPAN_ISA {
namespace {

// The loops over rows must vanish: only then do the sums live in registers.
template <class Sum, int kRows, int kVectors>
[[gnu::always_inline]] inline void clear(Sum (&sums)[kRows][kVectors]) {
#pragma GCC unroll 16
    for (int row = 0; row < kRows; ++row) {
        for (int i = 0; i < kVectors; ++i) sums[row][i] = Sum::zero();
    }
}

// How the values of a lie that an outer product takes: those of a row, or those of a step, beside each other.
enum class Side { steps, rows };

// Four steps at a time, from four lanes of a register for each row; moves a and b on, and returns the steps that are
// left.
template <class Kind, int kRows, int kVectors>
[[gnu::always_inline]] inline int64_t add_lanes_of_rows(typename Kind::Lanes (&sums)[kRows][kVectors], const float*& a,
                                                        int64_t row_stride, int64_t steps, const float*& b) {
    using Lanes = typename Kind::Lanes;
    for (; steps >= 4; steps -= 4, a += 4) {
        Lanes values[kRows];
#pragma GCC unroll 16
        for (int row = 0; row < kRows; ++row) values[row] = Lanes::load(a + row * row_stride);
        const auto step = [&]<int kLane>() {
            Lanes query[kVectors];
            for (int i = 0; i < kVectors; ++i) query[i] = Lanes::load(b + i * F32::kLanes);
#pragma GCC unroll 16
            for (int row = 0; row < kRows; ++row) {
                for (int i = 0; i < kVectors; ++i) {
                    sums[row][i] = Kind::template multiply_add_lane<kLane>(values[row], query[i], sums[row][i]);
                }
            }
            b += kVectors * F32::kLanes;
        };
        step.template operator()<0>();
        step.template operator()<1>();
        step.template operator()<2>();
        step.template operator()<3>();
    }
    return steps;
}

// The rows of each step from the lanes of registers.
template <class Kind, int kRows, int kVectors>
[[gnu::always_inline]] inline void add_lanes_of_steps(typename Kind::Lanes (&sums)[kRows][kVectors], const float* a,
                                                      int64_t step_stride, int64_t steps, const float* b) {
    using Lanes = typename Kind::Lanes;
    for (int64_t step = 0; step < steps; ++step) {
        Lanes query[kVectors];
        for (int i = 0; i < kVectors; ++i) query[i] = Lanes::load(b + i * F32::kLanes);
        Lanes values[kRows / 4];
        for (int four = 0; four < kRows / 4; ++four) values[four] = Lanes::load(a + four * 4);
        const auto add = [&]<int... kRow>(std::integer_sequence<int, kRow...>, int i) {
            ((sums[kRow][i] = Kind::template multiply_add_lane<kRow % 4>(values[kRow / 4], query[i], sums[kRow][i])),
             ...);
        };
        for (int i = 0; i < kVectors; ++i) add(std::make_integer_sequence<int, kRows>{}, i);
        a += step_stride;
        b += kVectors * F32::kLanes;
    }
}

// sums[row][query] += a[row * row_stride + step * step_stride] * b[step][query], steps in ascending order; kSide says
// which of the two strides is 1.
template <class Kind, Side kSide, int kRows, int kVectors>
[[gnu::always_inline]] inline void add_outer_products(typename Kind::Lanes (&sums)[kRows][kVectors], const float* a,
                                                      int64_t row_stride, int64_t step_stride, int64_t steps,
                                                      const float* b) {
    using Lanes = typename Kind::Lanes;
    if constexpr (F32::kHasLaneProducts && kSide == Side::steps) {
        steps = add_lanes_of_rows<Kind>(sums, a, row_stride, steps, b);
    } else if constexpr (F32::kHasLaneProducts && kRows % 4 == 0) {
        return add_lanes_of_steps<Kind>(sums, a, step_stride, steps, b);
    }
    for (int64_t step = 0; step < steps; ++step) {
        Lanes query[kVectors];
        for (int i = 0; i < kVectors; ++i) query[i] = Lanes::load(b + i * F32::kLanes);
#pragma GCC unroll 16
        for (int row = 0; row < kRows; ++row) {
            const Lanes value = Lanes::all(a[row * row_stride]);
            for (int i = 0; i < kVectors; ++i) sums[row][i] = Kind::multiply_add(value, query[i], sums[row][i]);
        }
        a += step_stride;
        b += kVectors * F32::kLanes;
    }
}

// scores[key][query] = <keys[key], queries[:, query]> for kRows keys. Whole numbers begin with what stands behind a
// key's units, and are multiplied by its scale, which comes next.
template <class Kind, int kRows, int kVectors>
inline void score_rows(const float* queries, const float* keys, int64_t key_stride, int64_t units, float* scores) {
    using Scores = typename Kind::Scores;
    using Lanes = typename Scores::Lanes;
    Lanes sums[kRows][kVectors];
    if constexpr (Kind::kIsWhole) {
#pragma GCC unroll 16
        for (int row = 0; row < kRows; ++row) {
            for (int i = 0; i < kVectors; ++i) sums[row][i] = Lanes::all(keys[row * key_stride + units]);
        }
    } else {
        clear(sums);
    }
    add_outer_products<Scores, Side::steps>(sums, keys, key_stride, 1, units, queries);
#pragma GCC unroll 16
    for (int row = 0; row < kRows; ++row) {
        for (int i = 0; i < kVectors; ++i) {
            float* score = scores + (row * kVectors + i) * F32::kLanes;
            if constexpr (Kind::kIsWhole) {
                (Scores::to_float(sums[row][i]) * F32::all(keys[row * key_stride + units + 1])).store(score);
            } else {
                sums[row][i].store(score);
            }
        }
    }
}

// outputs[d][query] = outputs[d][query] * shrink[query] + sum over keys of values[key][d] * weights[key][query], for
// kRows values of d. The block is summed from zero: a long sum in blocks rounds far less than one in a row.
// shrink null: outputs is written, not read.
template <class Kind, int kRows, int kVectors>
inline void mix_rows(const float* weights, const float* values, int64_t value_stride, int64_t units,
                     const float* shrink, float* outputs) {
    typename Kind::Lanes sums[kRows][kVectors];
    clear(sums);
    add_outer_products<Kind, Side::rows>(sums, values, 1, value_stride, units, weights);
#pragma GCC unroll 16
    for (int row = 0; row < kRows; ++row) {
        for (int i = 0; i < kVectors; ++i) {
            float* out = outputs + (row * kVectors + i) * F32::kLanes;
            const F32 sum = sums[row][i];
            (shrink == nullptr ? sum : fma(F32::load(out), F32::load(shrink + i * F32::kLanes), sum)).store(out);
        }
    }
}

// Calls body.template operator()<rows>(first) so that [0, total) is covered in steps of kMost, then of its halves.
template <int kMost, class Body>
[[gnu::always_inline]] inline void for_each_step(int64_t total, Body&& body) {
    int64_t first = 0;
    for (; first + kMost <= total; first += kMost) body.template operator()<kMost>(first);
    if constexpr (kMost > 1) {
        for_each_step<kMost / 2>(total - first,
                                 [&]<int kRows>(int64_t i) { body.template operator()<kRows>(first + i); });
    }
}

// Rows at a time. With AVX-512's 32 registers 8 * 3 sums, the queries and a broadcast stay in registers, with 16 of
// them 4 * 3; and there are always 8 sums or more, which two fused multiply-adds per cycle need. NEON's 32 hold 8 * 2
// sums, the queries and four steps of 8 rows.
template <int kVectors>
constexpr int kRowsPerStep = F32::kHasLaneProducts ? 8 : (F32::kLanes == 16 ? 8 : 4) * (kVectors == 1 ? 2 : 1);

// scores (keys, kVectors * lanes) from queries (units of head_dim, kVectors * lanes) and key rows.
template <class Kind, int kVectors>
void score_keys(const float* queries, const float* keys, int64_t key_stride, int64_t num_keys, int64_t units,
                float* scores) {
    constexpr int kMost = kRowsPerStep<kVectors>;
    const auto step = [&]<int kRows>(int64_t key) {
        score_rows<Kind, kRows, kVectors>(queries, keys + key * key_stride, key_stride, units,
                                          scores + key * kVectors * F32::kLanes);
    };
    if (num_keys < kMost) return for_each_step<kMost>(num_keys, step);
    for (int64_t key = 0; key + kMost <= num_keys; key += kMost) step.template operator()<kMost>(key);
    // A whole step over again costs less than the few sums that are left, which would wait for each other.
    if (num_keys % kMost != 0) step.template operator()<kMost>(num_keys - kMost);
}

// outputs (head_dim, kVectors * lanes) = outputs * shrink + value rows weighted by weights, both in `units` units of
// keys: values (units, head_dim), weights (units, kVectors * lanes).
template <class Kind, int kVectors>
void mix_values(const float* weights, const float* values, int64_t value_stride, int64_t units, int64_t head_dim,
                const float* shrink, float* outputs) {
    for_each_step<kRowsPerStep<kVectors>>(head_dim, [&]<int kRows>(int64_t d) {
        mix_rows<Kind, kRows, kVectors>(weights, values + d, value_stride, units, shrink,
                                        outputs + d * kVectors * F32::kLanes);
    });
}

}  // namespace
}  // namespace longspan::LONGSPAN_ISA
