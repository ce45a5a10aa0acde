// What linear needs of AVX2 beside F32: whole-number lanes, and the products of narrow values.
// Compiled for two instruction sets; AVX-VNNI has one instruction where AVX2 needs several.
#pragma once

#include "core/simd_avx2.h"
#include "linear/linear.h"

namespace longspan::LONGSPAN_ISA {
namespace {

struct I32 {
    // Not __m256i, which is of 64-bit numbers: GCC would keep arrays of these in memory.
    using Vector = int __attribute__((vector_size(32)));
    Vector v;

    I32() = default;
    I32(__m256i bits) : v(reinterpret_cast<Vector>(bits)) {}
    operator __m256i() const { return reinterpret_cast<__m256i>(v); }

    static I32 zero() { return _mm256_setzero_si256(); }
    static I32 all(Word x) { return _mm256_set1_epi32(static_cast<int>(x)); }
    static I32 load(const void* p) { return _mm256_loadu_si256(static_cast<const __m256i*>(p)); }
    void store(void* p) const { _mm256_storeu_si256(static_cast<__m256i*>(p), *this); }

    friend I32 operator+(I32 a, I32 b) { return _mm256_add_epi32(a, b); }
    friend I32 operator-(I32 a, I32 b) { return _mm256_sub_epi32(a, b); }
    friend I32 operator*(I32 a, I32 b) { return _mm256_mullo_epi32(a, b); }
};
inline F32 to_float(I32 a) {
    return {_mm256_cvtepi32_ps(a)};
}

// Pairs of bf16, widened to f32 as they are loaded: first the low half of each word, then the high one.
struct Bf16Product {
    static constexpr int kParts = 2;
    template <int kPart>
    static F32 load(const Word* p) {
        const __m256i words = I32::load(p);
        // The low half by a shuffle, not a shift, which would wait for the multipliers' ports; and its order from
        // memory, since the sums leave it no register, which compilers do not see.
        if constexpr (kPart == 0) {
            alignas(32) static constexpr uint64_t kLowHalves[4] = {0x0504808001008080, 0x0d0c808009088080,
                                                                   0x0504808001008080, 0x0d0c808009088080};
            __m256i low;
            __asm__("vpshufb %2, %1, %0" : "=x"(low) : "x"(words), "m"(kLowHalves));
            return {_mm256_castsi256_ps(low)};
        }
        const __m256i bits = _mm256_and_si256(words, _mm256_set1_epi32(-65536));
        return {_mm256_castsi256_ps(bits)};
    }
};

// Four u8 times s8 each, summed.
#ifdef __AVXVNNI__
struct Int8Product {
    static constexpr int kParts = 1;
    template <int>
    static I32 load(const Word* p) {
        return I32::load(p);
    }
    static I32 add(I32 sum, I32 x, I32 w) { return _mm256_dpbusd_avx_epi32(sum, x, w); }
    template <int>
    static Word part(Word x) {
        return x;
    }
};
#else
// As pairs of 16 bits, whose products and their sum are exact (those of vpmaddubsw are
// cut at 2^15): first bytes 0 and 2 of each word, then 1 and 3.
struct Int8Product {
    static constexpr int kParts = 2;
    template <int kPart>
    static I32 load(const Word* p) {
        const __m256i words = I32::load(p);
        return _mm256_srai_epi16(kPart == 0 ? _mm256_slli_epi16(words, 8) : words, 8);
    }
    static I32 add(I32 sum, I32 x, I32 w) {
        I32 total = _mm256_add_epi32(sum, _mm256_madd_epi16(x, w));
        __asm__("" : "+x"(total.v));  // GCC would reorder whole sums, for which there are too few registers
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
    if constexpr (kStep == 1) return {_mm256_permute_ps(a.v, 0xb1)};
    if constexpr (kStep == 2) return {_mm256_permute_ps(a.v, 0x4e)};
    if constexpr (kStep == 4) return {_mm256_permute2f128_ps(a.v, a.v, 0x01)};
}

// Rounds kLanes numbers, from 0 to 256, to bytes; 256 becomes 255.
inline void store_bytes(F32 a, uint8_t* to) {
    const __m256i wide = _mm256_cvtps_epi32(a.v);
    const __m128i narrow = _mm_packs_epi32(_mm256_castsi256_si128(wide), _mm256_extracti128_si256(wide, 1));
    _mm_storel_epi64(reinterpret_cast<__m128i*>(to), _mm_packus_epi16(narrow, narrow));
}

}  // namespace
}  // namespace longspan::LONGSPAN_ISA
