// The kernel, once for every instruction set: included by portable.cpp, avx2.cpp and avx512.cpp.

#include <utility>

#include "span_mean/span_mean.h"

namespace longspan::LONGSPAN_ISA {
namespace {

// As many sums as registers hold, beside what loads need: rows are then read in long runs, and nothing is stored
// before a block is done. A row at a time over its whole width, with the sums in L1, is a tenth slower; several rows
// at a time, which are more streams than the prefetchers follow, take twice as long.
constexpr int kTile = F32::kLanes == 16 ? 16 : 8;

// Adds rows [begin, end) in kTile whole vectors from `column` on to out, which they start anew if `is_first`. The
// vectors are spelled out, as compilers keep an array that loops run over in memory.
template <int... kIndex>
inline void add_tile(std::integer_sequence<int, kIndex...>, const SpanMeanArgs& args, int64_t begin, int64_t end,
                     int64_t column, float* out, bool is_first) {
    const float* from = args.hidden.row(begin) + column;
    const int64_t stride = args.hidden.row_stride;
    F32 parts[] = {F32::load(from + kIndex * F32::kLanes)...};
    for (int64_t left = end - begin - 1; left > 0; --left) {
        from += stride;
        ((parts[kIndex] = parts[kIndex] + F32::load(from + kIndex * F32::kLanes)), ...);
    }
    float* to = out + column;
    if (!is_first) ((parts[kIndex] = F32::load(to + kIndex * F32::kLanes) + parts[kIndex]), ...);
    (parts[kIndex].store(to + kIndex * F32::kLanes), ...);
}

// The same for one vector of `lanes` lanes.
inline void add_vector(const SpanMeanArgs& args, int64_t begin, int64_t end, int64_t column, int64_t lanes, float* out,
                       bool is_first) {
    F32 part = F32::zero();
    for (int64_t row = begin; row < end; ++row) part = part + F32::load_first(args.hidden.row(row) + column, lanes);
    (is_first ? part : F32::load_first(out + column, lanes) + part).store_first(out + column, lanes);
}

}  // namespace

void span_mean(const SpanMeanArgs& args, int64_t span, int64_t first, int64_t last) {
    const int64_t begin = args.spans.row(span)[0], end = args.spans.row(span)[1];
    float* out = args.out.row(span);
    for (int64_t row = begin; row < end; row += kSpanBlock) {
        const int64_t block_end = row + kSpanBlock < end ? row + kSpanBlock : end;
        int64_t column = first;
        for (; column + kTile * F32::kLanes <= last; column += kTile * F32::kLanes) {
            add_tile(std::make_integer_sequence<int, kTile>(), args, row, block_end, column, out, row == begin);
        }
        for (; column < last; column += F32::kLanes) {
            const int64_t lanes = last - column < F32::kLanes ? last - column : F32::kLanes;
            add_vector(args, row, block_end, column, lanes, out, row == begin);
        }
    }
    const F32 count = F32::all(static_cast<float>(end - begin));
    for (int64_t column = first; column < last; column += F32::kLanes) {
        const int64_t lanes = last - column < F32::kLanes ? last - column : F32::kLanes;
        (F32::load_first(out + column, lanes) / count).store_first(out + column, lanes);
    }
}

void unit_length(const SpanMeanArgs& args, int64_t span) {
    float* out = args.out.row(span);
    const int64_t dim = args.out.cols;
    F32 squares = F32::zero();
    for (int64_t column = 0; column < dim; column += F32::kLanes) {
        const F32 x = F32::load_first(out + column, dim - column < F32::kLanes ? dim - column : F32::kLanes);
        squares = fma(x, x, squares);
    }
    const F32 length = max(F32::all(kSmallestNorm), sqrt(F32::all(sum(squares))));  // NaN goes through
    for (int64_t column = 0; column < dim; column += F32::kLanes) {
        const int64_t lanes = dim - column < F32::kLanes ? dim - column : F32::kLanes;
        (F32::load_first(out + column, lanes) / length).store_first(out + column, lanes);
    }
}

}  // namespace longspan::LONGSPAN_ISA
