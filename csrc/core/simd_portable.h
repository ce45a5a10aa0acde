// Four float lanes in plain C++, for any compiler and machine. Same interface as simd_avx512.h and simd_avx2.h.
#pragma once

#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>

#ifndef LONGSPAN_ISA
#define LONGSPAN_ISA portable
#endif

namespace longspan::LONGSPAN_ISA {

// Four floats, with arithmetic lane by lane. GCC and Clang keep their own vector type in one register; an array they
// take apart where it pays least.
#if defined(__GNUC__)
using Quad = float __attribute__((vector_size(16)));
inline Quad choose_less(Quad a, Quad b, Quad yes, Quad no) {
    return a < b ? yes : no;
}
#else
struct Quad {
    float lanes[4];
    float& operator[](int64_t i) { return lanes[i]; }
    float operator[](int64_t i) const { return lanes[i]; }
    friend Quad operator+(Quad a, Quad b) { return {a[0] + b[0], a[1] + b[1], a[2] + b[2], a[3] + b[3]}; }
    friend Quad operator-(Quad a, Quad b) { return {a[0] - b[0], a[1] - b[1], a[2] - b[2], a[3] - b[3]}; }
    friend Quad operator*(Quad a, Quad b) { return {a[0] * b[0], a[1] * b[1], a[2] * b[2], a[3] * b[3]}; }
    friend Quad operator/(Quad a, Quad b) { return {a[0] / b[0], a[1] / b[1], a[2] / b[2], a[3] / b[3]}; }
};
inline Quad choose_less(Quad a, Quad b, Quad yes, Quad no) {
    const auto lane = [&](int64_t i) { return a[i] < b[i] ? yes[i] : no[i]; };
    return {lane(0), lane(1), lane(2), lane(3)};
}
#endif

struct F32 {
    static constexpr int64_t kLanes = 4;
    static constexpr bool kHasLaneProducts = false;  // simd_neon.h
    Quad v;

    static F32 zero() { return all(0.0f); }
    static F32 all(float x) { return {Quad{x, x, x, x}}; }
    static F32 load(const float* p) {
        F32 out;
        std::memcpy(&out.v, p, sizeof(out.v));
        return out;
    }
    // The first n lanes from memory (0 <= n <= kLanes), the others 0; touches no byte beyond them.
    static F32 load_first(const float* p, int64_t n) {
        F32 out = zero();
        for (int64_t i = 0; i < n; ++i) out.v[i] = p[i];
        return out;
    }
    void store(float* p) const { std::memcpy(p, &v, sizeof(v)); }
    void store_first(float* p, int64_t n) const {
        for (int64_t i = 0; i < n; ++i) p[i] = v[i];
    }

    template <class Function>
    static F32 map(Function function, F32 a, F32 b) {
        F32 out;
        for (int i = 0; i < kLanes; ++i) out.v[i] = function(a.v[i], b.v[i]);
        return out;
    }
    friend F32 operator+(F32 a, F32 b) { return {a.v + b.v}; }
    friend F32 operator-(F32 a, F32 b) { return {a.v - b.v}; }
    friend F32 operator*(F32 a, F32 b) { return {a.v * b.v}; }
    friend F32 operator/(F32 a, F32 b) { return {a.v / b.v}; }
};

// a * b + c. Rounded twice: a fused one would be a library call on machines without it. The build forbids the compiler
// to fuse it in some places and not in others, which would break "the same text, the same bits".
inline F32 fma(F32 a, F32 b, F32 c) {
    return a * b + c;
}
// max and min give b where either is NaN.
inline F32 max(F32 a, F32 b) {
    return {choose_less(b.v, a.v, a.v, b.v)};
}
inline F32 min(F32 a, F32 b) {
    return {choose_less(a.v, b.v, a.v, b.v)};
}
inline F32 abs(F32 a) {
    return F32::map([](float x, float) { return std::fabs(x); }, a, a);
}
inline F32 sqrt(F32 a) {
    return F32::map([](float x, float) { return std::sqrt(x); }, a, a);
}
inline F32 copy_sign(F32 size, F32 sign) {
    return F32::map([](float x, float y) { return std::copysign(x, y); }, size, sign);
}
// Lane by lane: a < b ? yes : no.
inline F32 select_less(F32 a, F32 b, F32 yes, F32 no) {
    return {choose_less(a.v, b.v, yes.v, no.v)};
}
// To the nearest whole number, ties to even: from 2^23 on every float is one, and below the sum with 2^23 rounds.
inline F32 round(F32 a) {
    const F32 limit = F32::all(8388608.0f), shift = copy_sign(limit, a);
    return select_less(abs(a), limit, (a + shift) - shift, a);
}
// x * 2^n for whole n in [-126, 127].
inline F32 scale_by_power_of_2(F32 x, F32 n) {
    auto scale = [](float value, float power) {
        const auto exponent = static_cast<uint32_t>((std::isnan(power) ? 0 : static_cast<int32_t>(power)) + 127);
        return value * std::bit_cast<float>(exponent << 23) + (power - power);  // NaN goes through
    };
    return F32::map(scale, x, n);
}
// The whole e with 2^e <= a < 2^(e + 1), for normal a > 0.
inline F32 exponent(F32 a) {
    auto exponent_of = [](float x, float) {
        return static_cast<float>(static_cast<int32_t>(std::bit_cast<uint32_t>(x) >> 23) - 127);
    };
    return F32::map(exponent_of, a, a);
}
// To the nearest bf16 value, ties to even; NaN stays.
inline F32 round_to_bf16(F32 a) {
    auto rounded = [](float x, float) {
        const auto bits = std::bit_cast<uint32_t>(x);
        return std::isnan(x) ? x : std::bit_cast<float>((bits + 0x7fffu + (bits >> 16 & 1u)) & 0xffff0000u);
    };
    return F32::map(rounded, a, a);
}
// Sum and maximum of all lanes, in one fixed order.
inline float sum(F32 a) {
    return (a.v[0] + a.v[2]) + (a.v[1] + a.v[3]);
}
inline float max_lane(F32 a) {
    const F32 swapped = max(a, F32{Quad{a.v[2], a.v[3], a.v[0], a.v[1]}});
    return swapped.v[0] > swapped.v[1] ? swapped.v[0] : swapped.v[1];
}

}  // namespace longspan::LONGSPAN_ISA

#include "core/simd_math.h"
