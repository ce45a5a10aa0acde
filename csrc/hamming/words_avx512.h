// Eight words a register, for avx512.cpp and avx512_vnni.cpp, each of which names its LONGSPAN_ISA before.
#pragma once

#include <immintrin.h>

#include <cstdint>

#include "core/tensor_view.h"
#include "hamming/hamming.h"

namespace longspan::LONGSPAN_ISA {
namespace {

struct Words {
    static constexpr int64_t kLanes = 8;
    __m512i v;

    static Words load(const uint64_t* p) { return {_mm512_loadu_si512(p)}; }
    static Words all(uint64_t x) { return {_mm512_set1_epi64(static_cast<int64_t>(x))}; }
    void store(uint64_t* p) const { _mm512_storeu_si512(p, v); }
    void store_int32(int32_t* p) const { _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), _mm512_cvtepi64_epi32(v)); }
    uint64_t within(Words limit) const { return _mm512_cmple_epi64_mask(v, limit.v); }
    friend Words least(Words a, Words b) { return {_mm512_min_epu32(a.v, b.v)}; }
    friend Words operator^(Words a, Words b) { return {_mm512_xor_si512(a.v, b.v)}; }
    friend Words operator+(Words a, Words b) { return {_mm512_add_epi64(a.v, b.v)}; }
};

constexpr int64_t kVectors = 8;

// 8 codes by 8 words: word w of code j goes to lane j of words[w].
inline void transpose_8x8(const __m512i* codes, __m512i* words) {
    __m512i pairs[8];  // words 0, 2, 4, 6 (or 1, 3, 5, 7) of two codes
    for (int j = 0; j < 4; ++j) {
        pairs[2 * j] = _mm512_unpacklo_epi64(codes[2 * j], codes[2 * j + 1]);
        pairs[2 * j + 1] = _mm512_unpackhi_epi64(codes[2 * j], codes[2 * j + 1]);
    }
    for (int odd = 0; odd < 2; ++odd) {
        const __m512i low_04 = _mm512_shuffle_i64x2(pairs[odd], pairs[2 + odd], 0x88);  // words 0, 4 of codes 0 .. 3
        const __m512i low_26 = _mm512_shuffle_i64x2(pairs[odd], pairs[2 + odd], 0xdd);
        const __m512i high_04 = _mm512_shuffle_i64x2(pairs[4 + odd], pairs[6 + odd], 0x88);  // of codes 4 .. 7
        const __m512i high_26 = _mm512_shuffle_i64x2(pairs[4 + odd], pairs[6 + odd], 0xdd);
        words[odd] = _mm512_shuffle_i64x2(low_04, high_04, 0x88);
        words[2 + odd] = _mm512_shuffle_i64x2(low_26, high_26, 0x88);
        words[4 + odd] = _mm512_shuffle_i64x2(low_04, high_04, 0xdd);
        words[6 + odd] = _mm512_shuffle_i64x2(low_26, high_26, 0xdd);
    }
}

inline void prefetch(const uint8_t* code) {
    _mm_prefetch(reinterpret_cast<const char*>(code), _MM_HINT_T0);
}

// `width` bytes (up to 64) at column `at` of 8 codes. Where `is_inside`, 64 bytes from there on lie within the array of
// codes, and plain loads read them all: masked ones are several times slower here.
inline void transpose_part(const uint8_t* const* codes, int64_t at, int64_t width, bool is_inside, uint64_t* target) {
    __m512i rows[8], words[8];
    if (is_inside) {
        for (int j = 0; j < 8; ++j) rows[j] = _mm512_loadu_si512(codes[j] + at);
    } else {
        const __mmask64 bytes = ~__mmask64{0} >> (64 - width);
        for (int j = 0; j < 8; ++j) rows[j] = _mm512_maskz_loadu_epi8(bytes, codes[j] + at);
    }
    transpose_8x8(rows, words);
    const int64_t num_words = (width + 7) / 8;
    for (int word = 0; word < 8; ++word) {
        if (word >= num_words) break;
        const bool is_cut = word == width / 8;  // the last word of a code that is no whole number of them
        if (is_cut) words[word] = _mm512_and_si512(words[word], _mm512_set1_epi64((int64_t{1} << (width % 8 * 8)) - 1));
        _mm512_storeu_si512(target + word * kCodesPerBlock, words[word]);
    }
}

// 8 codes of 4 words that lie one behind the other, two to a register.
inline void transpose_8x4(const uint8_t* codes, uint64_t* target) {
    __m512i pairs[4];  // codes 0 and 1, 2 and 3, ...
    for (int j = 0; j < 4; ++j) pairs[j] = _mm512_loadu_si512(codes + 64 * j);
    const __m512i first_words = _mm512_setr_epi64(0, 4, 1, 5, 8, 12, 9, 13);
    const __m512i last_words = _mm512_setr_epi64(2, 6, 3, 7, 10, 14, 11, 15);
    const __m512i low_even = _mm512_unpacklo_epi64(pairs[0], pairs[1]);  // words 0 and 2 of codes 0 .. 3
    const __m512i high_even = _mm512_unpacklo_epi64(pairs[2], pairs[3]);
    const __m512i low_odd = _mm512_unpackhi_epi64(pairs[0], pairs[1]);
    const __m512i high_odd = _mm512_unpackhi_epi64(pairs[2], pairs[3]);
    _mm512_storeu_si512(target, _mm512_permutex2var_epi64(low_even, first_words, high_even));
    _mm512_storeu_si512(target + kCodesPerBlock, _mm512_permutex2var_epi64(low_odd, first_words, high_odd));
    _mm512_storeu_si512(target + 2 * kCodesPerBlock, _mm512_permutex2var_epi64(low_even, last_words, high_even));
    _mm512_storeu_si512(target + 3 * kCodesPerBlock, _mm512_permutex2var_epi64(low_odd, last_words, high_odd));
}

void transpose(const MatrixView<const uint8_t>& codes, int64_t first, int64_t count, int64_t first_byte,
               int64_t last_byte, uint64_t* block) {
    if (codes.cols == 32 && codes.row_stride == 32 && count == kCodesPerBlock) {
        for (int64_t i = 0; i < count; i += 8) {
            const uint8_t* eight = codes.row(first + i);
            for (int64_t line = 0; line < 256; line += 64) prefetch(eight + kPrefetchBytes + line);
            transpose_8x4(eight, block + i);
        }
        return;
    }
    if (codes.cols == 8 && codes.row_stride == 8 && count == kCodesPerBlock) {  // words by lane already
        for (int64_t i = 0; i < count; i += 8) _mm512_storeu_si512(block + i, _mm512_loadu_si512(codes.row(first + i)));
        return;
    }
    const bool is_rising = codes.row_stride >= 0;
    const uint8_t* end = codes.row(is_rising ? codes.rows - 1 : 0) + codes.cols;
    const int64_t rows_per_line = codes.row_stride > 0 && codes.row_stride < 64 ? 64 / codes.row_stride : 1;
    for (int64_t i = 0; i < count; i += 8) {
        const uint8_t* code[8];  // lanes past the last code repeat it; nobody looks at them
        for (int64_t j = 0; j < 8; ++j) code[j] = codes.row(first + (i + j < count ? i + j : count - 1));
        const uint8_t* highest = is_rising ? code[7] : code[0];
        for (int64_t at = first_byte; at < last_byte; at += 64) {
            // What comes next, on its way from memory while this is worked on.
            for (int64_t j = 0; j < 8; j += rows_per_line) prefetch(code[j] + at + kPrefetchBytes);
            const int64_t width = last_byte - at < 64 ? last_byte - at : 64;
            uint64_t* words = block + (at - first_byte) / 8 * kCodesPerBlock + i;
            transpose_part(code, at, width, end - (highest + at) >= 64, words);
        }
    }
}

}  // namespace
}  // namespace longspan::LONGSPAN_ISA
