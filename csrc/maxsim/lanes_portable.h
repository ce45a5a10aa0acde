// What maxsim needs beside F32, in plain C++: whole-number lanes and the widening of narrow formats.
#pragma once

#include <bit>
#include <cmath>
#include <cstddef>
#include <cstring>

#include "core/simd_portable.h"
#include "maxsim/maxsim.h"

namespace longspan::portable {
namespace {

constexpr int kRowsAtOnce = 4;  // 8 sums, 2 registers of queries, 1 broadcast value, 1 product: 12 of SSE's 16

struct I32 {
    uint32_t v[F32::kLanes];  // unsigned, so that no sum is undefined; int32 by meaning

    static I32 zero() { return {{0, 0, 0, 0}}; }
    static I32 load(const std::byte* p) {
        I32 out;
        std::memcpy(out.v, p, sizeof out.v);
        return out;
    }
    static I32 broadcast(const std::byte* p) {
        uint32_t value;
        std::memcpy(&value, p, sizeof value);
        return {{value, value, value, value}};
    }
    int32_t lane(int64_t i) const { return static_cast<int32_t>(v[i]); }
};
inline I32 max(I32 a, I32 b) {
    for (int i = 0; i < F32::kLanes; ++i) a.v[i] = a.lane(i) > b.lane(i) ? a.v[i] : b.v[i];
    return a;
}
inline I32 min(I32 a, I32 b) {
    for (int i = 0; i < F32::kLanes; ++i) a.v[i] = a.lane(i) < b.lane(i) ? a.v[i] : b.v[i];
    return a;
}
inline F32 to_float(I32 a) {
    F32 out;
    for (int i = 0; i < F32::kLanes; ++i) out.v[i] = static_cast<float>(a.lane(i));
    return out;
}

// sum + a[low] * b[low] + a[high] * b[high], the halves of a lane taken as int16.
inline I32 add_i16_products(I32 sum, I32 a, I32 b) {
    const auto half = [](uint32_t x, int shift) { return static_cast<int32_t>(static_cast<int16_t>(x >> shift)); };
    for (int i = 0; i < F32::kLanes; ++i) {
        sum.v[i] += static_cast<uint32_t>(half(a.v[i], 0) * half(b.v[i], 0)) +
                    static_cast<uint32_t>(half(a.v[i], 16) * half(b.v[i], 16));
    }
    return sum;
}

// sum + the number of bits in which a and b differ.
inline I32 add_differing_bits(I32 sum, I32 a, I32 b) {
    for (int i = 0; i < F32::kLanes; ++i) sum.v[i] += static_cast<uint32_t>(std::popcount(a.v[i] ^ b.v[i]));
    return sum;
}

// NaN where a or b is, else poison.
inline F32 nan_where_unordered(F32 a, F32 b, F32 poison) {
    for (int i = 0; i < F32::kLanes; ++i) {
        if (std::isnan(a.v[i]) || std::isnan(b.v[i])) poison.v[i] = std::nanf("");
    }
    return poison;
}

// F32::kLanes values to f32; float_of_f16 and float_of_bf16 are stage.h's, which does the rest of a row with them.
inline float float_of_f16(uint16_t bits);
inline float float_of_bf16(uint16_t bits);

template <class Convert>
inline F32 load_halves(const std::byte* p, Convert convert) {
    uint16_t bits[F32::kLanes];
    std::memcpy(bits, p, sizeof bits);
    F32 out;
    for (int i = 0; i < F32::kLanes; ++i) out.v[i] = convert(bits[i]);
    return out;
}
inline F32 load_f16(const std::byte* p) {
    return load_halves(p, float_of_f16);
}
inline F32 load_bf16(const std::byte* p) {
    return load_halves(p, float_of_bf16);
}

// 2 * F32::kLanes values to int16: int8 values, or sign codes as +1 and -1, least significant bit first.
inline void widen_i8(const std::byte* from, std::byte* to) {
    int16_t values[2 * F32::kLanes];
    for (int i = 0; i < 2 * F32::kLanes; ++i) values[i] = static_cast<int8_t>(from[i]);
    std::memcpy(to, values, sizeof values);
}
inline void widen_codes(const std::byte* from, std::byte* to) {
    int16_t values[2 * F32::kLanes];
    for (int i = 0; i < 2 * F32::kLanes; ++i) values[i] = (static_cast<unsigned>(*from) >> i & 1u) != 0 ? 1 : -1;
    std::memcpy(to, values, sizeof values);
}

}  // namespace
}  // namespace longspan::portable
