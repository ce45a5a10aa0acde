// q and k as whole numbers, for the first product of long sequences in int8. With m the mean of a block's keys,
//   <q, k[j]> = <q, m> + <q, k[j] - m>
// where the first term is f32, and both sides of the second are rotated, which changes no product, and rounded:
//   a[i] = round(x[i] * (127 / max|x|)),   s = max|x| / 127,   <q, k[j] - m> ~ s_q s_k[j] <a_q, a_k[j]>
// What all keys of a block share, which in trained models is most of a key's length, costs no step of the numbers so.
// The rotation shares what sticks out among the values of a row (linear/rotate.h): Walsh-Hadamard matrices over
// sqrt(n), of the largest n <= 64 that is a power of two and fits in what is left of the row.
// Every step is one IEEE operation in f32, in one order, so every instruction set has the same whole numbers.
// Sources: QuaRot, arXiv:2404.00456; SageAttention, arXiv:2410.02367, for what keys share.

namespace longspan::LONGSPAN_ISA {
namespace {

// Whole numbers as floats: for instruction sets where bytes are no faster. Products and sums are exact below 2^24.
struct WholeFloats {
    using Lanes = F32;
    static constexpr int64_t kPerUnit = 1;
    static constexpr float kQueryOffset = 0.0f;  // what a query's numbers have in addition
    static int64_t units(int64_t values) { return values; }
    // The numbers of kPerUnit steps, (kPerUnit, lanes), as a unit of each lane.
    static F32 unit(const float* numbers) { return F32::load(numbers); }
    // What sums begin with, given the sum of a key's numbers: it takes the queries' offset off.
    static F32 first_sum(F32) { return F32::zero(); }
    static F32 multiply_add(F32 a, F32 b, F32 sum) { return fma(a, b, sum); }
    template <int kLane, class X>
    static F32 multiply_add_lane(X a, X b, F32 sum) {
        return add_by_lane<kLane>(sum, a, b);
    }
    static F32 to_float(F32 sum) { return sum; }
};

// Values: what the second product multiplies, and the exponential; Numbers: the first one's.
template <class Values, class Numbers>
struct Whole : Values {
    using Scores = Numbers;
    static constexpr bool kIsWhole = true;
    static constexpr int64_t kBlockKeys = 64;  // those that share a mean: part of the result's definition
};

// kSize values `step` apart: sums and differences of neighbours, then of neighbours of those, and so on.
template <int kSize>
[[gnu::always_inline]] inline void add_and_subtract(float* x, int64_t step) {
    F32 values[kSize];
#pragma GCC unroll 8
    for (int i = 0; i < kSize; ++i) values[i] = F32::load(x + i * step * F32::kLanes);
#pragma GCC unroll 8
    for (int half = 1; half < kSize; half *= 2) {
#pragma GCC unroll 8
        for (int i = 0; i < kSize; ++i) {
            if ((i & half) != 0) continue;
            const F32 low = values[i], high = values[i + half];
            values[i] = low + high;
            values[i + half] = low - high;
        }
    }
#pragma GCC unroll 8
    for (int i = 0; i < kSize; ++i) values[i].store(x + i * step * F32::kLanes);
}

// (x - mean) rotated, in place; x (dim, lanes). mean null: zeros.
inline void rotate_lanes(float* x, const float* mean, int64_t dim) {
    constexpr float kShare[] = {1.0f, 0.707106781f, 0.5f, 0.353553391f, 0.25f, 0.176776695f, 0.125f};  // 1 / sqrt(n)
    for (int64_t first = 0; first < dim;) {
        int power = 6;
        while ((int64_t{1} << power) > dim - first) --power;
        const int64_t size = int64_t{1} << power;
        float* block = x + first * F32::kLanes;
        const F32 share = F32::all(kShare[power]);
        for (int64_t i = 0; i < size; ++i) {
            F32 value = F32::load(block + i * F32::kLanes);
            if (mean != nullptr) value = value - F32::all(mean[first + i]);
            (value * share).store(block + i * F32::kLanes);
        }
        for (int64_t step = 1; step < size;) {
            const int64_t radix = size / step < 8 ? 2 : 8;
            for (int64_t i = 0; i < size; i += radix * step) {
                for (int64_t j = i; j < i + step; ++j) {
                    if (radix == 8) {
                        add_and_subtract<8>(block + j * F32::kLanes, step);
                    } else {
                        add_and_subtract<2>(block + j * F32::kLanes, step);
                    }
                }
            }
            step *= radix;
        }
        first += size;
    }
}

// How much longer than |q| |k| a score may be, in which a number is off by 1/2, and k less the mean twice as long as k.
inline float whole_rounding(int64_t dim) {
    return 1.02f + 0.013f * max_lane(sqrt(F32::all(static_cast<float>(dim))));
}

struct Quantised {
    F32 scale, sum;  // scale: NaN where a value is not finite
};

// x (dim, lanes) becomes whole numbers of -127 to 127, in place, plus `offset`; steps up to padded_dim are 0.
inline Quantised to_numbers(float* x, int64_t dim, int64_t padded_dim, float offset) {
    F32 largest = F32::all(0x1p-100f), poison = F32::zero(), sum = F32::zero();
    for (int64_t d = 0; d < dim; ++d) {
        const F32 value = F32::load(x + d * F32::kLanes);
        largest = max(abs(value), largest);
        poison = fma(value, F32::zero(), poison);
    }
    const F32 inverse = F32::all(127.0f) / largest;
    for (int64_t d = 0; d < dim; ++d) {
        const F32 number = round(F32::load(x + d * F32::kLanes) * inverse);
        sum = sum + number;
        (number + F32::all(offset)).store(x + d * F32::kLanes);
    }
    for (int64_t d = dim; d < padded_dim; ++d) F32::zero().store(x + d * F32::kLanes);
    return {largest * F32::all(1.0f / 127.0f) + poison, sum};
}

// Rows of q or k as floats, rotated by their angles: (count, dim) tight.
template <class Kind>
void load_rows(const Rows& rows, int64_t dim, const AttentionArgs& args, int64_t table_row, float* out) {
    for (int64_t row = 0; row < rows.count; ++row, out += dim) {
        const float* from = rows.data + row * rows.stride;
        if (row + kRowsAhead < rows.following) fetch_row(from + kRowsAhead * rows.stride, Kind::row_floats(dim));
        if (args.cos.data != nullptr) {
            rotate_row(from, args.cos.row(table_row + row), args.sin.row(table_row + row), args.cos.cols,
                       args.interleaved, dim, out);
        } else {
            Kind::unpack_row(from, dim, out);
        }
    }
}

// The mean of rows (count, dim), added up in their order.
inline void mean_of(const float* rows, int64_t count, int64_t dim, float* mean) {
    const F32 share = F32::all(1.0f / static_cast<float>(count));
    for (int64_t d = 0; d < dim; d += F32::kLanes) {
        const int64_t width = dim - d < F32::kLanes ? dim - d : F32::kLanes;
        F32 sum = F32::zero();
        for (int64_t row = 0; row < count; ++row) sum = sum + F32::load_first(rows + row * dim + d, width);
        (sum * share).store_first(mean + d, width);
    }
}

// Memory for a run of keys, or for a vector of queries.
template <class Kind>
struct WholeScratch {
    static int64_t key_floats(int64_t dim) { return Kind::Scores::units(dim) + 2; }  // units, first sum, scale
    static int64_t padded(int64_t dim) { return Kind::Scores::units(dim) * Kind::Scores::kPerUnit; }

    float* rows;     // (kBlockKeys, dim): as floats
    float* mean;     // (dim,)
    float* lanes;    // (padded(dim), lanes)
    float* columns;  // (key_floats(dim), lanes)
};

// Rows of keys (count, dim) -> scratch.mean, and (count, key_floats(dim)) to `out`.
template <class Kind>
void whole_keys(const WholeScratch<Kind>& scratch, int64_t count, int64_t dim, float* out) {
    using Scores = typename Kind::Scores;
    const int64_t units = Scores::units(dim), width = scratch.key_floats(dim), padded = scratch.padded(dim);
    mean_of(scratch.rows, count, dim, scratch.mean);
    for (int64_t row = 0; row < count; row += F32::kLanes) {
        const int64_t some = count - row < F32::kLanes ? count - row : F32::kLanes;
        rows_to_lanes(scratch.rows + row * dim, dim, some, dim, scratch.lanes, F32::kLanes);
        rotate_lanes(scratch.lanes, scratch.mean, dim);
        const Quantised numbers = to_numbers(scratch.lanes, dim, padded, 0.0f);
        for (int64_t unit = 0; unit < units; ++unit) {
            Scores::unit(scratch.lanes + unit * Scores::kPerUnit * F32::kLanes)
                .store(scratch.columns + unit * F32::kLanes);
        }
        Scores::first_sum(numbers.sum).store(scratch.columns + units * F32::kLanes);
        numbers.scale.store(scratch.columns + (units + 1) * F32::kLanes);
        lanes_to_rows(
            scratch.columns, F32::kLanes, [](F32 bits) { return bits; }, some, width, out + row * width, width);
    }
}

// Rows of queries (count <= lanes, dim) -> floats (dim, stride) and units (units, stride), both a column of lanes.
// Returns their scales.
template <class Kind>
F32 whole_queries(const WholeScratch<Kind>& scratch, int64_t count, int64_t dim, int64_t stride, float* floats,
                  float* units) {
    using Scores = typename Kind::Scores;
    rows_to_lanes(scratch.rows, dim, count, dim, floats, stride);
    for (int64_t d = 0; d < dim; ++d) F32::load(floats + d * stride).store(scratch.lanes + d * F32::kLanes);
    rotate_lanes(scratch.lanes, nullptr, dim);
    const Quantised numbers = to_numbers(scratch.lanes, dim, scratch.padded(dim), Scores::kQueryOffset);
    for (int64_t unit = 0; unit < Scores::units(dim); ++unit) {
        Scores::unit(scratch.lanes + unit * Scores::kPerUnit * F32::kLanes).store(units + unit * stride);
    }
    return numbers.scale;
}

}  // namespace
}  // namespace longspan::LONGSPAN_ISA
