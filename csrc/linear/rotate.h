// The rotation that i8 goes through before it is quantised: each block of 64 values times the Walsh-Hadamard matrix
// H / 8. What is left behind the last whole block stays as it is.
//   H[i, j] = 1 or -1, as the bits that i and j share are even or odd in number;  H / 8 is its own inverse
// (x H / 8)(W H / 8)^T = x W^T, and what stuck out alone is shared by 64: the range, and with it the step, shrinks.
// Source: QuaRot, arXiv:2404.00456. Six stages of sums and differences, of neighbours first, each rounded once and in
// the same order everywhere (rotate_block() in words.h for the weights), so that every instruction set has the same
// bits.

namespace longspan::LONGSPAN_ISA {
namespace {

constexpr int kRotatedRegisters = kRotated / kLanes;

// Stages within a register: lane i becomes x[i] + x[i + kStep], or x[i - kStep] - x[i] where i has that bit.
template <int kStep>
inline void rotate_lanes(F32 (&x)[kRotatedRegisters]) {
    if constexpr (kStep < kLanes) {
        alignas(64) float signs[kLanes];
        for (int i = 0; i < kLanes; ++i) signs[i] = (i & kStep) != 0 ? -1.0f : 1.0f;
        const F32 sign = F32::load(signs);
        for (F32& some : x) some = fma(some, sign, exchange<kStep>(some));  // the product is exact
        rotate_lanes<2 * kStep>(x);
    }
}

// Of values, and of a zero.
class Range {
public:
    void take(F32 values) {
        low_ = min(values, low_);
        high_ = max(values, high_);
        poison_ = fma(values, F32::zero(), poison_);  // NaN from then on where a value is not finite
    }
    float low() const { return -max_lane(F32::zero() - low_); }
    float high() const { return max_lane(high_); }
    bool is_finite() const { return sum(poison_) == 0.0f; }

private:
    F32 low_ = F32::zero(), high_ = F32::zero(), poison_ = F32::zero();
};

// `count` values at `from` to `to`, which ends on a whole register, filled up with zeros. Returns their range.
Range rotate_row(const float* from, int64_t count, float* to) {
    Range range;
    const int64_t rotated = count / kRotated * kRotated;
    for (int64_t k = rotated; k < count; k += kLanes) {
        const F32 values = F32::load_first(from + k, at_most(count - k, kLanes));
        range.take(values);
        values.store(to + k);
    }
    for (int64_t k = 0; k < rotated; k += kRotated) {
        F32 x[kRotatedRegisters];
        for (int i = 0; i < kRotatedRegisters; ++i) x[i] = F32::load(from + k + i * kLanes) * F32::all(0.125f);
        rotate_lanes<1>(x);
        for (int step = 1; step < kRotatedRegisters; step *= 2) {
            for (int i = 0; i < kRotatedRegisters; ++i) {
                if ((i & step) != 0) continue;
                const F32 low = x[i], high = x[i + step];
                x[i] = low + high;
                x[i + step] = low - high;
            }
        }
        for (int i = 0; i < kRotatedRegisters; ++i) {
            range.take(x[i]);
            x[i].store(to + k + i * kLanes);
        }
    }
    return range;
}

}  // namespace
}  // namespace longspan::LONGSPAN_ISA
