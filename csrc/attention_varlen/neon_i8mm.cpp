#define LONGSPAN_ISA neon_i8mm

#include "attention_varlen/transpose_neon.h"

#include "attention_varlen/kernel.h"

#include "attention_varlen/whole_neon.h"

namespace longspan::neon_i8mm {
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

    static bfloat16x8_t units_of(F32 x) { return vreinterpretq_bf16_f32(x.v); }

    // The lanes of low and high side by side.
    static F32 join(F32 low, F32 high) {
        const uint16x8_t a = vreinterpretq_u16_bf16(vcvtq_low_bf16_f32(low.v));
        const uint16x8_t b = vreinterpretq_u16_bf16(vcvtq_low_bf16_f32(high.v));
        return {vreinterpretq_f32_u16(vzip1q_u16(a, b))};
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
        const auto together = [](F32 first, F32 second) {
            return F32{vreinterpretq_f32_bf16(vcvtq_high_bf16_f32(vcvtq_low_bf16_f32(first.v), second.v))};
        };
        constexpr int64_t kStep = 2 * F32::kLanes;
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

    // 2^x = 2^floor(x) * 2^r, error 2^-13.5 (README.md); 0 below 2^-126, so for a hidden score too, -inf.
    static F32 weight(F32 x) {
        const F32 lowest = F32::all(-126.0f), clamped = max(lowest, x);  // NaN goes through
        const F32 n{vrndmq_f32(clamped.v)};
        const F32 r = clamped - n;
        F32 p = F32::all(0.077067042f);
        p = fma(p, r, F32::all(0.227644991f));
        p = fma(p, r, F32::all(0.695116786f));
        p = fma(p, r, F32::all(1.0f));
        return select_less(x, lowest, F32::zero(), scale_by_power_of_2(p, n));
    }
    // sum + a[high] * b[high] + a[low] * b[low]
    static F32 multiply_add(F32 a, F32 b, F32 sum) { return {vbfdotq_f32(sum.v, units_of(b), units_of(a))}; }
    template <int kLane>
    static F32 multiply_add_lane(F32 a, F32 b, F32 sum) {
        return {vbfdotq_laneq_f32(sum.v, units_of(b), units_of(a), kLane)};
    }
};

// The same where rows come as bf16: whole registers of units, which need no rounding.
struct StoredPairs : Pairs {
    static constexpr bool kIsPlain = true;
    static int64_t row_floats(int64_t dim) { return units(dim); }

    static void unpack_row(const float* row, int64_t dim, float* out) {
        for (int64_t d = 0; d < dim; d += F32::kLanes) {
            const uint16x4_t bits = vreinterpret_u16_f32(vld1_f32(row + d / 2));
            vst1q_u32(reinterpret_cast<uint32_t*>(out + d), vshll_n_u16(bits, 16));
        }
    }

    static void pack_row(const float* row, int64_t dim, float* out) {
        for (int64_t d = 0; d < units(dim); d += F32::kLanes) F32::load(row + d).store(out + d);
    }

    static void join_rows(const float* low, const float* high, int64_t dim, float* out) {
        for (int64_t d = 0; d < dim; d += 2 * F32::kLanes) {
            const uint16x8_t a = vreinterpretq_u16_f32(F32::load(low + d / 2).v);
            const uint16x8_t b = vreinterpretq_u16_f32(high == nullptr ? F32::zero().v : F32::load(high + d / 2).v);
            F32{vreinterpretq_f32_u16(vzip1q_u16(a, b))}.store(out + d);
            F32{vreinterpretq_f32_u16(vzip2q_u16(a, b))}.store(out + d + F32::kLanes);
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

}  // namespace longspan::neon_i8mm
