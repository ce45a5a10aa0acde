// AVX-512 without a bit count of its own: half bytes are looked up, as in avx2.cpp.
#define LONGSPAN_ISA avx512

#include "hamming/words_avx512.h"

namespace longspan::avx512 {
namespace {

struct Counter {
    static constexpr int64_t kMaxWords = 31;  // 8 bits a byte each: 31 of them stay below 256

    static Words count(Words x) {  // in each byte
        const __m512i table = _mm512_broadcast_i32x4(_mm_setr_epi8(0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4));
        const __m512i half = _mm512_set1_epi8(0x0f);
        const __m512i low = _mm512_shuffle_epi8(table, _mm512_and_si512(x.v, half));
        const __m512i high = _mm512_shuffle_epi8(table, _mm512_and_si512(_mm512_srli_epi16(x.v, 4), half));
        return {_mm512_add_epi8(low, high)};
    }
    static Words total(Words counts) { return {_mm512_sad_epu8(counts.v, _mm512_setzero_si512())}; }
};

}  // namespace
}  // namespace longspan::avx512

#include "hamming/kernel.h"
