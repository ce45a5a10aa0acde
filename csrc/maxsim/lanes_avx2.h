// What maxsim needs of AVX2 beside F32: whole-number lanes and the widening of narrow formats.
// Compiled for two instruction sets; AVX-VNNI has one instruction where AVX2 needs two.
#pragma once

#include <cstddef>
#include <cstring>

#include "core/simd_avx2.h"
#include "maxsim/maxsim.h"

namespace longspan::LONGSPAN_ISA {
namespace {

constexpr int kRowsAtOnce = 6;  // 12 sums, 2 registers of queries, 1 broadcast value: 15 of 16 registers

struct I32 {
    // Not __m256i, which is of 64-bit numbers: GCC would keep arrays of these in memory.
    using Vector = int __attribute__((vector_size(32)));
    Vector v;

    I32() = default;
    I32(__m256i bits) : v(reinterpret_cast<Vector>(bits)) {}
    operator __m256i() const { return reinterpret_cast<__m256i>(v); }

    static I32 zero() { return _mm256_setzero_si256(); }
    static I32 load(const std::byte* p) { return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)); }
    static I32 broadcast(const std::byte* p) {
        int value;
        std::memcpy(&value, p, sizeof value);
        return _mm256_set1_epi32(value);
    }
};
inline I32 max(I32 a, I32 b) {
    return _mm256_max_epi32(a, b);
}
inline I32 min(I32 a, I32 b) {
    return _mm256_min_epi32(a, b);
}
inline F32 to_float(I32 a) {
    return {_mm256_cvtepi32_ps(a)};
}

// sum + a[low] * b[low] + a[high] * b[high], the halves of a lane taken as int16.
inline I32 add_i16_products(I32 sum, I32 a, I32 b) {
#ifdef __AVXVNNI__
    return _mm256_dpwssd_avx_epi32(sum, a, b);
#else
    return _mm256_add_epi32(sum, _mm256_madd_epi16(a, b));
#endif
}

// sum + the number of bits in which a and b differ.
inline I32 add_differing_bits(I32 sum, I32 a, I32 b) {
    const __m256i bits = _mm256_xor_si256(a, b);
    const __m256i ones_in = _mm256_broadcastsi128_si256(_mm_setr_epi8(0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4));
    const __m256i nibble = _mm256_set1_epi8(15);
    const __m256i low = _mm256_shuffle_epi8(ones_in, _mm256_and_si256(bits, nibble));
    const __m256i high = _mm256_shuffle_epi8(ones_in, _mm256_and_si256(_mm256_srli_epi16(bits, 4), nibble));
    const __m256i pairs = _mm256_maddubs_epi16(_mm256_add_epi8(low, high), _mm256_set1_epi8(1));
    return _mm256_add_epi32(sum, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
}

// NaN where a or b is, else poison.
inline F32 nan_where_unordered(F32 a, F32 b, F32 poison) {
    return {_mm256_or_ps(poison.v, _mm256_cmp_ps(a.v, b.v, _CMP_UNORD_Q))};  // all bits set: a NaN
}

// F32::kLanes values to f32.
inline F32 load_f16(const std::byte* p) {
    return {_mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)))};
}
inline F32 load_bf16(const std::byte* p) {
    const __m128i bits = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
    return {_mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(bits), 16))};
}

// 2 * F32::kLanes values to int16: int8 values, or sign codes as +1 and -1, least significant bit first.
inline void widen_i8(const std::byte* from, std::byte* to) {
    const __m128i values = _mm_loadu_si128(reinterpret_cast<const __m128i*>(from));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), _mm256_cvtepi8_epi16(values));
}
inline void widen_codes(const std::byte* from, std::byte* to) {
    short bits;
    std::memcpy(&bits, from, sizeof bits);
    const __m256i place =
        _mm256_setr_epi16(1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384, -32768);
    const __m256i is_clear =
        _mm256_cmpeq_epi16(_mm256_and_si256(_mm256_set1_epi16(bits), place), _mm256_setzero_si256());
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), _mm256_or_si256(is_clear, _mm256_set1_epi16(1)));
}

}  // namespace
}  // namespace longspan::LONGSPAN_ISA
