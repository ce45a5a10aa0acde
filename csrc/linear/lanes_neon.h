// What linear needs of NEON beside F32: whole-number lanes, and the products of narrow values.
// Compiled for three instruction sets; the better ones have one instruction where plain NEON needs several. Their files
// say which (LONGSPAN_DOTPROD, LONGSPAN_I8MM), not the compiler: what it may use everywhere is more on Apple's
// processors.
#pragma once

#include "core/simd_neon.h"
#include "linear/linear.h"

namespace longspan::LONGSPAN_ISA {
namespace {

struct I32 {
    int32x4_t v;

    static I32 zero() { return {vdupq_n_s32(0)}; }
    static I32 all(Word x) { return {vreinterpretq_s32_u32(vdupq_n_u32(x))}; }
    static I32 load(const void* p) { return {vld1q_s32(static_cast<const int32_t*>(p))}; }
    void store(void* p) const { vst1q_s32(static_cast<int32_t*>(p), v); }

    friend I32 operator+(I32 a, I32 b) { return {vaddq_s32(a.v, b.v)}; }
    friend I32 operator-(I32 a, I32 b) { return {vsubq_s32(a.v, b.v)}; }
    friend I32 operator*(I32 a, I32 b) { return {vmulq_s32(a.v, b.v)}; }
};
inline F32 to_float(I32 a) {
    return {vcvtq_f32_s32(a.v)};
}

// The halves of two registers side by side.
inline int32x4_t low_halves(int32x4_t a, int32x4_t b) {
    return vreinterpretq_s32_s64(vzip1q_s64(vreinterpretq_s64_s32(a), vreinterpretq_s64_s32(b)));
}
inline int32x4_t high_halves(int32x4_t a, int32x4_t b) {
    return vreinterpretq_s32_s64(vzip2q_s64(vreinterpretq_s64_s32(a), vreinterpretq_s64_s32(b)));
}
inline I32 low_halves(I32 a, I32 b) {
    return {low_halves(a.v, b.v)};
}
inline I32 high_halves(I32 a, I32 b) {
    return {high_halves(a.v, b.v)};
}
inline F32 low_halves(F32 a, F32 b) {
    return {vreinterpretq_f32_s32(low_halves(vreinterpretq_s32_f32(a.v), vreinterpretq_s32_f32(b.v)))};
}
inline F32 high_halves(F32 a, F32 b) {
    return {vreinterpretq_f32_s32(high_halves(vreinterpretq_s32_f32(a.v), vreinterpretq_s32_f32(b.v)))};
}

// The first two words, and zeros.
inline I32 load_half(const Word* p) {
    return {vreinterpretq_s32_u32(vcombine_u32(vld1_u32(p), vdup_n_u32(0)))};
}

// Pairs of bf16.
#ifdef LONGSPAN_I8MM
// Pairs of rows by pairs of columns, four values each: products, their sums and the sums so far are rounded to odd, and
// numbers below 2^-126 count as zeros.
struct Bf16Product {
    static constexpr int kParts = 1;
    static I32 lanes(const Word* p) { return I32::load(p); }
    static I32 half_of_lanes(const Word* p) { return load_half(p); }
    static F32 add_pair(F32 sum, I32 x, I32 w) {
        return {vbfmmlaq_f32(sum.v, vreinterpretq_bf16_s32(x.v), vreinterpretq_bf16_s32(w.v))};
    }
    // Whole words, two at a time.
    static void stage(const float* x, int64_t count, Word* staged) {
        for (; count > 0; count -= F32::kLanes, x += F32::kLanes, staged += 2) {
            const F32 values = count >= F32::kLanes ? F32::load(x) : F32::load_first(x, count);
            vst1_u32(staged, vreinterpret_u32_bf16(vcvt_bf16_f32(values.v)));
        }
    }
};
#else
// Widened to f32 as they are loaded: first the low half of each word, then the high one.
struct Bf16Product {
    static constexpr int kParts = 2;
    template <int kPart>
    static F32 load(const Word* p) {
        const uint32x4_t words = vld1q_u32(p);
        return {vreinterpretq_f32_u32(kPart == 0 ? vshlq_n_u32(words, 16) : vandq_u32(words, vdupq_n_u32(~0xffffu)))};
    }
};
#endif

// Four u8 times s8 each, summed.
#if defined(LONGSPAN_I8MM)
// Pairs of rows by pairs of columns, eight values each.
struct Int8Product {
    static constexpr int kParts = 1;
    static I32 half_of_lanes(const Word* p) { return load_half(p); }
    static I32 add_pair(I32 sum, I32 x, I32 w) {
        return {vusmmlaq_s32(sum.v, vreinterpretq_u8_s32(x.v), vreinterpretq_s8_s32(w.v))};
    }
    template <int>
    static Word part(Word x) {
        return x;
    }
};
#elif defined(LONGSPAN_DOTPROD)
// Both signed: x is staged less 128.
struct Int8Product {
    static constexpr int kParts = 1;
    static constexpr int32_t kOffset = 128;
    template <int>
    static I32 load(const Word* p) {
        return I32::load(p);
    }
    static I32 add(I32 sum, I32 x, I32 w) {
        return {vdotq_s32(sum.v, vreinterpretq_s8_s32(w.v), vreinterpretq_s8_s32(x.v))};
    }
    template <int>
    static Word part(Word x) {
        return x;
    }
};
// sum + the products of word kLane of x and each word of w.
template <int kLane>
inline I32 add_by_lane(I32 sum, I32 x, I32 w) {
    return {vdotq_laneq_s32(sum.v, vreinterpretq_s8_s32(w.v), vreinterpretq_s8_s32(x.v), kLane)};
}
#else
// Both signed, x staged less 128. SMULL's products are of 16 bits, of which two add up without overflow: 2 * 128 * 127
// < 2^15. So two words of a column meet two words of x, each of which is staged twice, and SADALP takes their sums.
struct Int8Product {
    static constexpr int kParts = 2;  // the same word again
    static constexpr int32_t kOffset = 128;

    // Of four columns: two sums of 32 bits each, those of columns 0 and 1, then 2 and 3.
    struct OwnSum {
        int32x4_t first, second;

        static OwnSum zero() { return {vdupq_n_s32(0), vdupq_n_s32(0)}; }
        static OwnSum load(const void* p) {
            const int32x4_t sums = vld1q_s32(static_cast<const int32_t*>(p)), zeros = vdupq_n_s32(0);
            return {vzip1q_s32(sums, zeros), vzip2q_s32(sums, zeros)};
        }
        void store(void* p) const { vst1q_s32(static_cast<int32_t*>(p), vpaddq_s32(first, second)); }
        friend OwnSum operator+(OwnSum a, OwnSum b) {
            return {vaddq_s32(a.first, b.first), vaddq_s32(a.second, b.second)};
        }
    };
    // Two words each of columns 0 and 1, then 2 and 3.
    struct Four {
        int8x16_t first, second;
    };
    struct Words {
        Four low, high;
    };
    static Four join(const Word* p, const Word* next) {
        const int32x4_t a = I32::load(p).v, b = I32::load(next).v;
        return {vreinterpretq_s8_s32(low_halves(a, b)), vreinterpretq_s8_s32(high_halves(a, b))};
    }
    static Words load_words(const Word* p) {
        constexpr int64_t kColumns = 2 * F32::kLanes;
        return {join(p, p + kColumns), join(p + F32::kLanes, p + kColumns + F32::kLanes)};
    }
    static int32x4_t add(int32x4_t sum, int8x16_t x, int8x16_t w) {
        const int16x8_t products = vmull_s8(vget_low_s8(w), vget_low_s8(x));
        return vpadalq_s16(sum, vmlal_high_s8(products, w, x));
    }
    static OwnSum add(OwnSum sum, I32 x, const Four& w) {
        const int8x16_t bytes = vreinterpretq_s8_s32(x.v);
        return {add(sum.first, bytes, w.first), add(sum.second, bytes, w.second)};
    }
    template <int>
    static Word part(Word x) {
        return x;
    }
};
#endif

// Lane i <-> lane i ^ kStep.
template <int kStep>
inline F32 exchange(F32 a) {
    if constexpr (kStep == 1) return {vrev64q_f32(a.v)};
    if constexpr (kStep == 2) return {vextq_f32(a.v, a.v, 2)};
}

// Rounds kLanes numbers, from 0 to 256, to bytes, less the product's offset; 256 becomes 255.
inline void store_bytes(F32 a, uint8_t* to) {
    const uint16x4_t narrow = vmovn_u32(vcvtnq_u32_f32(a.v));
    uint8x8_t bytes = vqmovn_u16(vcombine_u16(narrow, narrow));
#ifndef LONGSPAN_I8MM
    bytes = veor_u8(bytes, vdup_n_u8(Int8Product::kOffset));
#endif
    vst1_lane_u32(reinterpret_cast<uint32_t*>(to), vreinterpret_u32_u8(bytes), 0);
}

}  // namespace
}  // namespace longspan::LONGSPAN_ISA
