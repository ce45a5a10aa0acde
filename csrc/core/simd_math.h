// Elementary functions on F32 lanes. Each simd_<isa>.h includes this once, after it has defined F32 in its namespace:
// every instruction set gets a copy of its own, and none leaks into code that another file shares.

#ifndef LONGSPAN_ISA
#error "include core/simd_<isa>.h instead"
#endif

namespace longspan::LONGSPAN_ISA {

// e^x for x <= 88. Relative error below 1.3 * 2^-24 with a fused fma; 0 below -87.3 (no denormals), exp(-inf) = 0.
// exp(x) = 2^n * exp(r), n = round(x / ln 2), |r| <= ln(2) / 2, exp(r) = 1 + r + r^2 q(r); q is a degree-4 fit that
// minimises the largest relative error on that interval (Lawson's weights, error 3.1e-9).
inline F32 exp(F32 x) {
    const F32 lowest = F32::all(-87.3f);
    const F32 clamped = max(lowest, x);  // NaN goes through
    const F32 n = round(clamped * F32::all(1.44269504f));
    F32 r = fma(n, F32::all(-0.693359375f), clamped);  // ln 2 in two parts: the first is exact times any such n
    r = fma(n, F32::all(2.12194440e-4f), r);
    F32 p = F32::all(0.0013814467f);
    p = fma(p, r, F32::all(0.0083687808f));
    p = fma(p, r, F32::all(0.0416683927f));
    p = fma(p, r, F32::all(0.1666651964f));
    p = fma(p, r, F32::all(0.4999999404f));
    p = fma(p, r, F32::all(1.0f));
    p = fma(p, r, F32::all(1.0f));
    return select_less(x, lowest, F32::zero(), scale_by_power_of_2(p, n));
}

// (2^r - 1) / r for |r| <= 1/2: a degree-5 fit that minimises the largest relative error (Lawson's weights, 1.1e-8).
inline F32 exp2_slope(F32 r) {
    F32 p = F32::all(0.000154035137f);
    p = fma(p, r, F32::all(0.00133907364f));
    p = fma(p, r, F32::all(0.00961823799f));
    p = fma(p, r, F32::all(0.0555035733f));
    p = fma(p, r, F32::all(0.240226492f));
    p = fma(p, r, F32::all(0.693147182f));
    return p;
}

// 1 / (1 + e^-x). From x = -87 on it is e^-87: below, the quotient is no normal number, and a processor takes a hundred
// times as long to make one.
inline F32 sigmoid(F32 x) {
    const F32 e = exp(min(F32::all(87.0f), F32::zero() - x));  // NaN goes through
    return F32::all(1.0f) / (F32::all(1.0f) + e);
}

// With t = 2^z - 1 and z = -2 log2(e) |x|: |tanh(x)| = -t / (2 + t). t is summed without its 1, so that small x keep
// their relative accuracy; from |x| = 10 on, the result is 1.
inline F32 tanh(F32 x) {
    const F32 z = min(F32::all(10.0f), abs(x)) * F32::all(-2.88539008f);  // NaN goes through
    const F32 n = round(z);
    const F32 r = z - n;
    const F32 power = scale_by_power_of_2(F32::all(1.0f), n);
    const F32 t = fma(exp2_slope(r) * r, power, power - F32::all(1.0f));
    return copy_sign(F32::zero() - t / (F32::all(2.0f) + t), x);
}

// log(1 + x) for x >= 0; from 2^125 on that of 2^125. Relative error below 1.6 * 2^-24.
// 1 + x = 2^e (1 + r) with r from -1/4 to 1/2, and r = x 2^-e + (2^-e - 1) is rounded once: small x lose nothing.
// log(1 + r) = r + r^2 p(r); p is a degree-8 fit that minimises the largest relative error on that interval (Lawson's
// weights, 8e-9).
inline F32 log1p(F32 x) {
    const F32 one = F32::all(1.0f);
    const F32 bounded = min(F32::all(0x1p125f), x);  // NaN goes through
    const F32 e = exponent((one + bounded) * F32::all(1.33333337f));
    const F32 scale = scale_by_power_of_2(one, F32::zero() - e);
    const F32 r = fma(bounded, scale, scale - one);
    F32 p = F32::all(-0.0449096486f);
    p = fma(p, r, F32::all(0.104483388f));
    p = fma(p, r, F32::all(-0.131622359f));
    p = fma(p, r, F32::all(0.144820616f));
    p = fma(p, r, F32::all(-0.166477665f));
    p = fma(p, r, F32::all(0.199906066f));
    p = fma(p, r, F32::all(-0.250000536f));
    p = fma(p, r, F32::all(0.333334535f));
    p = fma(p, r, F32::all(-0.5f));
    return fma(e, F32::all(0.693147182f), fma(r * r, p, r));
}

// x * Phi(x), Phi the normal distribution function: the exact GELU, x / 2 * (1 + erf(x / sqrt 2)).
// With a = |x|: gelu(x) = max(x, 0) - a * Phi(-a), which cancels nowhere. Phi(-a) = 2^-p(a); -log2 Phi(-a) is so smooth
// that a degree-8 polynomial p with p(0) = 1 will do: fitted on [0, 7] to minimise the largest error of a * Phi(-a)
// (Lawson's weights, 1.3e-8). Beyond, p only rises, and past 126 the term is as good as 0. The largest error is
// 2.5e-7, where x / 2 * (1 + erf(x / sqrt 2)) in float32 has 4.5e-7; linear/README.md has the derivation.
inline F32 gelu(F32 x) {
    const F32 a = min(F32::all(16.0f), abs(x));  // NaN goes through
    F32 p = F32::all(1.90203889e-6f);
    p = fma(p, a, F32::all(-2.80566255e-5f));
    p = fma(p, a, F32::all(1.31471737e-4f));
    p = fma(p, a, F32::all(2.72079313e-4f));
    p = fma(p, a, F32::all(-7.24542607e-3f));
    p = fma(p, a, F32::all(5.26276156e-2f));
    p = fma(p, a, F32::all(0.459162146f));
    p = fma(p, a, F32::all(1.15111101f));
    p = min(F32::all(126.0f), fma(p, a, F32::all(1.0f)));
    const F32 n = round(p);
    const F32 r = n - p;
    const F32 phi = scale_by_power_of_2(fma(exp2_slope(r), r, F32::all(1.0f)), F32::zero() - n);
    return max(F32::zero(), x) - a * phi;
}

// x / 2 * (1 + tanh(u)) = x * sigmoid(2 u), u = sqrt(2 / pi) * (x + 0.044715 x^3): the GELU of GPT-2.
inline F32 gelu_tanh(F32 x) {
    const F32 twice_u = x * fma(x * x, F32::all(0.0713548162726f), F32::all(1.59576912161f));
    return x * sigmoid(twice_u);
}

}  // namespace longspan::LONGSPAN_ISA
