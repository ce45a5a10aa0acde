#include <algorithm>
#include <numeric>
#include <vector>

#include "core/error.h"
#include "core/isa.h"
#include "core/parallel.h"
#include "retrofit_step/retrofit_step.h"

namespace longspan {
namespace {

struct Kernels {
    RetrofitStepFn* step;
    GroupSumsFn* sums;
};

struct KernelVariant {
    Isa isa;
    Kernels run;
};

constexpr KernelVariant kVariants[] = {
#if LONGSPAN_X86
    {Isa::avx512, {avx512::retrofit_step, avx512::group_sums}},
    {Isa::avx2, {avx2::retrofit_step, avx2::group_sums}},
#endif
#if LONGSPAN_ARM64
    {Isa::neon, {neon::retrofit_step, neon::group_sums}},
#endif
    {Isa::portable, {portable::retrofit_step, portable::group_sums}}};

constexpr int64_t kTermsPerTask = 4096;  // so that a hub's row does not leave threads waiting at the end
constexpr int64_t kRowCost = 4;          // of a row beside its terms, in terms

void check_sparse(const char* name, const SparseRows& given, int64_t rows, int64_t among, bool is_weighted) {
    const auto& indptr = given.indptr;
    if (indptr.size != rows + 1) {
        reject(name, " must have an indptr of ", rows + 1, " offsets, one a row and one more, got ", indptr.size);
    }
    if (indptr.data[0] != 0 || indptr.data[rows] != given.indices.size) {
        reject(name, " must have an indptr from 0 to the number of indices, ", given.indices.size, ", got ",
               indptr.data[0], " to ", indptr.data[rows]);
    }
    for (int64_t row = 0; row < rows; ++row) {
        if (indptr.data[row] > indptr.data[row + 1])
            reject(name, " must have an indptr that never falls, it does at ", row);
    }
    if (is_weighted && given.weights.size != given.indices.size) {
        reject(name, " must have a weight an index, ", given.indices.size, ", got ", given.weights.size);
    }
    // Which of them is wrong is looked for only where one is: as unsigned, a negative one is too large.
    uint32_t largest = 0;
    for (int64_t k = 0; k < given.indices.size; ++k) {
        largest = std::max(largest, static_cast<uint32_t>(given.indices.data[k]));
    }
    if (given.indices.size > 0 && static_cast<int64_t>(largest) >= among) {
        for (int64_t k = 0; k < given.indices.size; ++k) {
            if (static_cast<int64_t>(static_cast<uint32_t>(given.indices.data[k])) >= among) {
                reject(name, " must have indices from 0 to below ", among, ", indices[", k, "] is ",
                       given.indices.data[k]);
            }
        }
    }
}

void check_size(const char* op, const char* name, int64_t size, int64_t wanted) {
    if (size != wanted) reject(op, ": ", name, " must have ", wanted, " values, got ", size);
}

void check(const RetrofitStepArgs& args) {
    const int64_t rows = args.out.rows, dim = args.vectors.cols;
    if (args.out.cols != dim) reject("retrofit_step: out must have ", dim, " columns, got ", args.out.cols);
    check_sparse("retrofit_step: the neighbors", args.neighbors, rows, args.vectors.rows, true);
    if (args.base.data) {
        if (args.base.rows != rows || args.base.cols != dim) {
            reject("retrofit_step: base must be (", rows, ", ", dim, "), got (", args.base.rows, ", ", args.base.cols,
                   ")");
        }
        check_size("retrofit_step", "anchor", args.anchor.size, rows);
    }
    if (args.sums.data) {
        if (args.sums.cols != dim) reject("retrofit_step: sums must have ", dim, " columns, got ", args.sums.cols);
        check_sparse("retrofit_step: the corrections", args.corrections, rows, args.sums.rows, true);
    }
    if (args.scale) check_size("retrofit_step", "scale", args.scale.size, args.vectors.rows);
    if (args.divisor) check_size("retrofit_step", "divisor", args.divisor.size, rows);
    if (args.squares) check_size("retrofit_step", "squares", args.squares.size, rows);
}

// What the rows before `row` cost.
int64_t cost_before(const RetrofitStepArgs& args, int64_t row) {
    const int64_t corrections = args.sums.data ? args.corrections.indptr.data[row] : 0;
    return args.neighbors.indptr.data[row] + corrections + kRowCost * row;
}

// The first row of the task that begins at `cost`.
int64_t row_at(const RetrofitStepArgs& args, int64_t cost) {
    int64_t low = 0, high = args.out.rows;
    while (low < high) {
        const int64_t middle = (low + high) / 2;
        if (cost_before(args, middle) < cost) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

struct Chunk {
    int64_t group, first, last;
};

}  // namespace

void retrofit_step(const RetrofitStepArgs& args) {
    check(args);
    if (args.out.empty()) return;
    const Kernels run = pick_variant(kVariants, active_isa()).run;
    const int64_t cost = cost_before(args, args.out.rows);
    const int64_t tasks = (cost + kTermsPerTask - 1) / kTermsPerTask;
    parallel_for(tasks, [&](int64_t task) {
        run.step(args, row_at(args, task * kTermsPerTask), row_at(args, (task + 1) * kTermsPerTask));
    });
}

void group_sums(const GroupSumsArgs& args) {
    const int64_t groups = args.out.rows, dim = args.vectors.cols;
    if (args.out.cols != dim) reject("group_sums: out must have ", dim, " columns, got ", args.out.cols);
    check_sparse("group_sums: the groups", args.groups, groups, args.vectors.rows, false);
    if (args.scale) check_size("group_sums", "scale", args.scale.size, args.vectors.rows);
    if (args.out.empty()) return;
    const Kernels run = pick_variant(kVariants, active_isa()).run;
    std::vector<Chunk> chunks;
    for (int64_t group = 0; group < groups; ++group) {
        const int64_t end = args.groups.indptr.data[group + 1];
        for (int64_t first = args.groups.indptr.data[group]; first < end; first += kMembers) {
            chunks.push_back({group, first, std::min(end, first + kMembers)});
        }
    }
    std::vector<double> parts(chunks.size() * static_cast<size_t>(dim));
    parallel_for(static_cast<int64_t>(chunks.size()), [&](int64_t task) {
        const Chunk& chunk = chunks[static_cast<size_t>(task)];
        run.sums(args, chunk.first, chunk.last, parts.data() + task * dim);
    });
    std::vector<double> total(static_cast<size_t>(dim));
    size_t next = 0;
    for (int64_t group = 0; group < groups; ++group) {
        std::fill(total.begin(), total.end(), 0.0);
        for (; next < chunks.size() && chunks[next].group == group; ++next) {
            const double* part = parts.data() + next * static_cast<size_t>(dim);
            for (int64_t column = 0; column < dim; ++column) total[static_cast<size_t>(column)] += part[column];
        }
        float* out = args.out.row(group);
        for (int64_t column = 0; column < dim; ++column)
            out[column] = static_cast<float>(total[static_cast<size_t>(column)]);
    }
}

}  // namespace longspan
