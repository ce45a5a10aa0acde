// What int8 attention needs of AVX-512: an exponential that is exact enough for it, and the products of bytes.

namespace longspan::LONGSPAN_ISA {
namespace {

// 2^x = 2^floor(x) * 2^r, error 2^-13.5 (README.md); scalef takes the floor itself. A hidden score, -inf, has r = 0 and
// comes out as 0. Times kTimes, a power of 2.
template <int kTimes = 1>
inline F32 rough_power_of_2(F32 x) {
    const __m512 r = _mm512_reduce_ps(x.v, _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC);
    F32 p = F32::all(kTimes * 0.077067042f);
    p = fma(p, F32{r}, F32::all(kTimes * 0.227644991f));
    p = fma(p, F32{r}, F32::all(kTimes * 0.695116786f));
    p = fma(p, F32{r}, F32::all(kTimes));
    return {_mm512_scalef_ps(p.v, x.v)};
}

// Weights below 2^-100 are 0: denormal products would take a hundred times as long.
struct RoughFloats : Floats {
    static constexpr float kLogUnit = 1.44269504f;  // weight(x) = 2^x
    static F32 weight(F32 x) {
        const __mmask16 counts = _mm512_cmp_ps_mask(x.v, _mm512_set1_ps(-100.0f), _CMP_NLT_UQ);  // NaN does
        return {_mm512_maskz_mov_ps(counts, rough_power_of_2(x).v)};
    }
};

// A row of bf16, pairs in a float each, as floats.
inline void widen_row(const float* row, int64_t dim, float* out) {
    for (int64_t d = 0; d < dim; d += F32::kLanes) {
        const __m256i bits = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(row + d / 2));
        _mm512_storeu_si512(out + d, _mm512_slli_epi32(_mm512_cvtepu16_epi32(bits), 16));
    }
}

#ifdef __AVX512VNNI__
// Not __m512i, which is of 64-bit numbers: GCC would keep arrays of these in memory.
struct Ints {
    using Vector = int __attribute__((vector_size(64)));
    Vector v;

    Ints() = default;
    Ints(__m512i bits) : v(reinterpret_cast<Vector>(bits)) {}
    operator __m512i() const { return reinterpret_cast<__m512i>(v); }

    static Ints all(float bits) { return _mm512_castps_si512(_mm512_set1_ps(bits)); }
    static Ints load(const float* p) { return _mm512_loadu_si512(p); }
};

// Four numbers a unit: those of keys as they are, those of queries plus 128, as vpdpbusd takes them.
struct Bytes {
    using Lanes = Ints;
    static constexpr int64_t kPerUnit = 4;
    static constexpr float kQueryOffset = 128.0f;
    static int64_t units(int64_t values) { return (values + 3) / 4; }

    static F32 unit(const float* numbers) {
        __m512i bytes = _mm512_setzero_si512();
        for (int i = 3; i >= 0; --i) {
            const __m512i byte = _mm512_cvtps_epi32(F32::load(numbers + i * F32::kLanes).v);
            bytes = _mm512_or_si512(_mm512_slli_epi32(bytes, 8), _mm512_and_si512(byte, _mm512_set1_epi32(255)));
        }
        return {_mm512_castsi512_ps(bytes)};
    }
    static F32 first_sum(F32 key_sum) {
        return {_mm512_castsi512_ps(_mm512_cvtps_epi32((key_sum * F32::all(-kQueryOffset)).v))};
    }
    static Ints multiply_add(Ints key, Ints query, Ints sum) { return _mm512_dpbusd_epi32(sum, query, key); }
    static F32 to_float(Ints sum) { return {_mm512_cvtepi32_ps(sum)}; }
};
#endif

}  // namespace
}  // namespace longspan::LONGSPAN_ISA
