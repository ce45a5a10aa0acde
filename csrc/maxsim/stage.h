// Document rows in a narrow format to the units that multiply() reads: for kernel.h, once an instruction set.

namespace longspan::LONGSPAN_ISA {
namespace {

inline float float_of_bits(uint32_t bits) {
    float value;
    std::memcpy(&value, &bits, sizeof value);
    return value;
}

inline float float_of_bf16(uint16_t bits) {
    return float_of_bits(uint32_t{bits} << 16);
}

inline float float_of_f16(uint16_t bits) {
    const uint32_t sign = (bits & 0x8000u) << 16, exponent = bits >> 10 & 31u, fraction = bits & 0x3ffu;
    if (exponent == 31) return float_of_bits(sign | 0x7f800000u | fraction << 13);
    if (exponent != 0) return float_of_bits(sign | (exponent + 112) << 23 | fraction << 13);
    const float size = static_cast<float>(fraction) * 0x1p-24f;  // below the smallest normal number
    return sign == 0 ? size : -size;
}

template <class LoadVector, class LoadOne>
inline void widen_halves(const std::byte* from, int64_t dim, std::byte* to, LoadVector load, LoadOne load_one) {
    auto* out = reinterpret_cast<float*>(to);
    int64_t d = 0;
    for (; d + F32::kLanes <= dim; d += F32::kLanes) load(from + 2 * d).store(out + d);
    for (; d < dim; ++d) {
        uint16_t bits;
        std::memcpy(&bits, from + 2 * d, sizeof bits);
        out[d] = load_one(bits);
    }
}
void f16_to_f32(const std::byte* from, int64_t dim, std::byte* to) {
    widen_halves(from, dim, to, load_f16, float_of_f16);
}
void bf16_to_f32(const std::byte* from, int64_t dim, std::byte* to) {
    widen_halves(from, dim, to, load_bf16, float_of_bf16);
}

void i8_to_i16(const std::byte* from, int64_t dim, std::byte* to) {
    int64_t d = 0;
    for (; d + 2 * F32::kLanes <= dim; d += 2 * F32::kLanes) widen_i8(from + d, to + 2 * d);
    for (; d < dim; ++d) {
        const int16_t value = static_cast<int8_t>(from[d]);
        std::memcpy(to + 2 * d, &value, sizeof value);
    }
}

void codes_to_i16(const std::byte* from, int64_t dim, std::byte* to) {
    int64_t d = 0;
    for (; d + 2 * F32::kLanes <= dim; d += 2 * F32::kLanes) widen_codes(from + d / 8, to + 2 * d);
    for (; d < dim; ++d) {
        const int16_t value = (static_cast<unsigned>(from[d / 8]) >> d % 8 & 1u) != 0 ? 1 : -1;
        std::memcpy(to + 2 * d, &value, sizeof value);
    }
}

void copy_bf16(const std::byte* from, int64_t dim, std::byte* to) {
    std::memcpy(to, from, static_cast<size_t>(dim) * 2);
}
void copy_codes(const std::byte* from, int64_t dim, std::byte* to) {
    std::memcpy(to, from, static_cast<size_t>(dim) / 8);
}

using StageFn = void(const std::byte* from, int64_t dim, std::byte* to);

// How rows of this format become units; null: they are read where they lie.
StageFn* stage_for(TokenFormat format, Unit unit, int64_t dim) {
    const bool is_whole = dim % values_per_unit(unit) == 0;
    switch (format) {
        case TokenFormat::f32:
            return nullptr;
        case TokenFormat::f16:
            return f16_to_f32;
        case TokenFormat::bf16:
            return unit == Unit::f32 ? bf16_to_f32 : is_whole ? nullptr : copy_bf16;
        case TokenFormat::i8:
            return i8_to_i16;
        case TokenFormat::codes:
            return unit == Unit::i16_pair ? codes_to_i16 : is_whole ? nullptr : copy_codes;
    }
    return nullptr;
}

}  // namespace
}  // namespace longspan::LONGSPAN_ISA
