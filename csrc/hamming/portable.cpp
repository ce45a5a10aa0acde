// Plain 64-bit words: bits are counted in bytes, several words at a time, so that a compiler can vectorise it.
#include <cstdint>
#include <cstring>

#include "core/tensor_view.h"
#include "hamming/hamming.h"

#define LONGSPAN_ISA portable

namespace longspan::portable {
namespace {

struct Words {
    static constexpr int64_t kLanes = 4;
    uint64_t v[kLanes];

    static Words load(const uint64_t* p) { return {{p[0], p[1], p[2], p[3]}}; }
    static Words all(uint64_t x) { return {{x, x, x, x}}; }
    void store(uint64_t* p) const {
        for (int i = 0; i < kLanes; ++i) p[i] = v[i];
    }
    void store_int32(int32_t* p) const {
        for (int i = 0; i < kLanes; ++i) p[i] = static_cast<int32_t>(v[i]);
    }
    uint64_t within(Words limit) const {
        uint64_t bits = 0;
        for (int i = 0; i < kLanes; ++i)
            bits |= uint64_t{static_cast<int64_t>(v[i]) <= static_cast<int64_t>(limit.v[i])} << i;
        return bits;
    }
    friend Words operator^(Words a, Words b) {
        for (int i = 0; i < kLanes; ++i) a.v[i] ^= b.v[i];
        return a;
    }
    friend Words least(Words a, Words b) {
        for (int i = 0; i < kLanes; ++i) a.v[i] = a.v[i] < b.v[i] ? a.v[i] : b.v[i];
        return a;
    }
    friend Words operator+(Words a, Words b) {
        for (int i = 0; i < kLanes; ++i) a.v[i] += b.v[i];
        return a;
    }
};

struct Counter {
    static constexpr int64_t kMaxWords = 31;  // 8 bits a byte each: 31 of them stay below 256

    static Words count(Words x) {  // in each byte
        for (uint64_t& word : x.v) {
            word -= word >> 1 & 0x5555555555555555;
            word = (word & 0x3333333333333333) + (word >> 2 & 0x3333333333333333);
            word = (word + (word >> 4)) & 0x0f0f0f0f0f0f0f0f;
        }
        return x;
    }
    static Words total(Words counts) {
        for (uint64_t& word : counts.v) {
            word = (word & 0x00ff00ff00ff00ff) + (word >> 8 & 0x00ff00ff00ff00ff);
            word += word >> 16;
            word = (word + (word >> 32)) & 0xffff;
        }
        return counts;
    }
};

constexpr int64_t kVectors = 4;

void transpose(const MatrixView<const uint8_t>& codes, int64_t first, int64_t count, int64_t first_byte,
               int64_t last_byte, uint64_t* block) {
    const int64_t whole = (last_byte - first_byte) / 8, rest = (last_byte - first_byte) % 8;
    for (int64_t i = 0; i < count; ++i) {
        const uint8_t* code = codes.row(first + i) + first_byte;
        for (int64_t word = 0; word < whole; ++word) std::memcpy(block + word * kCodesPerBlock + i, code + 8 * word, 8);
        if (rest == 0) continue;
        uint64_t last = 0;
        std::memcpy(&last, code + 8 * whole, static_cast<size_t>(rest));
        block[whole * kCodesPerBlock + i] = last;
    }
}

}  // namespace
}  // namespace longspan::portable

#include "hamming/kernel.h"
