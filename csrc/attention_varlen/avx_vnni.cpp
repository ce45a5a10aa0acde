#define LONGSPAN_ISA avx_vnni

#include "attention_varlen/lanes_avx2.h"

#include "attention_varlen/kernel.h"

namespace longspan::avx_vnni {
namespace {

// Not __m256i, which is of 64-bit numbers: GCC would keep arrays of these in memory.
struct Ints {
    using Vector = int __attribute__((vector_size(32)));
    Vector v;

    Ints() = default;
    Ints(__m256i bits) : v(reinterpret_cast<Vector>(bits)) {}
    operator __m256i() const { return reinterpret_cast<__m256i>(v); }

    static Ints all(float bits) { return _mm256_castps_si256(_mm256_set1_ps(bits)); }
    static Ints load(const float* p) { return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)); }
};

// Four numbers a unit: those of keys as they are, those of queries plus 128, as vpdpbusd takes them.
struct Bytes {
    using Lanes = Ints;
    static constexpr int64_t kPerUnit = 4;
    static constexpr float kQueryOffset = 128.0f;
    static int64_t units(int64_t values) { return (values + 3) / 4; }

    static F32 unit(const float* numbers) {
        __m256i bytes = _mm256_setzero_si256();
        for (int i = 3; i >= 0; --i) {
            const __m256i byte = _mm256_cvtps_epi32(F32::load(numbers + i * F32::kLanes).v);
            bytes = _mm256_or_si256(_mm256_slli_epi32(bytes, 8), _mm256_and_si256(byte, _mm256_set1_epi32(255)));
        }
        return {_mm256_castsi256_ps(bytes)};
    }
    static F32 first_sum(F32 key_sum) {
        return {_mm256_castsi256_ps(_mm256_cvtps_epi32((key_sum * F32::all(-kQueryOffset)).v))};
    }
    static Ints multiply_add(Ints key, Ints query, Ints sum) { return _mm256_dpbusd_avx_epi32(sum, query, key); }
    static F32 to_float(Ints sum) { return {_mm256_cvtepi32_ps(sum)}; }
};

}  // namespace

void attention_varlen_i8(const AttentionArgs& args, const AttentionPart& part) {
    PartRunner<Whole<Floats, Bytes>>(args, part).run();
}

}  // namespace longspan::avx_vnni
