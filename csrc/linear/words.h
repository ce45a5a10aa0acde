// Weights between the dtypes they come in, floats, and the words that kernels read (linear.h).
#pragma once

#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>

#include "linear/linear.h"

namespace longspan {

// What the weights of a checkpoint are stored as.
enum class WeightFormat { f32, f16, bf16 };
constexpr int64_t bytes_of(WeightFormat format) {
    return format == WeightFormat::f32 ? 4 : 2;
}

inline float float_of_bf16(uint16_t bits) {
    return std::bit_cast<float>(uint32_t{bits} << 16);
}

// Multiplying by 2^112 puts the exponent right, of numbers below the smallest normal one too.
inline float float_of_f16(uint16_t bits) {
    const uint32_t sign = (bits & 0x8000u) << 16, size = (bits & 0x7fffu) << 13;
    const uint32_t special = size >= 0x0f800000u ? 0x7f800000u : 0u;  // NaN and infinity
    const auto value = std::bit_cast<uint32_t>(std::bit_cast<float>(size) * 0x1p112f) | special;
    return std::bit_cast<float>(value | sign);
}

// `count` values at `from` to floats.
inline void load_weights(WeightFormat format, const std::byte* from, int64_t count, float* to) {
    if (format == WeightFormat::f32) {
        std::memcpy(to, from, static_cast<size_t>(count) * sizeof(float));
        return;
    }
    for (int64_t i = 0; i < count; ++i) {
        uint16_t bits;
        std::memcpy(&bits, from + 2 * i, sizeof bits);
        to[i] = format == WeightFormat::f16 ? float_of_f16(bits) : float_of_bf16(bits);
    }
}

// To nearest, ties to even.
inline uint16_t bf16_of(float value) {
    const auto bits = std::bit_cast<uint32_t>(value);
    if (std::isnan(value)) return static_cast<uint16_t>(bits >> 16 | 0x40u);
    return static_cast<uint16_t>((bits + 0x7fffu + (bits >> 16 & 1u)) >> 16);
}

// From -127 to 127: value / scale to nearest, ties to even. |value| <= 127.5 scale; scale may be NaN, which gives 0.
inline int8_t i8_of(float value, float scale) {
    const float ratio = value / scale;
    if (!(std::fabs(ratio) <= 127.0f)) return static_cast<int8_t>(ratio > 0.0f ? 127 : ratio < 0.0f ? -127 : 0);
    constexpr float kShift = 12582912.0f;  // 1.5 * 2^23: the sum has no room for fractions
    return static_cast<int8_t>((ratio + kShift) - kShift);
}

// A block of kRotated values, rotated in place, its own inverse; see rotate.h, whose bits these are.
inline void rotate_block(float* values) {
    for (int64_t i = 0; i < kRotated; ++i) values[i] *= 0.125f;
    for (int64_t step = 1; step < kRotated; step *= 2) {
        for (int64_t first = 0; first < kRotated; first += 2 * step) {
            for (int64_t i = first; i < first + step; ++i) {
                const float low = values[i], high = values[i + step];
                values[i] = low + high;
                values[i + step] = low - high;
            }
        }
    }
}

// values_per_word(dtype) values to a word. `scale` is i8's.
inline Word word_of(Dtype dtype, const float* values, float scale) {
    if (dtype == Dtype::f32) return std::bit_cast<Word>(values[0]);
    if (dtype == Dtype::bf16) return bf16_of(values[0]) | Word{bf16_of(values[1])} << 16;
    Word word = 0;
    for (int i = 0; i < 4; ++i) word |= Word{static_cast<uint8_t>(i8_of(values[i], scale))} << 8 * i;
    return word;
}

// Value `i` of a word, as word_of() put it there: for i8 the whole number.
inline float value_in(Dtype dtype, Word word, int64_t i) {
    if (dtype == Dtype::f32) return std::bit_cast<float>(word);
    if (dtype == Dtype::bf16) return float_of_bf16(static_cast<uint16_t>(word >> 16 * i));
    return static_cast<float>(static_cast<int8_t>(word >> 8 * i & 0xffu));
}

}  // namespace longspan
