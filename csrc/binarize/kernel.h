// The kernel, once for every instruction set; each defines before, in its namespace, on F32 lanes:
//   bits_above(x, t)   bit i set where lane i of x is greater than that of t
//   bits_nan(x)        bit i set where lane i is NaN

#include "binarize/binarize.h"

namespace longspan::LONGSPAN_ISA {
namespace {

// Bit 0 of a byte is its least significant; codes want the first value in the most significant.
inline uint64_t reverse_bits_of_bytes(uint64_t bits) {
    bits = (bits >> 4 & 0x0f0f0f0f0f0f0f0f) | (bits & 0x0f0f0f0f0f0f0f0f) << 4;
    bits = (bits >> 2 & 0x3333333333333333) | (bits & 0x3333333333333333) << 2;
    return (bits >> 1 & 0x5555555555555555) | (bits & 0x5555555555555555) << 1;
}

// The code bits of up to 64 values, first value in bit 0. `values` is 64 or what is left of the row.
inline uint64_t sign_bits(const float* x, const float* thresholds, int64_t values, uint64_t& nans) {
    uint64_t bits = 0;
    for (int64_t i = 0; i < values; i += F32::kLanes) {
        const int64_t lanes = values - i < F32::kLanes ? values - i : F32::kLanes;
        const F32 value = F32::load_first(x + i, lanes);
        const F32 threshold = thresholds == nullptr ? F32::zero() : F32::load_first(thresholds + i, lanes);
        bits |= bits_above(value, threshold) << i;  // lanes past the row are 0 > 0: no bit
        nans |= bits_nan(value);
    }
    return bits;
}

}  // namespace

bool binarize(const BinarizeArgs& args, int64_t first, int64_t last) {
    const int64_t dim = args.x.cols;
    uint64_t nans = 0;
    for (int64_t row = first; row < last; ++row) {
        const float* x = args.x.row(row);
        uint8_t* code = args.codes.row(row);
        for (int64_t i = 0; i < dim; i += 64) {
            const int64_t values = dim - i < 64 ? dim - i : 64;
            const float* thresholds = args.thresholds ? args.thresholds.data + i : nullptr;
            uint64_t bits = reverse_bits_of_bytes(sign_bits(x + i, thresholds, values, nans));
            for (int64_t byte = 0; byte < (values + 7) / 8; ++byte, bits >>= 8) {
                code[i / 8 + byte] = static_cast<uint8_t>(bits);
            }
        }
    }
    return nans != 0;
}

}  // namespace longspan::LONGSPAN_ISA
