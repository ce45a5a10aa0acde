// What maxsim needs of NEON beside F32: whole-number lanes and the widening of narrow formats.
// Compiled for three instruction sets; the better ones have one instruction where plain NEON needs several.
// Four units of 8 document tokens and 8 query tokens, counted in GCC 12's code with LLVM 19's models, no sum spilled:
//   f32           64 FMLA                   32.1 cycles, Neoverse N1: 100 % of two a cycle
//   bf16 (i8mm)   64 BFDOT                  32.1 cycles, Neoverse N2: 100 % of two a cycle
//   i8, codes     128 SMLAL, 8 UZP          128.2 cycles, Neoverse N1: 100 % of one a cycle
//   sign codes    64 EOR, CNT, UDOT; 32 DUP 113.1 cycles, Neoverse N1, two vector instructions a cycle: 99 %
//                 (plain NEON: UADDLP and UADALP for UDOT, 145.2 cycles)
#pragma once

#include <cstddef>
#include <cstring>

#include "core/simd_neon.h"
#include "maxsim/maxsim.h"

namespace longspan::LONGSPAN_ISA {
namespace {

constexpr int kRowsAtOnce = 8;  // 16 sums, 2 registers of queries, 8 of documents: 26 of 32 registers

struct I32 {
    int32x4_t v;

    static I32 zero() { return {vdupq_n_s32(0)}; }
    static I32 load(const std::byte* p) {
        return {vreinterpretq_s32_u8(vld1q_u8(reinterpret_cast<const uint8_t*>(p)))};
    }
    static I32 broadcast(const std::byte* p) {
        int32_t value;
        std::memcpy(&value, p, sizeof value);
        return {vdupq_n_s32(value)};
    }
};
inline I32 max(I32 a, I32 b) {
    return {vmaxq_s32(a.v, b.v)};
}
inline I32 min(I32 a, I32 b) {
    return {vminq_s32(a.v, b.v)};
}
inline F32 to_float(I32 a) {
    return {vcvtq_f32_s32(a.v)};
}

// sum + a[low] * b[low] + a[high] * b[high], the halves of a lane taken as int16.
inline I32 add_i16_products(I32 sum, I32 a, I32 b) {
    const int16x8_t x = vreinterpretq_s16_s32(a.v), y = vreinterpretq_s16_s32(b.v);
    const int32x4_t low = vmull_s16(vget_low_s16(x), vget_low_s16(y)), high = vmull_high_s16(x, y);
    return {vaddq_s32(sum.v, vpaddq_s32(low, high))};
}
// The same for lane kLane of each document and all queries: the halves of the queries apart, so that each meets a
// document's half in a lane.
template <int kLane, int kVectors, int kRows>
[[gnu::always_inline]] inline void add_i16_by_lane(I32 (&sums)[kVectors][kRows], const I32 (&docs)[kRows],
                                                   const I32 (&queries)[kVectors]) {
    const int16x8_t first = vreinterpretq_s16_s32(queries[0].v), last = vreinterpretq_s16_s32(queries[kVectors - 1].v);
    const int16x8_t low = vuzp1q_s16(first, last), high = vuzp2q_s16(first, last);
    unroll<kRows>([&](auto r) {
        const int16x8_t doc = vreinterpretq_s16_s32(docs[r].v);
        int32x4_t& sum = sums[0][r].v;
        sum = vmlal_laneq_s16(sum, vget_low_s16(low), doc, 2 * kLane);
        sum = vmlal_laneq_s16(sum, vget_low_s16(high), doc, 2 * kLane + 1);
        if constexpr (kVectors == 2) {
            int32x4_t& next = sums[1][r].v;
            next = vmlal_high_laneq_s16(next, low, doc, 2 * kLane);
            next = vmlal_high_laneq_s16(next, high, doc, 2 * kLane + 1);
        }
    });
}

// sum + the number of bits in which a and b differ.
inline I32 add_differing_bits(I32 sum, I32 a, I32 b) {
    const uint8x16_t ones_in = vcntq_u8(vreinterpretq_u8_s32(veorq_s32(a.v, b.v)));
    const uint32x4_t before = vreinterpretq_u32_s32(sum.v);
#ifdef LONGSPAN_DOTPROD
    return {vreinterpretq_s32_u32(vdotq_u32(before, ones_in, vdupq_n_u8(1)))};
#else
    return {vreinterpretq_s32_u32(vpadalq_u16(before, vpaddlq_u8(ones_in)))};
#endif
}
template <int kLane, int kVectors, int kRows>
[[gnu::always_inline]] inline void add_bits_by_lane(I32 (&sums)[kVectors][kRows], const I32 (&docs)[kRows],
                                                    const I32 (&queries)[kVectors]) {
    unroll<kRows>([&](auto r) {
        const I32 doc{vdupq_laneq_s32(docs[r].v, kLane)};
        unroll<kVectors>([&](auto i) { sums[i][r] = add_differing_bits(sums[i][r], doc, queries[i]); });
    });
}

#ifdef LONGSPAN_I8MM
// sum + a[high] * b[high] + a[low] * b[low], the halves of a lane taken as bf16.
inline F32 add_bf16_products(F32 sum, I32 a, I32 b) {
    return {vbfdotq_f32(sum.v, vreinterpretq_bf16_s32(b.v), vreinterpretq_bf16_s32(a.v))};
}
template <int kLane>
inline F32 add_by_lane(F32 sum, I32 doc, I32 query) {
    return {vbfdotq_laneq_f32(sum.v, vreinterpretq_bf16_s32(query.v), vreinterpretq_bf16_s32(doc.v), kLane)};
}
#endif

// NaN where a or b is, else poison.
inline F32 nan_where_unordered(F32 a, F32 b, F32 poison) {
    const uint32x4_t is_ordered = vandq_u32(vceqq_f32(a.v, a.v), vceqq_f32(b.v, b.v));
    return {vreinterpretq_f32_u32(vornq_u32(vreinterpretq_u32_f32(poison.v), is_ordered))};  // all bits set: a NaN
}

// F32::kLanes values to f32.
inline F32 load_f16(const std::byte* p) {
    return {vcvt_f32_f16(vreinterpret_f16_u8(vld1_u8(reinterpret_cast<const uint8_t*>(p))))};
}
inline F32 load_bf16(const std::byte* p) {
    const uint16x4_t bits = vreinterpret_u16_u8(vld1_u8(reinterpret_cast<const uint8_t*>(p)));
    return {vreinterpretq_f32_u32(vshll_n_u16(bits, 16))};
}

inline void store(std::byte* to, int16x8_t values) {
    vst1q_u8(reinterpret_cast<uint8_t*>(to), vreinterpretq_u8_s16(values));
}
// 2 * F32::kLanes values to int16: int8 values, or sign codes as +1 and -1, least significant bit first.
inline void widen_i8(const std::byte* from, std::byte* to) {
    store(to, vmovl_s8(vld1_s8(reinterpret_cast<const int8_t*>(from))));
}
inline void widen_codes(const std::byte* from, std::byte* to) {
    const int16_t places[] = {1, 2, 4, 8, 16, 32, 64, 128};
    const uint16x8_t is_set = vtstq_s16(vdupq_n_s16(static_cast<int16_t>(*from)), vld1q_s16(places));
    store(to, vbslq_s16(is_set, vdupq_n_s16(1), vdupq_n_s16(-1)));
}

}  // namespace
}  // namespace longspan::LONGSPAN_ISA
