// The online softmax of a thread's part of 64 queries: two rows, every fourth pair of columns (core/cuda_wgmma.h), in
// base 2. Scores of a block of keys become weights; the running maximum and sum of a row go along.
#pragma once

#include "attention_varlen/cuda_sm90.h"
#include "core/cuda_wgmma.h"

namespace longspan::cuda {

// A thread's two rows, 8 apart.
struct RowPair {
    float best[2];   // greatest score so far; -infinity before the first
    float total[2];  // sum of the weights in this thread's columns
};

// How a thread's scores are made.
struct Scoring {
    Outlook outlook;  // of the warpgroup
    float scale;      // softmax_scale * log2(e), above 0
    float slope;      // times log2(e); 0 without ALiBi
    int32_t row;      // the thread's first row, the other is 8 further down
    int32_t column;   // its first column of a block
};

__host__ __device__ constexpr float minus_infinity() {
    return -__builtin_inff();
}

// Where the bias is a term of the key plus one of the query: what differs between the columns of a thread, rising by
// `rising` a key. They are the same in many blocks, and if kStay wait in registers; else they are made anew.
template <int kColumns, bool kStay>
struct KeyTerms {
    float kept[kStay ? kColumns : 1];
    float rising, column;

    __device__ __forceinline__ KeyTerms(float slope, int32_t column)
        : rising(slope), column(static_cast<float>(column)) {
        if constexpr (kStay) {
#pragma unroll
            for (int i = 0; i < kColumns; ++i) kept[i] = keep_inside(fresh(rising, rising * this->column, i));
        }
    }
    __device__ __forceinline__ static float fresh(float rising, float base, int i) {
        return fmaf(rising, static_cast<float>(sum_column(0, i / 2 * 4 + i % 2)), base);
    }
    // Behind the queries the terms fall.
    __device__ __forceinline__ void rise_by(float slope) {
        if (slope == rising) return;
        rising = slope;
        if constexpr (kStay) {
#pragma unroll
            for (int i = 0; i < kColumns; ++i) kept[i] = -kept[i];
        }
    }
    // Scores but for what all keys of a block share.
    template <int kCount>
    __device__ __forceinline__ void add(float (&x)[kCount], float scale) const {
        const float slope = keep_inside(rising);  // else the compiler would keep what is to be made anew
        const float base = slope * column;
#pragma unroll
        for (int i = 0; i < kCount; ++i) {
            const int at = i / 4 * 2 + i % 2;
            x[i] = fmaf(x[i], scale, kStay ? kept[at] : fresh(slope, base, at));
        }
    }
};

// The bias of each pair, and -infinity for keys that a row does not see.
template <bool kBiased, int kCount>
__device__ __forceinline__ void score_edge(float (&x)[kCount], const Scoring& scoring, int32_t block) {
    const Outlook& outlook = scoring.outlook;
    const int32_t base = block * kBlockKeys + scoring.column;
#pragma unroll
    for (int lower = 0; lower < 2; ++lower) {
        const int32_t i = outlook.low + scoring.row + 8 * lower;
        const int32_t seen = outlook.is_causal && i + 1 < outlook.len_k ? i + 1 : outlook.len_k;
        const int32_t room = seen - base;  // columns of the thread from this one on are not seen
        const float ahead = static_cast<float>(i - base);
#pragma unroll
        for (int at = 2 * lower; at < kCount; at += at % 2 == 0 ? 1 : 3) {
            const int column = sum_column(0, at);
            float score = x[at] * scoring.scale;
            if (kBiased) score = fmaf(-scoring.slope, fabsf(ahead - static_cast<float>(column)), score);
            x[at] = column < room ? score : minus_infinity();
        }
    }
}

// The greatest of a row's values in this thread.
template <int kCount>
__host__ __device__ __forceinline__ float greatest(const float (&x)[kCount], int lower) {
    float best = minus_infinity();
#pragma unroll
    for (int i = 0; i < kCount; i += 4) best = fmaxf(best, fmaxf(x[i + 2 * lower], x[i + 2 * lower + 1]));
    return best;
}

// Over the four threads that share a row.
__device__ __forceinline__ float greatest_of_four(float value) {
    value = fmaxf(value, __shfl_xor_sync(kFullWarp, value, 1));
    return fmaxf(value, __shfl_xor_sync(kFullWarp, value, 2));
}
__device__ __forceinline__ float sum_of_four(float value) {
    value += __shfl_xor_sync(kFullWarp, value, 1);
    return value + __shfl_xor_sync(kFullWarp, value, 2);
}

// Turns scores into weights 2^(score - best) and sets fade, what the earlier weights of a row are to be multiplied
// with. A score is x * factor + rest[row]; factor is above 0.
template <bool kScaled, int kCount>
__device__ __forceinline__ void weigh(float (&x)[kCount], RowPair& rows, float (&fade)[2], float factor,
                                      const float (&rest)[2]) {
#pragma unroll
    for (int lower = 0; lower < 2; ++lower) {
        const float here = fmaf(greatest_of_four(greatest(x, lower)), factor, rest[lower]);
        const float best = fmaxf(rows.best[lower], here);
        const float shift = best == minus_infinity() ? 0.0f : best;  // no key seen so far: all weights are 0
        fade[lower] = exp2_approx(rows.best[lower] - shift);
        rows.best[lower] = best;
        const float offset = rest[lower] - shift;
        float total = 0.0f;
#pragma unroll
        for (int i = 0; i < kCount; i += 4) {
#pragma unroll
            for (int at = i + 2 * lower; at < i + 2 * lower + 2; ++at) {
                x[at] = exp2_approx(kScaled ? fmaf(x[at], factor, offset) : x[at] + offset);
                total += x[at];
            }
        }
        rows.total[lower] = fmaf(rows.total[lower], fade[lower], total);
    }
}

// The products of a block of keys, or of its first half, to weights, in the way that its place asks for.
template <bool kBiased, bool kHalf, int kCount, class Terms>
__device__ __forceinline__ void weigh_block(float (&x)[kCount], RowPair& rows, float (&fade)[2], const Scoring& scoring,
                                            Terms& terms, int32_t block) {
    const Sight sight = kHalf ? Sight::edge : scoring.outlook.sight_of(block);
    float rest[2] = {0.0f, 0.0f};  // what a row's scores share
    if (kHalf || sight == Sight::edge) {
        score_edge<kBiased>(x, scoring, block);
        weigh<false>(x, rows, fade, 1.0f, rest);
    } else if constexpr (kBiased) {
        terms.rise_by(sight == Sight::before ? scoring.slope : -scoring.slope);
        terms.add(x, scoring.scale);
        const int32_t ahead = block * kBlockKeys - scoring.outlook.low - scoring.row;
        rest[0] = terms.rising * static_cast<float>(ahead);
        rest[1] = terms.rising * static_cast<float>(ahead - 8);
        weigh<false>(x, rows, fade, 1.0f, rest);
    } else {
        weigh<true>(x, rows, fade, scoring.scale, rest);
    }
}

// Rounded and paired: the first operand of the products with the values.
template <class T, int kCount, int kWords>
__device__ __forceinline__ void pack_weights(const float (&x)[kCount], uint32_t (&weights)[kWords]) {
    static_assert(kCount / 2 <= kWords);
#pragma unroll
    for (int i = 0; i < kCount / 2; ++i) weights[i] = pack_pair<T>(x[2 * i], x[2 * i + 1]);
}

// Four threads with four words each change rows for columns: afterwards thread t has word t of each, in order.
__device__ __forceinline__ void transpose_four(uint32_t (&words)[4], int t) {
#pragma unroll
    for (int step = 1; step <= 2; step *= 2) {
        const bool is_upper = (t & step) != 0;
#pragma unroll
        for (int low = 0; low < 4; ++low) {
            if ((low & step) != 0) continue;
            const uint32_t sent = is_upper ? words[low] : words[low + step];
            const uint32_t got = __shfl_xor_sync(kFullWarp, sent, step);
            words[low] = is_upper ? got : words[low];
            words[low + step] = is_upper ? words[low + step] : got;
        }
    }
}

}  // namespace longspan::cuda
