// Four words a register; bits are counted by looking up half bytes.
#include <immintrin.h>

#include <cstdint>

#include "core/tensor_view.h"
#include "hamming/hamming.h"

#define LONGSPAN_ISA avx2

namespace longspan::avx2 {
namespace {

struct Words {
    static constexpr int64_t kLanes = 4;
    __m256i v;

    static Words load(const uint64_t* p) { return {_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p))}; }
    static Words all(uint64_t x) { return {_mm256_set1_epi64x(static_cast<int64_t>(x))}; }
    void store(uint64_t* p) const { _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), v); }
    void store_int32(int32_t* p) const {
        const __m256i even = _mm256_setr_epi32(0, 2, 4, 6, 0, 2, 4, 6);
        const __m128i low = _mm256_castsi256_si128(_mm256_permutevar8x32_epi32(v, even));
        _mm_storeu_si128(reinterpret_cast<__m128i*>(p), low);
    }
    uint64_t within(Words limit) const {
        const __m256i above = _mm256_cmpgt_epi64(v, limit.v);
        return static_cast<uint64_t>(~_mm256_movemask_pd(_mm256_castsi256_pd(above)) & 0xf);
    }
    friend Words least(Words a, Words b) { return {_mm256_min_epu32(a.v, b.v)}; }
    friend Words operator^(Words a, Words b) { return {_mm256_xor_si256(a.v, b.v)}; }
    friend Words operator+(Words a, Words b) { return {_mm256_add_epi64(a.v, b.v)}; }
};

struct Counter {
    static constexpr int64_t kMaxWords = 31;  // 8 bits a byte each: 31 of them stay below 256

    static Words count(Words x) {                                                               // in each byte
        const __m256i table = _mm256_setr_epi8(0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4,  //
                                               0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4);
        const __m256i half = _mm256_set1_epi8(0x0f);
        const __m256i low = _mm256_shuffle_epi8(table, _mm256_and_si256(x.v, half));
        const __m256i high = _mm256_shuffle_epi8(table, _mm256_and_si256(_mm256_srli_epi16(x.v, 4), half));
        return {_mm256_add_epi8(low, high)};
    }
    static Words total(Words counts) { return {_mm256_sad_epu8(counts.v, _mm256_setzero_si256())}; }
};

constexpr int64_t kVectors = 4;

// One word of a code of which `bytes` are left; less than 8 are filled up with zeros.
inline uint64_t read_word(const uint8_t* code, int64_t bytes) {
    if (bytes >= 8) {
        return static_cast<uint64_t>(_mm_cvtsi128_si64(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(code))));
    }
    uint64_t word = 0;
    for (int64_t i = 0; i < bytes; ++i) word |= uint64_t{code[i]} << (8 * i);
    return word;
}

inline __m256i load_words(const uint8_t* code) {
    return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(code));
}

inline void store_words(uint64_t* target, __m256i words) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(target), words);
}

inline void prefetch(const uint8_t* code) {
    _mm_prefetch(reinterpret_cast<const char*>(code), _MM_HINT_T0);
}

// 4 codes by 4 words, in registers.
inline void transpose_4x4(const uint8_t* const* codes, int64_t at, uint64_t* words) {
    const __m256i a = load_words(codes[0] + at), b = load_words(codes[1] + at);
    const __m256i c = load_words(codes[2] + at), d = load_words(codes[3] + at);
    const __m256i ab_even = _mm256_unpacklo_epi64(a, b), ab_odd = _mm256_unpackhi_epi64(a, b);
    const __m256i cd_even = _mm256_unpacklo_epi64(c, d), cd_odd = _mm256_unpackhi_epi64(c, d);
    store_words(words, _mm256_permute2x128_si256(ab_even, cd_even, 0x20));
    store_words(words + kCodesPerBlock, _mm256_permute2x128_si256(ab_odd, cd_odd, 0x20));
    store_words(words + 2 * kCodesPerBlock, _mm256_permute2x128_si256(ab_even, cd_even, 0x31));
    store_words(words + 3 * kCodesPerBlock, _mm256_permute2x128_si256(ab_odd, cd_odd, 0x31));
}

void transpose(const MatrixView<const uint8_t>& codes, int64_t first, int64_t count, int64_t first_byte,
               int64_t last_byte, uint64_t* block) {
    for (int64_t i = 0; i < count; i += 4) {
        const uint8_t* code[4];  // lanes past the last code repeat it; nobody looks at them
        for (int64_t j = 0; j < 4; ++j) code[j] = codes.row(first + (i + j < count ? i + j : count - 1)) + first_byte;
        for (int64_t at = 0; at < last_byte - first_byte;) {
            const int64_t bytes = last_byte - first_byte - at;
            uint64_t* words = block + at / 8 * kCodesPerBlock + i;
            if (at % 64 == 0) {  // what comes next, on its way from memory while this is worked on
                for (int j = 0; j < 4; ++j) prefetch(code[j] + at + kPrefetchBytes);
            }
            if (bytes >= 32) {
                transpose_4x4(code, at, words);
                at += 32;
            } else {
                for (int64_t j = 0; j < 4; ++j) words[j] = read_word(code[j] + at, bytes);
                at += 8;
            }
        }
    }
}

}  // namespace
}  // namespace longspan::avx2

#include "hamming/kernel.h"

#include "hamming/avx2_tables.h"
