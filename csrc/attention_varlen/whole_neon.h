// The products of bytes that int8 attention takes, SDOT's.

namespace longspan::LONGSPAN_ISA {
namespace {

struct Ints {
    int32x4_t v;

    static Ints all(float bits) { return {vreinterpretq_s32_f32(vdupq_n_f32(bits))}; }
    static Ints load(const float* p) { return {vreinterpretq_s32_f32(vld1q_f32(p))}; }
};

// Four numbers a unit, both sides signed.
struct Bytes {
    using Lanes = Ints;
    static constexpr int64_t kPerUnit = 4;
    static constexpr float kQueryOffset = 0.0f;
    static int64_t units(int64_t values) { return (values + 3) / 4; }

    static F32 unit(const float* numbers) {
        const auto number = [&](int64_t i) { return vcvtnq_s32_f32(F32::load(numbers + i * F32::kLanes).v); };
        int32x4_t bytes = vsliq_n_s32(number(0), number(1), 8);  // the lowest byte of each goes on
        bytes = vsliq_n_s32(bytes, number(2), 16);
        return {vreinterpretq_f32_s32(vsliq_n_s32(bytes, number(3), 24))};
    }
    static F32 first_sum(F32) { return F32::zero(); }
    static Ints multiply_add(Ints key, Ints query, Ints sum) {
        return {vdotq_s32(sum.v, vreinterpretq_s8_s32(query.v), vreinterpretq_s8_s32(key.v))};
    }
    template <int kLane>
    static Ints multiply_add_lane(Ints key, Ints query, Ints sum) {
        return {vdotq_laneq_s32(sum.v, vreinterpretq_s8_s32(query.v), vreinterpretq_s8_s32(key.v), kLane)};
    }
    static F32 to_float(Ints sum) { return {vcvtq_f32_s32(sum.v)}; }
};

}  // namespace
}  // namespace longspan::LONGSPAN_ISA
