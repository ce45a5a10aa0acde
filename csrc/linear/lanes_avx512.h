// What linear needs of AVX-512 beside F32: whole-number lanes, and the products of narrow values.
// Compiled for three instruction sets; the better ones have one instruction where plain AVX-512 needs several.
#pragma once

#include "core/simd_avx512.h"
#include "linear/linear.h"

namespace longspan::LONGSPAN_ISA {
namespace {

struct I32 {
    // Not __m512i, which is of 64-bit numbers: GCC would keep arrays of these in memory.
    using Vector = int __attribute__((vector_size(64)));
    Vector v;

    I32() = default;
    I32(__m512i bits) : v(reinterpret_cast<Vector>(bits)) {}
    operator __m512i() const { return reinterpret_cast<__m512i>(v); }

    static I32 zero() { return _mm512_setzero_si512(); }
    static I32 all(Word x) { return _mm512_set1_epi32(static_cast<int>(x)); }
    static I32 load(const void* p) { return _mm512_loadu_si512(p); }
    void store(void* p) const { _mm512_storeu_si512(p, *this); }

    friend I32 operator+(I32 a, I32 b) { return _mm512_add_epi32(a, b); }
    friend I32 operator-(I32 a, I32 b) { return _mm512_sub_epi32(a, b); }
    friend I32 operator*(I32 a, I32 b) { return _mm512_mullo_epi32(a, b); }
};
inline F32 to_float(I32 a) {
    return {_mm512_cvtepi32_ps(a)};
}

// Pairs of bf16.
#ifdef __AVX512BF16__
struct Bf16Product {
    static constexpr int kParts = 1;
    template <int>
    static I32 load(const Word* p) {
        return I32::load(p);
    }
    static I32 broadcast(Word x) { return I32::all(x); }
    static F32 add(F32 sum, I32 x, I32 w) {
        return {_mm512_dpbf16_ps(sum.v, reinterpret_cast<__m512bh>(x.v), reinterpret_cast<__m512bh>(w.v))};
    }
    // Writes whole registers: up to 15 words past the last one.
    static void stage(const float* x, int64_t count, Word* staged) {
        constexpr int64_t kBoth = 2 * F32::kLanes;
        for (; count > 0; count -= kBoth, x += kBoth, staged += F32::kLanes) {
            F32 low, high;
            if (count >= kBoth) {
                low = F32::load(x);
                high = F32::load(x + F32::kLanes);
            } else {
                const int64_t more = count > F32::kLanes ? count - F32::kLanes : 0;
                low = F32::load_first(x, count - more);
                high = F32::load_first(x + F32::kLanes, more);
            }
            _mm512_storeu_si512(staged, reinterpret_cast<__m512i>(_mm512_cvtne2ps_pbh(high.v, low.v)));
        }
    }
};
#else
// Widened to f32 as they are loaded: first the low half of each word, then the high one.
struct Bf16Product {
    static constexpr int kParts = 2;
    template <int kPart>
    static F32 load(const Word* p) {
        const __m512i words = I32::load(p);
        const __m512i bits =
            kPart == 0 ? _mm512_slli_epi32(words, 16) : _mm512_and_si512(words, _mm512_set1_epi32(-65536));
        return {_mm512_castsi512_ps(bits)};
    }
};
#endif

// Four u8 times s8 each, summed.
#ifdef __AVX512VNNI__
struct Int8Product {
    static constexpr int kParts = 1;
    template <int>
    static I32 load(const Word* p) {
        return I32::load(p);
    }
    static I32 add(I32 sum, I32 x, I32 w) { return _mm512_dpbusd_epi32(sum, x, w); }
    template <int>
    static Word part(Word x) {
        return x;
    }
};
#else
// As pairs of 16 bits, whose products and their sum are exact (those of vpmaddubsw are cut at 2^15): first bytes 0 and
// 2 of each word, then 1 and 3.
struct Int8Product {
    static constexpr int kParts = 2;
    template <int kPart>
    static I32 load(const Word* p) {
        const __m512i words = I32::load(p);
        return _mm512_srai_epi16(kPart == 0 ? _mm512_slli_epi16(words, 8) : words, 8);
    }
    static I32 add(I32 sum, I32 x, I32 w) {
        I32 total = _mm512_add_epi32(sum, _mm512_madd_epi16(x, w));
        __asm__("" : "+v"(total.v));  // GCC would reorder whole sums, for which there are too few registers
        return total;
    }
    template <int kPart>
    static Word part(Word x) {
        return x >> 8 * kPart & 0x00ff00ffu;
    }
};
#endif

// Lane i <-> lane i ^ kStep.
template <int kStep>
inline F32 exchange(F32 a) {
    if constexpr (kStep == 1) return {_mm512_permute_ps(a.v, 0xb1)};
    if constexpr (kStep == 2) return {_mm512_permute_ps(a.v, 0x4e)};
    if constexpr (kStep == 4) return {_mm512_shuffle_f32x4(a.v, a.v, 0xb1)};
    if constexpr (kStep == 8) return {_mm512_shuffle_f32x4(a.v, a.v, 0x4e)};
}

// Rounds kLanes numbers, from 0 to 256, to bytes; 256 becomes 255.
inline void store_bytes(F32 a, uint8_t* to) {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(to), _mm512_cvtusepi32_epi8(_mm512_cvtps_epi32(a.v)));
}

}  // namespace
}  // namespace longspan::LONGSPAN_ISA
