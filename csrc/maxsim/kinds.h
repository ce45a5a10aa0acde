// What kernel.h multiplies: a kind says how one unit of a document token and a register of units of queries add to
// sums, and what the finished sums mean. For kernel.h, once an instruction set.

namespace longspan::LONGSPAN_ISA {
namespace {

constexpr int64_t kLanes = F32::kLanes;
static_assert(kLanes == kQueryLanes);
constexpr int64_t kTileVectors = 2;

constexpr int64_t least(int64_t a, int64_t b) {
    return a < b ? a : b;
}
constexpr int64_t most(int64_t a, int64_t b) {
    return a > b ? a : b;
}

// Calls body(0), ... body(kCount - 1) with constants: the only loop that surely leaves its arrays in registers.
template <class Body, int... kIndex>
[[gnu::always_inline]] inline void unroll(std::integer_sequence<int, kIndex...>, Body&& body) {
    (body(std::integral_constant<int, kIndex>{}), ...);
}
template <int kCount, class Body>
[[gnu::always_inline]] inline void unroll(Body&& body) {
    unroll(std::make_integer_sequence<int, kCount>{}, body);
}

// The best of a document's tokens so far, for one register of queries. `poison` is 0, or NaN once a product was NaN:
// max() alone would forget it.
struct Best {
    F32 top, poison;

    void offer(F32 score) { top = max(top, score); }
};

// Document tokens as multiply() reads them.
struct Rows {
    const std::byte* data;
    int64_t row_bytes;
    const float* scales;  // null: none
    int64_t ahead;        // bytes from here to rows that are wanted soon; 0: fetch nothing
    int64_t dim;
};

// f32.
struct FloatKind {
    using Sum = F32;
    static constexpr bool kIsExact = false;
    static F32 load(const std::byte* p) { return F32::load(reinterpret_cast<const float*>(p)); }
    static F32 broadcast(const std::byte* p) {
        float value;
        std::memcpy(&value, p, sizeof value);
        return F32::all(value);
    }
    static F32 add(F32 sum, F32 doc, F32 query) { return fma(doc, query, sum); }
    // Adds the products of unit kLane of each of some document tokens, where the instruction set multiplies by lanes.
    template <int kLane, int kVectors, int kRows, class Lanes>
    [[gnu::always_inline]] static void add_lane(F32 (&sums)[kVectors][kRows], const Lanes (&docs)[kRows],
                                                const Lanes (&queries)[kVectors]) {
        unroll<kRows * kVectors>([&](auto at) {
            auto& sum = sums[at % kVectors][at / kVectors];
            sum = add_by_lane<kLane>(sum, docs[at / kVectors], queries[at % kVectors]);
        });
    }

    template <int kRows>
    [[gnu::always_inline]] static void finish(const F32 (&sums)[kRows], const Rows&, Best& best) {
        unroll<kRows>([&](auto r) { best.offer(sums[r]); });
        unroll<(kRows + 1) / 2>([&](auto r) {
            best.poison = nan_where_unordered(sums[2 * r], sums[least(2 * r + 1, kRows - 1)], best.poison);
        });
    }
};

// Pairs of bf16 values, where the instruction set multiplies them: add_bf16_products() is that file's own.
template <class Lanes>
struct Bf16Kind : FloatKind {
    static Lanes load(const std::byte* p) { return Lanes::load(p); }
    static Lanes broadcast(const std::byte* p) { return Lanes::broadcast(p); }
    static F32 add(F32 sum, Lanes doc, Lanes query) { return add_bf16_products(sum, doc, query); }
};

// Pairs of int16 values: exact sums, then a scale for each document token.
struct ScaledPairKind {
    using Sum = I32;
    static constexpr bool kIsExact = true;
    static I32 load(const std::byte* p) { return I32::load(p); }
    static I32 broadcast(const std::byte* p) { return I32::broadcast(p); }
    static I32 add(I32 sum, I32 doc, I32 query) { return add_i16_products(sum, doc, query); }
    template <int kLane, class Sums, class Docs, class Queries>
    [[gnu::always_inline]] static void add_lane(Sums& sums, const Docs& docs, const Queries& queries) {
        add_i16_by_lane<kLane>(sums, docs, queries);
    }

    template <int kRows>
    [[gnu::always_inline]] static void finish(const I32 (&sums)[kRows], const Rows& rows, Best& best) {
        unroll<kRows>([&](auto r) {
            const F32 score = to_float(sums[r]) * F32::all(rows.scales[r]);
            best.offer(score);
            best.poison = nan_where_unordered(score, score, best.poison);
        });
    }
};

// The same without scales: the best sum is the best score.
struct PairKind : ScaledPairKind {
    template <int kRows>
    [[gnu::always_inline]] static void finish(const I32 (&sums)[kRows], const Rows&, Best& best) {
        I32 top = sums[0];
        unroll<kRows>([&](auto r) { top = max(top, sums[r]); });
        best.offer(to_float(top));
    }
};

// Sums of bits that differ: the fewer the better.
struct BitKind {
    using Sum = I32;
    static constexpr bool kIsExact = true;
    static I32 load(const std::byte* p) { return I32::load(p); }
    static I32 broadcast(const std::byte* p) { return I32::broadcast(p); }
    static I32 add(I32 sum, I32 doc, I32 query) { return add_differing_bits(sum, doc, query); }
    template <int kLane, class Sums, class Docs, class Queries>
    [[gnu::always_inline]] static void add_lane(Sums& sums, const Docs& docs, const Queries& queries) {
        add_bits_by_lane<kLane>(sums, docs, queries);
    }

    template <int kRows>
    [[gnu::always_inline]] static void finish(const I32 (&sums)[kRows], const Rows& rows, Best& best) {
        I32 fewest = sums[0];
        unroll<kRows>([&](auto r) { fewest = min(fewest, sums[r]); });
        best.offer(F32::all(static_cast<float>(rows.dim)) - F32::all(2.0f) * to_float(fewest));
    }
};

}  // namespace
}  // namespace longspan::LONGSPAN_ISA
