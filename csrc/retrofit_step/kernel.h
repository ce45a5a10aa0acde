// The kernels, once for every instruction set: included by portable.cpp, avx2.cpp and avx512.cpp.

#include <utility>

#include "retrofit_step/retrofit_step.h"

namespace longspan::LONGSPAN_ISA {
namespace {

constexpr int64_t kLine = 16;          // floats of a cache line
constexpr int64_t kAheadBytes = 4096;  // of rows that are asked for before they are needed

// Asks for the first `columns` values of a row. Inlined by force: GCC takes a function that only prefetches for one
// without effect, and drops its calls.
#if defined(__GNUC__)
[[gnu::always_inline]] inline void ask_for(const float* row, int64_t columns) {
    for (int64_t column = 0; column < columns; column += kLine) __builtin_prefetch(row + column);
    __builtin_prefetch(row + columns - 1);
}
#else
inline void ask_for(const float*, int64_t) {}
#endif

// Where terms come from: rows of a matrix by index, each with a weight.
struct Terms {
    const MatrixView<const float>& rows;
    const int32_t* indices;
    const float* weights;
    const float* scale;  // by row, or null
    int64_t end;         // of all indices, for what is asked for ahead

    float weight(int64_t k) const { return scale ? weights[k] * scale[indices[k]] : weights[k]; }
};

// Adds terms [first, last) in whole vectors from `column` on to `totals`. The vectors are spelled out, as compilers
// keep an array that loops run over in memory.
template <int... kIndex>
inline void add_terms(std::integer_sequence<int, kIndex...>, const Terms& terms, int64_t first, int64_t last,
                      int64_t column, F32* totals) {
    constexpr int64_t kColumns = static_cast<int64_t>(sizeof...(kIndex)) * F32::kLanes;
    constexpr int64_t kAhead = kAheadBytes / 4 / kColumns < 4 ? 4 : kAheadBytes / 4 / kColumns;
    for (int64_t start = first; start < last; start += kTerms) {
        const int64_t stop = start + kTerms < last ? start + kTerms : last;
        F32 parts[] = {(static_cast<void>(kIndex), F32::zero())...};
        for (int64_t k = start; k < stop; ++k) {
            if (k + kAhead < terms.end) ask_for(terms.rows.row(terms.indices[k + kAhead]) + column, kColumns);
            const float* row = terms.rows.row(terms.indices[k]) + column;
            const F32 weight = F32::all(terms.weight(k));
            ((parts[kIndex] = fma(weight, F32::load(row + kIndex * F32::kLanes), parts[kIndex])), ...);
        }
        ((totals[kIndex] = totals[kIndex] + parts[kIndex]), ...);
    }
}

// The same for the last `lanes` columns of a row, fewer than a vector has.
inline F32 add_terms_of(const Terms& terms, int64_t first, int64_t last, int64_t column, int64_t lanes, F32 total) {
    for (int64_t start = first; start < last; start += kTerms) {
        const int64_t stop = start + kTerms < last ? start + kTerms : last;
        F32 part = F32::zero();
        for (int64_t k = start; k < stop; ++k) {
            const float* row = terms.rows.row(terms.indices[k]) + column;
            part = fma(F32::all(terms.weight(k)), F32::load_first(row, lanes), part);
        }
        total = total + part;
    }
    return total;
}

struct Row {
    const RetrofitStepArgs& args;
    Terms neighbors, corrections;
    int64_t row;

    int64_t first(const SparseRows& of) const { return of.indptr.data[row]; }
    int64_t last(const SparseRows& of) const { return of.indptr.data[row + 1]; }
    bool has_base() const { return args.base.data && args.anchor.data[row] != 0.0f; }
    F32 anchor() const { return F32::all(args.anchor.data[row]); }
    F32 divided(F32 total) const { return args.divisor ? total / F32::all(args.divisor.data[row]) : total; }
};

// `kCount` whole vectors of a row; the sum of their squares.
template <int... kIndex>
inline F32 whole(std::integer_sequence<int, kIndex...> index, const Row& it, int64_t column, F32 squares) {
    F32 totals[] = {(static_cast<void>(kIndex), F32::zero())...};
    add_terms(index, it.neighbors, it.first(it.args.neighbors), it.last(it.args.neighbors), column, totals);
    if (it.args.sums.data) {
        add_terms(index, it.corrections, it.first(it.args.corrections), it.last(it.args.corrections), column, totals);
    }
    if (it.has_base()) {
        const float* base = it.args.base.row(it.row) + column;
        const F32 anchor = it.anchor();
        ((totals[kIndex] = fma(anchor, F32::load(base + kIndex * F32::kLanes), totals[kIndex])), ...);
    }
    float* out = it.args.out.row(it.row) + column;
    ((totals[kIndex] = it.divided(totals[kIndex])), ...);
    (totals[kIndex].store(out + kIndex * F32::kLanes), ...);
    ((squares = fma(totals[kIndex], totals[kIndex], squares)), ...);
    return squares;
}

inline F32 rest(const Row& it, int64_t column, int64_t lanes, F32 squares) {
    F32 total = F32::zero();
    total = add_terms_of(it.neighbors, it.first(it.args.neighbors), it.last(it.args.neighbors), column, lanes, total);
    if (it.args.sums.data) {
        const auto& corrections = it.args.corrections;
        total = add_terms_of(it.corrections, it.first(corrections), it.last(corrections), column, lanes, total);
    }
    if (it.has_base()) total = fma(it.anchor(), F32::load_first(it.args.base.row(it.row) + column, lanes), total);
    total = it.divided(total);
    total.store_first(it.args.out.row(it.row) + column, lanes);
    return fma(total, total, squares);
}

template <int kCount>
inline F32 all_of(const Row& it, int64_t& column, F32 squares) {
    for (; column + kCount * F32::kLanes <= it.args.out.cols; column += kCount * F32::kLanes) {
        squares = whole(std::make_integer_sequence<int, kCount>(), it, column, squares);
    }
    return squares;
}

}  // namespace

void retrofit_step(const RetrofitStepArgs& args, int64_t first, int64_t last) {
    const SparseRows &near = args.neighbors, &far = args.corrections;
    const Terms neighbors{args.vectors, near.indices.data, near.weights.data, args.scale.data, near.indices.size};
    const Terms corrections{args.sums, far.indices.data, far.weights.data, nullptr, 0};
    for (int64_t row = first; row < last; ++row) {
        const Row it{args, neighbors, corrections, row};
        F32 squares = F32::zero();
        int64_t column = 0;
        squares = all_of<8>(it, column, squares);
        squares = all_of<4>(it, column, squares);
        squares = all_of<2>(it, column, squares);
        squares = all_of<1>(it, column, squares);
        if (column < args.out.cols) squares = rest(it, column, args.out.cols - column, squares);
        if (args.squares) args.squares.data[row] += static_cast<double>(sum(squares));
    }
}

void group_sums(const GroupSumsArgs& args, int64_t first, int64_t last, double* total) {
    constexpr int64_t kColumns = 32;  // sums that stay in registers
    const int64_t dim = args.out.cols;
    const int32_t* members = args.groups.indices.data;
    int64_t column = 0;
    for (; column + kColumns <= dim; column += kColumns) {
        double sums[kColumns] = {};
        for (int64_t k = first; k < last; ++k) {
            const float* row = args.vectors.row(members[k]) + column;
            const float scale = args.scale ? args.scale.data[members[k]] : 1.0f;
            for (int64_t i = 0; i < kColumns; ++i) sums[i] += static_cast<double>(row[i] * scale);
        }
        for (int64_t i = 0; i < kColumns; ++i) total[column + i] = sums[i];
    }
    for (; column < dim; ++column) {
        double sum = 0.0;
        for (int64_t k = first; k < last; ++k) {
            const float scale = args.scale ? args.scale.data[members[k]] : 1.0f;
            sum += static_cast<double>(args.vectors.row(members[k])[column] * scale);
        }
        total[column] = sum;
    }
}

}  // namespace longspan::LONGSPAN_ISA
