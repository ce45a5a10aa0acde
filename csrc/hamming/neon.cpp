// Two words a register; CNT counts the bits of each byte. For a word of 16 codes 8 loads, EOR, CNT and ADD: 12.8 cycles
// by LLVM 19's model of a Neoverse N1, 96 % of what two vector instructions a cycle allow (25 with the query's DUP).
#include <arm_neon.h>

#include <cstdint>
#include <cstring>

#include "core/tensor_view.h"
#include "hamming/hamming.h"

#define LONGSPAN_ISA neon

namespace longspan::neon {
namespace {

struct Words {
    static constexpr int64_t kLanes = 2;
    uint64x2_t v;

    static Words load(const uint64_t* p) { return {vld1q_u64(p)}; }
    static Words all(uint64_t x) { return {vdupq_n_u64(x)}; }
    void store(uint64_t* p) const { vst1q_u64(p, v); }
    void store_int32(int32_t* p) const { vst1_s32(p, vmovn_s64(vreinterpretq_s64_u64(v))); }
    uint64_t within(Words limit) const {
        const uint64x2_t is_within = vcleq_s64(vreinterpretq_s64_u64(v), vreinterpretq_s64_u64(limit.v));
        return (vgetq_lane_u64(is_within, 0) & 1u) | (vgetq_lane_u64(is_within, 1) & 2u);
    }
    friend Words least(Words a, Words b) {
        return {vreinterpretq_u64_u32(vminq_u32(vreinterpretq_u32_u64(a.v), vreinterpretq_u32_u64(b.v)))};
    }
    friend Words operator^(Words a, Words b) { return {veorq_u64(a.v, b.v)}; }
    friend Words operator+(Words a, Words b) { return {vaddq_u64(a.v, b.v)}; }
};

struct Counter {
    static constexpr int64_t kMaxWords = 31;  // 8 bits a byte each: 31 of them stay below 256

    static Words count(Words x) {  // in each byte
        return {vreinterpretq_u64_u8(vcntq_u8(vreinterpretq_u8_u64(x.v)))};
    }
    static Words total(Words counts) { return {vpaddlq_u32(vpaddlq_u16(vpaddlq_u8(vreinterpretq_u8_u64(counts.v))))}; }
};

constexpr int64_t kVectors = 8;

// One word of a code of which `bytes` are left; less than 8 are filled up with zeros.
inline uint64_t read_word(const uint8_t* code, int64_t bytes) {
    uint64_t word = 0;
    std::memcpy(&word, code, static_cast<size_t>(bytes < 8 ? bytes : 8));
    return word;
}

// Two codes at a time, two words of each.
void transpose(const MatrixView<const uint8_t>& codes, int64_t first, int64_t count, int64_t first_byte,
               int64_t last_byte, uint64_t* block) {
    for (int64_t i = 0; i < count; i += 2) {
        const uint8_t* a = codes.row(first + i) + first_byte;
        // A lane past the last code repeats it; nobody looks at it.
        const uint8_t* b = codes.row(first + (i + 1 < count ? i + 1 : i)) + first_byte;
        for (int64_t at = 0; at < last_byte - first_byte;) {
            const int64_t bytes = last_byte - first_byte - at;
            uint64_t* words = block + at / 8 * kCodesPerBlock + i;
            if (at % 64 == 0) {  // what comes next, on its way from memory while this is worked on
                __builtin_prefetch(a + at + kPrefetchBytes);
                __builtin_prefetch(b + at + kPrefetchBytes);
            }
            if (bytes >= 16) {
                const uint64x2_t of_a = vreinterpretq_u64_u8(vld1q_u8(a + at));
                const uint64x2_t of_b = vreinterpretq_u64_u8(vld1q_u8(b + at));
                vst1q_u64(words, vzip1q_u64(of_a, of_b));
                vst1q_u64(words + kCodesPerBlock, vzip2q_u64(of_a, of_b));
                at += 16;
            } else {
                words[0] = read_word(a + at, bytes);
                words[1] = read_word(b + at, bytes);
                at += 8;
            }
        }
    }
}

}  // namespace
}  // namespace longspan::neon

#include "hamming/kernel.h"
