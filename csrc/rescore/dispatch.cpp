#include <algorithm>
#include <cmath>
#include <utility>
#include <vector>

#include "core/error.h"
#include "core/isa.h"
#include "core/parallel.h"
#include "rescore/rescore.h"

namespace longspan {
namespace {

constexpr Variant<RescoreFn> kVariants[] = {
#if LONGSPAN_X86
    {Isa::avx512, avx512::rescore},
    {Isa::avx2, avx2::rescore},
#endif
#if LONGSPAN_ARM64
    {Isa::neon, neon::rescore},
#endif
    {Isa::portable, portable::rescore}};

constexpr int64_t kCandidatesPerTask = 64;
constexpr int64_t kWidestRegister = 16;  // floats

constexpr int64_t divide_up(int64_t value, int64_t by) {
    return (value + by - 1) / by;
}

int64_t num_documents(const RescoreArgs& args) {
    return args.vectors.rows + args.levels.rows + args.codes.rows;
}

void check(const RescoreArgs& args) {
    const int64_t dim = args.queries.cols, n = num_documents(args);
    if (dim < 1) reject("rescore: q must have at least one column, got 0");
    const int kinds = (args.vectors.data != nullptr) + (args.levels.data != nullptr) + (args.codes.data != nullptr);
    if (kinds > 1) reject("rescore: documents must be of one kind, got ", kinds);
    if ((args.vectors.data != nullptr && args.vectors.cols != dim) ||
        (args.levels.data != nullptr && args.levels.cols != dim) ||
        (args.codes.data != nullptr && args.codes.cols != divide_up(dim, 8))) {
        reject("rescore: documents must have the ", dim, " dimensions of q");
    }
    if (args.levels.data != nullptr && args.scales.size != n) {
        reject("rescore: scales must have ", n, " values, got ", args.scales.size);
    }
    if (args.candidates.rows != args.queries.rows) {
        reject("rescore: candidates must have ", args.queries.rows, " rows (as q), got ", args.candidates.rows);
    }
    const int64_t k = args.rows.cols;
    if (k < 0 || k > args.candidates.cols) {
        reject("rescore: k must be from 0 to ", args.candidates.cols, " (the candidates), got ", k);
    }
    if (args.rows.rows != args.queries.rows || args.scores.rows != args.queries.rows || args.scores.cols != k) {
        reject("rescore: scores and rows must both be (", args.queries.rows, ", ", k, ")");
    }
    for (int64_t query = 0; query < args.candidates.rows; ++query) {
        for (int64_t i = 0; i < args.candidates.cols; ++i) {
            const int64_t row = args.candidates.row(query)[i];
            if (row >= 0 && row < n) continue;
            reject("rescore: candidates must be rows of the documents, 0 to ", n - 1, ", got ", row, " at [", query,
                   ", ", i, "]");
        }
    }
}

// (num_queries, padded) with each group of 8 values turned over, so that lane i meets bit i of a code's byte.
std::vector<float> turned_queries(const MatrixView<const float>& queries, int64_t padded) {
    std::vector<float> turned(static_cast<size_t>(queries.rows * padded), 0.0f);
    for (int64_t query = 0; query < queries.rows; ++query) {
        for (int64_t i = 0; i < queries.cols; ++i) {
            turned[static_cast<size_t>(query * padded + (i ^ 7))] = queries.row(query)[i];
        }
    }
    return turned;
}

// The k best of one query's candidates into the result.
void write_best(const RescoreArgs& args, int64_t query, const float* scores) {
    const int64_t m = args.candidates.cols, k = args.rows.cols;
    std::vector<std::pair<float, int64_t>> best(static_cast<size_t>(m));
    for (int64_t i = 0; i < m; ++i) {
        if (std::isnan(scores[i])) {
            reject("rescore: q and documents must give numbers, the score of query ", query, " and document ",
                   args.candidates.row(query)[i], " is NaN");
        }
        best[static_cast<size_t>(i)] = {scores[i], args.candidates.row(query)[i]};
    }
    const auto comes_first = [](const auto& a, const auto& b) {
        return a.first != b.first ? a.first > b.first : a.second < b.second;
    };
    std::partial_sort(best.begin(), best.begin() + k, best.end(), comes_first);
    for (int64_t i = 0; i < k; ++i) {
        args.scores.row(query)[i] = best[static_cast<size_t>(i)].first;
        args.rows.row(query)[i] = best[static_cast<size_t>(i)].second;
    }
}

}  // namespace

void rescore(const RescoreArgs& args) {
    check(args);
    const int64_t queries = args.queries.rows, m = args.candidates.cols, dim = args.queries.cols;
    if (queries == 0 || m == 0) return;
    const auto run = pick_variant(kVariants, active_isa()).run;
    const int64_t padded = divide_up(dim, kWidestRegister) * kWidestRegister;
    const bool is_coded = args.codes.data != nullptr;
    const std::vector<float> turned = is_coded ? turned_queries(args.queries, padded) : std::vector<float>{};
    std::vector<float> scores(static_cast<size_t>(queries * m));
    const int64_t parts = divide_up(m, kCandidatesPerTask);
    parallel_for(queries * parts, [&](int64_t task) {
        const int64_t query = task / parts, first = task % parts * kCandidatesPerTask;
        const float* values = is_coded ? turned.data() + query * padded : args.queries.row(query);
        run(args, values, args.candidates.row(query) + first, std::min(kCandidatesPerTask, m - first),
            scores.data() + query * m + first);
    });
    parallel_for(queries, [&](int64_t query) { write_best(args, query, scores.data() + query * m); });
}

}  // namespace longspan
