#define LONGSPAN_ISA avx512_bf16

#include "attention_varlen/transpose_avx512.h"

#include "attention_varlen/kernel.h"

#include "attention_varlen/whole_avx512.h"

namespace longspan::avx512_bf16 {
namespace {

// Units are pairs of bf16, neighbours in a row; the even one in the low half.
struct Pairs {
    using Scores = Pairs;
    using Lanes = F32;
    static constexpr bool kIsWhole = false;
    static constexpr bool kIsPlain = false;
    static constexpr int kWeightOfTop = 1;
    static constexpr int64_t kTogether = 1;
    static constexpr int64_t kPerUnit = 2;
    static constexpr int64_t kBlockKeys = 128;
    static constexpr float kLogUnit = 1.44269504f;  // weight(x) = 2^x
    static int64_t units(int64_t values) { return (values + 1) / 2; }
    static int64_t row_floats(int64_t dim) { return dim; }

    // The lanes of low and high side by side.
    static F32 join(F32 low, F32 high) {
        const __m512i order = _mm512_set_epi16(31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24, 8,  //
                                               23, 7, 22, 6, 21, 5, 20, 4, 19, 3, 18, 2, 17, 1, 16, 0);
        const auto apart = reinterpret_cast<__m512i>(_mm512_cvtne2ps_pbh(high.v, low.v));
        return {_mm512_castsi512_ps(_mm512_permutexvar_epi16(order, apart))};
    }

    // Two rows value by value, the first one's low; null: zeros.
    static void join_rows(const float* low, const float* high, int64_t dim, float* out) {
        int64_t d = 0;
        for (; d + F32::kLanes <= dim; d += F32::kLanes) {
            join(F32::load(low + d), high == nullptr ? F32::zero() : F32::load(high + d)).store(out + d);
        }
        if (const int64_t rest = dim - d; rest > 0) {
            const F32 second = high == nullptr ? F32::zero() : F32::load_first(high + d, rest);
            join(F32::load_first(low + d, rest), second).store_first(out + d, rest);
        }
    }

    static void unpack_row(const float* row, int64_t dim, float* out) {
        copy_row(row, dim, out, [](F32 x) { return x; });
    }

    static void pack_row(const float* row, int64_t dim, float* out) {
        constexpr int64_t kStep = 2 * F32::kLanes;
        const auto together = [](F32 first, F32 second) {
            return F32{reinterpret_cast<__m512>(_mm512_cvtne2ps_pbh(second.v, first.v))};
        };
        int64_t d = 0;
        for (; d + kStep <= dim; d += kStep) {
            together(F32::load(row + d), F32::load(row + d + F32::kLanes)).store(out + d / 2);
        }
        if (const int64_t rest = dim - d; rest > 0) {
            const int64_t first = least(rest, F32::kLanes);
            together(F32::load_first(row + d, first), F32::load_first(row + d + first, rest - first))
                .store_first(out + d / 2, units(rest));
        }
    }

    static F32 weight(F32 x) { return rough_power_of_2(x); }
    // sum + a[high] * b[high] + a[low] * b[low]
    static F32 multiply_add(F32 a, F32 b, F32 sum) {
        return {_mm512_dpbf16_ps(sum.v, reinterpret_cast<__m512bh>(a.v), reinterpret_cast<__m512bh>(b.v))};
    }
};

// The same where rows come as bf16: whole registers of units, which need no rounding.
struct StoredPairs : Pairs {
    static constexpr bool kIsPlain = true;
    static int64_t row_floats(int64_t dim) { return units(dim); }

    static void unpack_row(const float* row, int64_t dim, float* out) { widen_row(row, dim, out); }

    static void pack_row(const float* row, int64_t dim, float* out) {
        for (int64_t d = 0; d < units(dim); d += F32::kLanes) F32::load(row + d).store(out + d);
    }

    static void join_rows(const float* low, const float* high, int64_t dim, float* out) {
        const __m512i first = _mm512_set_epi16(47, 15, 46, 14, 45, 13, 44, 12, 43, 11, 42, 10, 41, 9, 40, 8,  //
                                               39, 7, 38, 6, 37, 5, 36, 4, 35, 3, 34, 2, 33, 1, 32, 0);
        const __m512i second = _mm512_add_epi16(first, _mm512_set1_epi16(16));
        for (int64_t d = 0; d < dim; d += 2 * F32::kLanes) {
            const __m512i a = _mm512_loadu_si512(low + d / 2);
            const __m512i b = high == nullptr ? _mm512_setzero_si512() : _mm512_loadu_si512(high + d / 2);
            _mm512_storeu_si512(out + d, _mm512_permutex2var_epi16(a, first, b));
            _mm512_storeu_si512(out + d + F32::kLanes, _mm512_permutex2var_epi16(a, second, b));
        }
    }
};

}  // namespace

void attention_varlen_stored_bf16(const AttentionArgs& args, const AttentionPart& part) {
    PartRunner<StoredPairs>(args, part).run();
}

void attention_varlen_stored_bf16_i8(const AttentionArgs& args, const AttentionPart& part) {
    PartRunner<Whole<StoredPairs, Bytes>>(args, part).run();
}

void attention_varlen_i8(const AttentionArgs& args, const AttentionPart& part) {
    PartRunner<Whole<Pairs, Bytes>>(args, part).run();
}

void attention_varlen_bf16(const AttentionArgs& args, const AttentionPart& part) {
    PartRunner<Pairs>(args, part).run();
}

}  // namespace longspan::avx512_bf16
