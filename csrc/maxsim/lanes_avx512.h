// What maxsim needs of AVX-512 beside F32: whole-number lanes and the widening of narrow formats.
// Compiled for three instruction sets; the better ones have one instruction where plain AVX-512 needs several.
#pragma once

#include <cstddef>
#include <cstring>

#include "core/simd_avx512.h"
#include "maxsim/maxsim.h"

namespace longspan::LONGSPAN_ISA {
namespace {

constexpr int kRowsAtOnce = 12;  // 24 sums, 2 registers of queries, 1 broadcast value: 27 of 32 registers

struct I32 {
    // Not __m512i, which is of 64-bit numbers: GCC would keep arrays of these in memory.
    using Vector = int __attribute__((vector_size(64)));
    Vector v;

    I32() = default;
    I32(__m512i bits) : v(reinterpret_cast<Vector>(bits)) {}
    operator __m512i() const { return reinterpret_cast<__m512i>(v); }

    static I32 zero() { return _mm512_setzero_si512(); }
    static I32 load(const std::byte* p) { return _mm512_loadu_si512(p); }
    static I32 broadcast(const std::byte* p) {
        int value;
        std::memcpy(&value, p, sizeof value);
        return _mm512_set1_epi32(value);
    }
};
inline I32 max(I32 a, I32 b) {
    return _mm512_max_epi32(a, b);
}
inline I32 min(I32 a, I32 b) {
    return _mm512_min_epi32(a, b);
}
inline F32 to_float(I32 a) {
    return {_mm512_cvtepi32_ps(a)};
}

// sum + a[low] * b[low] + a[high] * b[high], the halves of a lane taken as int16.
inline I32 add_i16_products(I32 sum, I32 a, I32 b) {
#ifdef __AVX512VNNI__
    return _mm512_dpwssd_epi32(sum, a, b);
#else
    return _mm512_add_epi32(sum, _mm512_madd_epi16(a, b));
#endif
}

// sum + the number of bits in which a and b differ.
inline I32 add_differing_bits(I32 sum, I32 a, I32 b) {
    const __m512i bits = _mm512_xor_si512(a, b);
#ifdef __AVX512VPOPCNTDQ__
    return _mm512_add_epi32(sum, _mm512_popcnt_epi32(bits));
#else
    const __m512i ones_in = _mm512_broadcast_i32x4(_mm_setr_epi8(0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4));
    const __m512i nibble = _mm512_set1_epi8(15);
    const __m512i low = _mm512_shuffle_epi8(ones_in, _mm512_and_si512(bits, nibble));
    const __m512i high = _mm512_shuffle_epi8(ones_in, _mm512_and_si512(_mm512_srli_epi16(bits, 4), nibble));
    const __m512i pairs = _mm512_maddubs_epi16(_mm512_add_epi8(low, high), _mm512_set1_epi8(1));
    return _mm512_add_epi32(sum, _mm512_madd_epi16(pairs, _mm512_set1_epi16(1)));
#endif
}

// NaN where a or b is, else poison.
inline F32 nan_where_unordered(F32 a, F32 b, F32 poison) {
    const __m512 nan = _mm512_castsi512_ps(_mm512_set1_epi32(0x7fc00000));
    return {_mm512_mask_blend_ps(_mm512_cmp_ps_mask(a.v, b.v, _CMP_UNORD_Q), poison.v, nan)};
}

// F32::kLanes values to f32.
inline F32 load_f16(const std::byte* p) {
    return {_mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)))};
}
inline F32 load_bf16(const std::byte* p) {
    const __m256i bits = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
    return {_mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(bits), 16))};
}

// 2 * F32::kLanes values to int16: int8 values, or sign codes as +1 and -1, least significant bit first.
inline void widen_i8(const std::byte* from, std::byte* to) {
    _mm512_storeu_si512(to, _mm512_cvtepi8_epi16(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(from))));
}
inline void widen_codes(const std::byte* from, std::byte* to) {
    __mmask32 bits;
    std::memcpy(&bits, from, sizeof bits);
    _mm512_storeu_si512(to, _mm512_mask_blend_epi16(bits, _mm512_set1_epi16(-1), _mm512_set1_epi16(1)));
}

}  // namespace
}  // namespace longspan::LONGSPAN_ISA
