// Four float lanes in plain C++, for any compiler and machine. Same interface as simd_avx512.h and simd_avx2.h.
#pragma once

#include <cmath>
#include <cstdint>

#define LONGSPAN_ISA portable

namespace longspan::portable {

struct F32 {
    static constexpr int64_t kLanes = 4;
    float v[kLanes];

    static F32 zero() { return all(0.0f); }
    static F32 all(float x) { return {{x, x, x, x}}; }
    static F32 load(const float* p) { return {{p[0], p[1], p[2], p[3]}}; }
    // The first n lanes from memory (0 <= n <= kLanes), the others 0; touches no byte beyond them.
    static F32 load_first(const float* p, int64_t n) {
        F32 out = zero();
        for (int64_t i = 0; i < n; ++i) out.v[i] = p[i];
        return out;
    }
    void store(float* p) const { store_first(p, kLanes); }
    void store_first(float* p, int64_t n) const {
        for (int64_t i = 0; i < n; ++i) p[i] = v[i];
    }

    template <class Function>
    static F32 map(Function function, F32 a, F32 b) {
        F32 out;
        for (int i = 0; i < kLanes; ++i) out.v[i] = function(a.v[i], b.v[i]);
        return out;
    }
    friend F32 operator+(F32 a, F32 b) {
        return map([](float x, float y) { return x + y; }, a, b);
    }
    friend F32 operator-(F32 a, F32 b) {
        return map([](float x, float y) { return x - y; }, a, b);
    }
    friend F32 operator*(F32 a, F32 b) {
        return map([](float x, float y) { return x * y; }, a, b);
    }
    friend F32 operator/(F32 a, F32 b) {
        return map([](float x, float y) { return x / y; }, a, b);
    }
};

// a * b + c. Rounded twice: a fused one would be a library call on machines without it. The build forbids the compiler
// to fuse it in some places and not in others, which would break "the same text, the same bits".
inline F32 fma(F32 a, F32 b, F32 c) {
    return a * b + c;
}
// max and min give b where either is NaN.
inline F32 max(F32 a, F32 b) {
    return F32::map([](float x, float y) { return x > y ? x : y; }, a, b);
}
inline F32 min(F32 a, F32 b) {
    return F32::map([](float x, float y) { return x < y ? x : y; }, a, b);
}
inline F32 abs(F32 a) {
    return F32::map([](float x, float) { return std::fabs(x); }, a, a);
}
inline F32 sqrt(F32 a) {
    return F32::map([](float x, float) { return std::sqrt(x); }, a, a);
}
inline F32 round(F32 a) {
    return F32::map([](float x, float) { return std::nearbyint(x); }, a, a);
}
inline F32 copy_sign(F32 size, F32 sign) {
    return F32::map([](float x, float y) { return std::copysign(x, y); }, size, sign);
}
// Lane by lane: a < b ? yes : no.
inline F32 select_less(F32 a, F32 b, F32 yes, F32 no) {
    F32 out;
    for (int i = 0; i < F32::kLanes; ++i) out.v[i] = a.v[i] < b.v[i] ? yes.v[i] : no.v[i];
    return out;
}
// x * 2^n for whole n in [-126, 127].
inline F32 scale_by_power_of_2(F32 x, F32 n) {
    auto scale = [](float value, float power) {
        return std::isnan(power) ? power : std::ldexp(value, static_cast<int>(power));
    };
    return F32::map(scale, x, n);
}
// Sum and maximum of all lanes, in one fixed order.
inline float sum(F32 a) {
    return (a.v[0] + a.v[2]) + (a.v[1] + a.v[3]);
}
inline float max_lane(F32 a) {
    const F32 swapped = max(a, F32{{a.v[2], a.v[3], a.v[0], a.v[1]}});
    return swapped.v[0] > swapped.v[1] ? swapped.v[0] : swapped.v[1];
}

}  // namespace longspan::portable

#include "core/simd_math.h"
