// Rows of x to what multiply() reads (StagedRows), once an instruction set. For i8 they are rotated (rotate.h), then
// become whole numbers from 0 to 255, x[k] ~ scale * (q[k] - zero):
//
//   low = min(0, min over k of x[k]), high = max(0, max over k of x[k])
//   scale = max(high / 255 - low / 255, 2^-126), inverse = 1 / scale, zero = round(-low * inverse)
//   q[k] = min(round(x[k] * inverse) + zero, 255)
// round() is to nearest, ties to even. Every step is one IEEE operation in f32, so that every instruction set gets the
// same numbers. 0 is exact, and no q is below 0, since x[k] * inverse cannot round below low * inverse. The two halves
// of scale cannot overflow, and its floor lets inverse not: a row below 2^-118 keeps fewer than 8 bits. A row with a
// NaN or an infinity gets a scale that is NaN.

#include "linear/rotate.h"

namespace longspan::LONGSPAN_ISA {
namespace {

// Calls body(first value, how many, where they go) for each K block of a row.
template <class Kind, class Body>
inline void each_block(const LinearArgs& args, int64_t row, Body&& body) {
    constexpr int64_t kValues = kDepth<Kind> * values_per_word(Kind::kDtype);
    Word* staged = args.staged.words + row * kStride;
    for (int64_t k = 0; k < args.x.cols; k += kValues) {
        body(k, at_most(args.x.cols - k, kValues), staged);
        staged += args.staged.rows * kStride;
    }
}

template <class Kind>
void stage_row(const LinearArgs& args, int64_t row) {
    const float* x = args.x.row(row);
    each_block<Kind>(args, row,
                     [&](int64_t k, int64_t count, Word* staged) { stage_words<Kind>(x + k, count, staged); });
}

inline float rounded(float x) {
    return max_lane(round(F32::all(x)));
}

// `count` values, a step `inverse` each, to staged words. Bytes past the last one are zeros of the weights, and of no
// account.
void stage_bytes(const float* x, int64_t count, float inverse, float zero, Word* staged) {
    constexpr bool kIsWhole = Int8Kind::kParts == 1;  // words as they are
    alignas(64) uint8_t bytes[kDepth<Int8Kind> * 4];
    uint8_t* const to = kIsWhole ? reinterpret_cast<uint8_t*>(staged) : bytes;
    for (int64_t k = 0; k < count; k += kLanes) {
        store_bytes(round(F32::load(x + k) * F32::all(inverse)) + F32::all(zero), to + k);
    }
    for (int64_t i = 0; !kIsWhole && i < words_for(Dtype::i8, count); ++i) {
        Word word;
        std::memcpy(&word, bytes + i * int64_t{sizeof(Word)}, sizeof word);
        unroll<Int8Kind::kParts>(
            [&](auto part) { staged[i * Int8Kind::kParts + part] = Int8Kind::template part<part>(word); });
    }
}

template <>
inline void stage_row<Int8Kind>(const LinearArgs& args, int64_t row) {
    auto* x = static_cast<float*>(thread_scratch((args.x.cols + kLanes) * int64_t{sizeof(float)}));
    const Range range = rotate_row(args.x.row(row), args.x.cols, x);
    if (!range.is_finite()) {  // whatever is staged, times NaN
        args.staged.scales[row] = float_of(0x7fc00000u);
        args.staged.zeros[row] = 0;
        return;
    }
    const float low = range.low(), steps = range.high() / 255.0f - low / 255.0f;
    const float scale = steps > 0x1p-126f ? steps : 0x1p-126f;
    const float inverse = 1.0f / scale, zero = rounded(-low * inverse);
    args.staged.scales[row] = scale;
    args.staged.zeros[row] = static_cast<int32_t>(zero) - Int8Kind::kOffset;
    each_block<Int8Kind>(args, row, [&](int64_t first, int64_t count, Word* staged) {
        stage_bytes(x + first, count, inverse, zero, staged);
    });
}

template <class Kind>
void stage_rows(const LinearArgs& args, int64_t first_row, int64_t last_row) {
    for (int64_t row = first_row; row < last_row; ++row) stage_row<Kind>(args, row);
}

}  // namespace
}  // namespace longspan::LONGSPAN_ISA
