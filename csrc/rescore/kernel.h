// The kernels, once for every instruction set; each defines before, in its namespace:
//   load_levels(p, n)         the first n of kLanes int8 values as F32, the others 0
//   with_signs(x, code, bit, bytes)  x where the bit is set, -x where not; lane i goes by bit `bit` + i of the `bytes`
//                             bytes at `code` (least significant bit first)
//   prefetch(p)               asks for the cache line

#include "rescore/rescore.h"

namespace longspan::LONGSPAN_ISA {
namespace {

// Sum of values(i, lanes) * query over [0, dim), in four chains.
template <class Values>
inline float dot(const float* query, int64_t dim, Values&& values) {
    F32 parts[4] = {F32::zero(), F32::zero(), F32::zero(), F32::zero()};
    int64_t i = 0;
    for (; i + 4 * F32::kLanes <= dim; i += 4 * F32::kLanes) {
        for (int64_t part = 0; part < 4; ++part) {
            const int64_t at = i + part * F32::kLanes;
            parts[part] = fma(F32::load(query + at), values(at, F32::kLanes), parts[part]);
        }
    }
    for (int64_t part = 0; i < dim; i += F32::kLanes, ++part) {
        const int64_t lanes = dim - i < F32::kLanes ? dim - i : F32::kLanes;
        parts[part] = fma(F32::load_first(query + i, lanes), values(i, lanes), parts[part]);
    }
    return sum((parts[0] + parts[1]) + (parts[2] + parts[3]));
}

// Sum of +-query by the bits of `code`. The padded query is whole registers long.
inline float dot_signs(const float* query, int64_t dim, const uint8_t* code) {
    F32 parts[4] = {F32::zero(), F32::zero(), F32::zero(), F32::zero()};
    const int64_t bytes = (dim + 7) / 8;
    for (int64_t i = 0, part = 0; i < 8 * bytes; i += F32::kLanes, part = (part + 1) % 4) {
        parts[part] = parts[part] + with_signs(F32::load(query + i), code, i, bytes);
    }
    return sum((parts[0] + parts[1]) + (parts[2] + parts[3]));
}

// Calls body(row, i) for each candidate, with a candidate some places ahead on its way from memory.
template <class T, class Body>
inline void for_each_row(const MatrixView<const T>& documents, const int64_t* rows, int64_t count, Body&& body) {
    constexpr int64_t kAhead = 4, kLine = 64, kMaxLines = 16;
    const int64_t bytes = documents.cols * int64_t{sizeof(T)};
    for (int64_t i = 0; i < count; ++i) {
        if (i + kAhead < count) {
            const char* next = reinterpret_cast<const char*>(documents.row(rows[i + kAhead]));
            for (int64_t at = 0; at < bytes && at < kMaxLines * kLine; at += kLine) prefetch(next + at);
        }
        body(documents.row(rows[i]), i);
    }
}

}  // namespace

void rescore(const RescoreArgs& args, const float* query, const int64_t* rows, int64_t count, float* scores) {
    const int64_t dim = args.queries.cols;
    if (args.vectors.data != nullptr) {
        for_each_row(args.vectors, rows, count, [&](const float* vector, int64_t i) {
            scores[i] = dot(query, dim, [&](int64_t at, int64_t lanes) { return F32::load_first(vector + at, lanes); });
        });
    } else if (args.levels.data != nullptr) {
        for_each_row(args.levels, rows, count, [&](const int8_t* levels, int64_t i) {
            const float total =
                dot(query, dim, [&](int64_t at, int64_t lanes) { return load_levels(levels + at, lanes); });
            scores[i] = total * args.scales.data[rows[i]];
        });
    } else {
        for_each_row(args.codes, rows, count,
                     [&](const uint8_t* code, int64_t i) { scores[i] = dot_signs(query, dim, code); });
    }
}

}  // namespace longspan::LONGSPAN_ISA
