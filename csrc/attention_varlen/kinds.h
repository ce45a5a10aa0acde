// What the two products multiply. Operands lie in units of four bytes, and one step of a product takes one unit of a
// row and one of each query: a float (here), or where the instruction set multiplies such, a pair of bf16
// (avx512_bf16.cpp). For int8 the first product's are whole numbers (whole.h).

namespace longspan::LONGSPAN_ISA {
namespace {

// out = each(row), 16 bytes or more at a time.
template <class Each>
[[gnu::always_inline]] inline void copy_row(const float* row, int64_t dim, float* out, Each each) {
    int64_t d = 0;
    for (; d + F32::kLanes <= dim; d += F32::kLanes) each(F32::load(row + d)).store(out + d);
    if (d < dim) each(F32::load_first(row + d, dim - d)).store_first(out + d, dim - d);
}

// With eight lanes (AVX2), where an exponential costs as much as twenty multiply-adds, scores are counted in units of
// log 2 and weights are powers of 2: power_of_2(), that file's own.
constexpr bool kCountsInLog2 = F32::kLanes == 8;

// Units are floats as they are given.
struct Floats {
    using Scores = Floats;                     // what the first product multiplies
    using Lanes = F32;                         // of its units and sums
    static constexpr bool kIsWhole = false;    // q and k become whole numbers
    static constexpr int kWeightOfTop = 1;     // of the largest score
    static constexpr int64_t kTogether = 1;    // tiles whose values are mixed in one product
    static constexpr bool kIsPlain = true;     // rows can be read where they lie
    static constexpr int64_t kPerUnit = 1;     // values of a row in one unit
    static constexpr int64_t kBlockKeys = 64;  // keys that go through the softmax together
    static constexpr float kLogUnit = kCountsInLog2 ? 1.44269504f : 1.0f;  // weight() gets x * kLogUnit for e^x
    static int64_t units(int64_t values) { return values; }
    static int64_t row_floats(int64_t dim) { return dim; }  // of a row as it is given
    static void pack_row(const float* row, int64_t dim, float* out) {
        copy_row(row, dim, out, [](F32 x) { return x; });
    }
    // A row of q or k as floats.
    static void unpack_row(const float* row, int64_t dim, float* out) { pack_row(row, dim, out); }
    template <class X>
    static X weight(X x) {
        if constexpr (kCountsInLog2) {
            return power_of_2(x);
        } else {
            return exp(x);
        }
    }
    static F32 as_multiplied(F32 weight) { return weight; }
    static F32 multiply_add(F32 a, F32 b, F32 sum) { return fma(a, b, sum); }
    // The same with lane kLane of a, where the instruction set has such products.
    template <int kLane, class X>
    static F32 multiply_add_lane(X a, X b, F32 sum) {
        return add_by_lane<kLane>(sum, a, b);
    }
};

// Units are floats rounded to bf16: the numbers that pairs of bf16 would hold, for instruction sets without such.
struct RoundedFloats : Floats {
    static constexpr bool kIsPlain = false;
    static void pack_row(const float* row, int64_t dim, float* out) {
        copy_row(row, dim, out, [](F32 x) { return round_to_bf16(x); });
    }
    static F32 as_multiplied(F32 weight) { return round_to_bf16(weight); }
    static F32 weight(F32 x) { return as_multiplied(Floats::weight(x)); }
};

}  // namespace
}  // namespace longspan::LONGSPAN_ISA
