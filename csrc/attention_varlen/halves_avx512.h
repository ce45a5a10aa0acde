// Weights and values as f16, for the second product of int8 attention: a register holds 32 queries, and a multiply-add
// twice as many products as of floats. Two tiles of 48 queries lie side by side, three registers a key.
//   weights   32 w, 0 < w <= 1: what is below 2^-30 is 0; the sum of weights, of floats, is 32 times as large too
//   values    of a block of keys, times a power of two for each column, so that the largest is in [8, 16)
//   sums      of kChain products, added to sums of a block, at most 64 * 32 * 16 = 2^15, which f16 holds; those are
//             added to sums of floats, which take the power of two back
// Why so: README.md. Values that are not finite have no power of two: are_finite() says where this will do.

namespace longspan::LONGSPAN_ISA {
namespace {

// 32 of them.
struct F16 {
    __m512h v;

    static F16 zero() { return {_mm512_castps_ph(_mm512_setzero_ps())}; }
    static F16 load(const float* p) { return {_mm512_castps_ph(_mm512_loadu_ps(p))}; }
    // A value that stands twice in four bytes.
    static F16 all(float twice) { return {_mm512_castps_ph(_mm512_set1_ps(twice))}; }
    friend F16 operator+(F16 a, F16 b) { return {_mm512_add_ph(a.v, b.v)}; }
    F32 low() const { return {_mm512_cvtph_ps(_mm512_castsi512_si256(_mm512_castph_si512(v)))}; }
    F32 high() const { return {_mm512_cvtph_ps(_mm512_extracti64x4_epi64(_mm512_castph_si512(v), 1))}; }
};

inline F16 fma(F16 a, F16 b, F16 c) {
    return {_mm512_fmadd_ph(a.v, b.v, c.v)};
}

inline __m256i to_halves(F32 x) {
    return _mm512_cvtps_ph(x.v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}

// kRows columns of values, kVectors registers of queries; `outputs` and `shrink` are of floats, `units` takes a
// column's power of two back.
template <int64_t kChain, int kRows, int kVectors>
inline void mix_halves(const float* weights, const float* values, int64_t dim, int64_t keys, const float* shrink,
                       const float* units, float* outputs) {
    F16 totals[kRows][kVectors];
    clear(totals);
    for (int64_t first = 0; first < keys; first += kChain) {
        const int64_t last = first + kChain < keys ? first + kChain : keys;
        F16 sums[kRows][kVectors];
        clear(sums);
        for (int64_t key = first; key < last; ++key) {
            F16 query[kVectors];
            for (int i = 0; i < kVectors; ++i) query[i] = F16::load(weights + key * kTileRows + i * F32::kLanes);
#pragma GCC unroll 16
            for (int row = 0; row < kRows; ++row) {
                const F16 value = F16::all(values[key * dim + row]);
                for (int i = 0; i < kVectors; ++i) sums[row][i] = fma(value, query[i], sums[row][i]);
            }
        }
#pragma GCC unroll 16
        for (int row = 0; row < kRows; ++row) {
            for (int i = 0; i < kVectors; ++i) totals[row][i] = totals[row][i] + sums[row][i];
        }
    }
#pragma GCC unroll 16
    for (int row = 0; row < kRows; ++row) {
        const F32 unit = F32::all(units[row]);
        for (int i = 0; i < kVectors; ++i) {
            const float* factor = shrink + i * 2 * F32::kLanes;
            float* out = outputs + row * 2 * kTileRows + i * 2 * F32::kLanes;
            const auto add = [&](F32 sum, int64_t lane) {
                fma(sum, unit, F32::load(out + lane) * F32::load(factor + lane)).store(out + lane);
            };
            add(totals[row][i].low(), 0);
            add(totals[row][i].high(), F32::kLanes);
        }
    }
}

// Rows: how rows of q, k and v are given.
template <class Rows>
struct Halves : Rows {
    static constexpr int64_t kTogether = 2;
    static constexpr float kLogUnit = 1.44269504f;  // weight(x) = 32 * 2^x
    static constexpr int kWeightOfTop = 32;
    static constexpr int64_t kLanes = 32;
    static constexpr int64_t kChain = 16;  // keys whose products are added up from zero

    // 32 * 2^x. Hidden scores and all below -100 give 2^-95, which is 0 in f16 and nothing beside a sum: numbers too
    // small for a normal float would take a hundred times as long.
    static F32 weight(F32 x) { return rough_power_of_2<kWeightOfTop>(max(F32::all(-100.0f), x)); }

    static void store_weight(F32 weight, float* weights, int64_t key, int64_t vector) {
        float* place = weights + key * kTileRows + vector * F32::kLanes / 2;
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(place), to_halves(weight));
    }

    // Weights of 0 for keys [first, last).
    template <int kVectors>
    static void hide(float* weights, int64_t first, int64_t last) {
        for (int64_t key = first; key < last; ++key) {
            for (int i = 0; i < kVectors; ++i) store_weight(F32::zero(), weights, key, i);
        }
    }

    // Rows of values -> f16 that stand twice in four bytes, (count, dim) in `out`, and what takes powers of two and 32
    // back, (dim,); `floats` has room for the rows.
    template <class From>
    static void stage_values(const From& rows, int64_t dim, float* floats, float* out, float* units) {
        for (int64_t row = 0; row < rows.count; ++row) {
            const float* from = rows.data + row * rows.stride;
            if (row + kRowsAhead < rows.following) fetch_row(from + kRowsAhead * rows.stride, Rows::row_floats(dim));
            Rows::unpack_row(from, dim, floats + row * dim);
        }
        for (int64_t d = 0; d < dim; d += F32::kLanes) {
            const int64_t width = dim - d < F32::kLanes ? dim - d : F32::kLanes;
            F32 largest = F32::all(0x1p-120f);
            for (int64_t row = 0; row < rows.count; ++row) {
                largest = max(largest, abs(F32::load_first(floats + row * dim + d, width)));
            }
            const F32 power = F32::all(3.0f) - exponent(largest), one = F32::all(1.0f);
            const F32 scale = scale_by_power_of_2(one, power);
            scale_by_power_of_2(F32::all(1.0f / kWeightOfTop), F32::zero() - power).store_first(units + d, width);
            for (int64_t row = 0; row < rows.count; ++row) {
                const F32 value = F32::load_first(floats + row * dim + d, width) * scale;
                const __m512i once = _mm512_cvtepu16_epi32(to_halves(value));
                const __m512i twice = _mm512_or_si512(once, _mm512_slli_epi32(once, 16));
                F32{_mm512_castsi512_ps(twice)}.store_first(out + row * dim + d, width);
            }
        }
    }

    // outputs (head_dim, 2 * kTileRows) = outputs * shrink + values weighted; weights (keys, 2 * kTileRows) f16.
    template <int kVectors>
    static void mix(const float* weights, const float* values, int64_t keys, int64_t dim, const float* shrink,
                    const float* units, float* outputs) {
        for_each_step<kVectors == 1 ? 8 : 4>(dim, [&]<int kRows>(int64_t d) {
            mix_halves<kChain, kRows, kVectors>(weights, values + d, dim, keys, shrink, units + d,
                                                outputs + d * 2 * kTileRows);
        });
    }
};

// Whether all values that the part reads are finite.
template <class Rows>
bool are_finite(const AttentionArgs& args, const AttentionPart& part) {
    const int64_t last = args.cu_seqlens_k.data[part.sequence + 1], floats = args.v.head_dim;
    F32 poison = F32::zero();  // NaN once a value was not
    for (int64_t row = args.cu_seqlens_k.data[part.sequence]; row < last; ++row) {
        const float* values = args.v.at(row, part.kv_head);
        if (row + kRowsAhead < last) fetch_row(args.v.at(row + kRowsAhead, part.kv_head), floats);
        for (int64_t d = 0; d < floats; d += F32::kLanes) {
            const F32 some = F32::load_first(values + d, floats - d < F32::kLanes ? floats - d : F32::kLanes);
            poison = Rows::multiply_add(some, F32::zero(), poison);
        }
    }
    return sum(poison) == 0.0f;
}

}  // namespace
}  // namespace longspan::LONGSPAN_ISA
