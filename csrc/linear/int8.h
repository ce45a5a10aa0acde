// Rows of x to whole numbers from 0 to 255, once an instruction set: x[k] ~ scale * (q[k] - zero).
//
//   low = min(0, min over k of x[k]), high = max(0, max over k of x[k])
//   scale = max(high / 255 - low / 255, 2^-126), inverse = 1 / scale, zero = round(-low * inverse)
//   q[k] = min(round(x[k] * inverse) + zero, 255)
// round() is to nearest, ties to even. Every step is one IEEE operation in f32, so that every instruction set gets the
// same numbers. 0 is exact, and no q is below 0, since x[k] * inverse cannot round below low * inverse. The two halves
// of scale cannot overflow, and its floor lets inverse not: a row below 2^-118 keeps fewer than 8 bits. A row with a
// NaN or an infinity gets a scale that is NaN.

namespace longspan::LONGSPAN_ISA {
namespace {

struct RowRange {
    float low, high;
    bool is_finite;
};

RowRange range_of(const float* x, int64_t count) {
    F32 low = F32::zero(), high = F32::zero(), poison = F32::zero();
    for (int64_t k = 0; k < count; k += kLanes) {
        const F32 values = count - k >= kLanes ? F32::load(x + k) : F32::load_first(x + k, count - k);
        low = min(values, low);
        high = max(values, high);
        poison = poison + values * F32::zero();  // NaN from then on where a value is not finite
    }
    return {-max_lane(F32::zero() - low), max_lane(high), sum(poison) == 0.0f};
}

inline float rounded(float x) {
    return max_lane(round(F32::all(x)));
}

void quantize_row(const LinearArgs& args, int64_t row) {
    const float* x = args.x.row(row);
    const int64_t count = args.x.cols;
    uint8_t* q = args.quantized.values + row * args.quantized.row_bytes;
    const RowRange range = range_of(x, count);
    if (!range.is_finite) {
        args.quantized.scales[row] = float_of(0x7fc00000u);
        args.quantized.zeros[row] = 0;
        std::memset(q, 0, static_cast<size_t>(args.quantized.row_bytes));
        return;
    }
    const float steps = range.high / 255.0f - range.low / 255.0f;
    const float scale = steps > 0x1p-126f ? steps : 0x1p-126f, inverse = 1.0f / scale;
    const float zero = rounded(-range.low * inverse);
    args.quantized.scales[row] = scale;
    args.quantized.zeros[row] = static_cast<int32_t>(zero);
    for (int64_t k = 0; k < count; k += kLanes) {  // rows end on whole registers; beyond `count` they hold `zero`
        const F32 values = count - k >= kLanes ? F32::load(x + k) : F32::load_first(x + k, count - k);
        store_bytes(round(values * F32::all(inverse)) + F32::all(zero), q + k);
    }
}

}  // namespace

void quantize_rows(const LinearArgs& args, int64_t first_row, int64_t last_row) {
    for (int64_t row = first_row; row < last_row; ++row) quantize_row(args, row);
}

}  // namespace longspan::LONGSPAN_ISA
