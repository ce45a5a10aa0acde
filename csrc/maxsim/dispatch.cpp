#include <algorithm>
#include <numeric>
#include <string>
#include <utility>
#include <vector>

#include "core/error.h"
#include "core/isa.h"
#include "core/parallel.h"
#include "maxsim/best_documents.h"
#include "maxsim/maxsim.h"
#include "maxsim/packed_queries.h"

namespace longspan {
namespace {

struct MaxsimVariant {
    Isa isa;
    int64_t lanes;
    bool multiplies_bf16;
    MaxsimFn* run;
};

constexpr MaxsimVariant kVariants[] = {
#if LONGSPAN_X86
    {Isa::avx512_bf16, avx512_bf16::kQueryLanes, avx512_bf16::kMultipliesBf16, avx512_bf16::maxsim},
    {Isa::avx512_vnni, avx512_vnni::kQueryLanes, avx512_vnni::kMultipliesBf16, avx512_vnni::maxsim},
    {Isa::avx512, avx512::kQueryLanes, avx512::kMultipliesBf16, avx512::maxsim},
    {Isa::avx_vnni, avx_vnni::kQueryLanes, avx_vnni::kMultipliesBf16, avx_vnni::maxsim},
    {Isa::avx2, avx2::kQueryLanes, avx2::kMultipliesBf16, avx2::maxsim},
#endif
#if LONGSPAN_ARM64
    {Isa::neon_i8mm, neon_i8mm::kQueryLanes, neon_i8mm::kMultipliesBf16, neon_i8mm::maxsim},
    {Isa::neon_dotprod, neon_dotprod::kQueryLanes, neon_dotprod::kMultipliesBf16, neon_dotprod::maxsim},
    {Isa::neon, neon::kQueryLanes, neon::kMultipliesBf16, neon::maxsim},
#endif
    {Isa::portable, portable::kQueryLanes, portable::kMultipliesBf16, portable::maxsim}};

// Query tokens of a group lie in a core's L2 cache while documents pass: 512 of 128 floats.
constexpr int64_t kGroupBytes = 256 * 1024;
// Registers of units multiplied that are worth waking a thread for (about 5 us).
constexpr int64_t kTaskCost = 32 * 1024;
// Documents whose scores maxsim_topk keeps before it offers them.
constexpr int64_t kBlockDocs = 256;
// More tasks than threads, so that the last ones end together.
constexpr int64_t kTasksPerThread = 8;

void check_offsets(const char* op, const char* name, const VectorView<const int32_t>& offsets, int64_t total) {
    if (offsets.size < 1 || offsets.data[0] != 0 || offsets.data[offsets.size - 1] != total) {
        reject(op, ": ", name, " must go from 0 to ", total);
    }
    for (int64_t i = 1; i < offsets.size; ++i) {
        if (offsets.data[i] < offsets.data[i - 1]) reject(op, ": ", name, " must not fall, it does at ", i);
    }
}

void check(const char* op, const MaxsimInputs& inputs) {
    const TokenRows& docs = inputs.docs;
    const bool has_codes = inputs.q_codes.data != nullptr;
    const int64_t dim = has_codes ? inputs.q_codes.cols * 8 : inputs.q.cols;
    if (docs.dim < 1 || docs.dim != dim) {
        reject(op, ": q and d must have the same dim, at least 1, got ", dim, " and ", docs.dim);
    }
    if (has_codes && docs.format != TokenFormat::codes) reject(op, ": with q as codes, d must be codes too");
    if (docs.format == TokenFormat::i8 && docs.scales == nullptr) reject(op, ": int8 d must come with scales");
    if (docs.format >= TokenFormat::i8 && query_limit(docs.dim, docs.format) < 1) {
        reject(op, ": dim ", docs.dim, " is too large for d in a narrow format");
    }
    check_offsets(op, "cu_seqlens_q", inputs.cu_seqlens_q, inputs.total_q());
    check_offsets(op, "cu_seqlens_d", inputs.cu_seqlens_d, docs.rows);
    for (int64_t i = 0; i < inputs.num_docs(); ++i) {
        if (inputs.cu_seqlens_d.data[i] == inputs.cu_seqlens_d.data[i + 1]) reject(op, ": document ", i, " is empty");
    }
}

Unit unit_for(const MaxsimInputs& inputs, bool multiplies_bf16) {
    switch (inputs.docs.format) {
        case TokenFormat::bf16:
            return multiplies_bf16 ? Unit::bf16_pair : Unit::f32;
        case TokenFormat::i8:
            return Unit::i16_pair;
        case TokenFormat::codes:
            return inputs.q_codes.data == nullptr ? Unit::i16_pair : Unit::bits;
        default:
            return Unit::f32;
    }
}

// The kernel and the queries of one call.
class Scorer {
public:
    Scorer(const MaxsimInputs& inputs, bool groups_queries)
        : inputs_(inputs),
          variant_(pick_variant(kVariants, active_isa())),
          queries_(inputs, unit_for(inputs, variant_.multiplies_bf16), variant_.lanes,
                   groups_queries ? group_tokens() : PackedQueries::kOneQueryEach) {}

    const std::vector<QueryGroup>& groups() const { return queries_.groups(); }

    // Work of one document token.
    int64_t cost_of(const QueryGroup& group) const { return (group.num_vectors + 1) * queries_.num_units(); }

    // Calls sink(query, score) for the group's queries.
    template <class Sink>
    void score(const QueryGroup& group, int64_t doc, Sink&& sink) const {
        const int64_t lanes = group.num_vectors * variant_.lanes;
        const int64_t best_bytes = (2 * lanes * int64_t{sizeof(float)} + 63) / 64 * 64;
        const int64_t staged_bytes = std::max(kStagedBytes, kMostRows * queries_.num_units() * kUnitBytes);
        auto* scratch = static_cast<std::byte*>(thread_scratch(best_bytes + staged_bytes));
        auto* best = reinterpret_cast<float*>(scratch);
        const MaxsimPart part{&inputs_.docs,
                              inputs_.cu_seqlens_d.data[doc],
                              inputs_.cu_seqlens_d.data[doc + 1],
                              queries_.unit(),
                              queries_.num_units(),
                              queries_.vectors_of(group),
                              group.num_vectors,
                              best,
                              scratch + best_bytes};
        if (group.num_vectors > 0) variant_.run(part);
        const int32_t* offsets = inputs_.cu_seqlens_q.data;
        for (int64_t query = group.first_query; query < group.last_query; ++query) {
            sink(query, sum(best, group.first_token, offsets[query], offsets[query + 1]));
        }
    }

private:
    int64_t group_tokens() const {
        const Unit unit = unit_for(inputs_, variant_.multiplies_bf16);
        return std::max<int64_t>(1, kGroupBytes * values_per_unit(unit) / (inputs_.docs.dim * kUnitBytes));
    }

    // Over query tokens [first, last), where best starts with first_token; in double, which leaves the rounding of the
    // products as the only one that counts.
    float sum(const float* best, int64_t first_token, int64_t first, int64_t last) const {
        const float* scales = queries_.scales();
        double total = 0.0;
        for (int64_t token = first; token < last; ++token) {
            const double product = best[token - first_token];
            total += scales == nullptr ? product : product * double{scales[token]};
        }
        return static_cast<float>(total);
    }

    const MaxsimInputs& inputs_;
    const MaxsimVariant& variant_;
    PackedQueries queries_;
};

// Calls body(group, first_doc, last_doc) in parallel for all groups and runs of documents.
template <class Body>
void for_document_runs(const MaxsimInputs& inputs, const Scorer& scorer, Body&& body) {
    const int64_t num_docs = inputs.num_docs(), total_d = inputs.docs.rows;
    if (num_docs == 0) return;
    struct Task {
        const QueryGroup* group;
        int64_t first_doc, last_doc;
    };
    const auto num_groups = static_cast<int64_t>(scorer.groups().size());
    const int64_t most_runs = std::max<int64_t>(1, kTasksPerThread * num_threads() / std::max<int64_t>(1, num_groups));
    std::vector<Task> tasks;
    for (const QueryGroup& group : scorer.groups()) {
        const int64_t runs = std::clamp<int64_t>(total_d * scorer.cost_of(group) / kTaskCost, 1, most_runs);
        int64_t doc = 0;
        for (int64_t run = 1; run <= runs && doc < num_docs; ++run) {
            const int32_t* offsets = inputs.cu_seqlens_d.data;
            const int32_t* end = std::lower_bound(offsets + doc + 1, offsets + num_docs, total_d * run / runs);
            tasks.push_back({&group, doc, end - offsets});
            doc = end - offsets;
        }
    }
    parallel_for(static_cast<int64_t>(tasks.size()), [&](int64_t i) {
        const Task& task = tasks[static_cast<size_t>(i)];
        body(*task.group, task.first_doc, task.last_doc);
    });
}

}  // namespace

void maxsim(const MaxsimInputs& inputs, const MatrixView<float>& out) {
    check("maxsim", inputs);
    if (out.rows != inputs.num_queries() || out.cols != inputs.num_docs()) {
        reject("maxsim: out must be (", inputs.num_queries(), ", ", inputs.num_docs(), "), got (", out.rows, ", ",
               out.cols, ")");
    }
    const Scorer scorer(inputs, true);
    for_document_runs(inputs, scorer, [&](const QueryGroup& group, int64_t first_doc, int64_t last_doc) {
        for (int64_t doc = first_doc; doc < last_doc; ++doc) {
            scorer.score(group, doc, [&](int64_t query, float score) { out.row(query)[doc] = score; });
        }
    });
}

void maxsim_pairs(const MaxsimInputs& inputs, const MatrixView<const int32_t>& pairs, const VectorView<float>& out) {
    check("maxsim_pairs", inputs);
    if (pairs.cols != 2 || out.size != pairs.rows) {
        reject("maxsim_pairs: pairs must be (", out.size, ", 2), got (", pairs.rows, ", ", pairs.cols, ")");
    }
    for (int64_t i = 0; i < pairs.rows; ++i) {
        const int32_t query = pairs.row(i)[0], doc = pairs.row(i)[1];
        if (query < 0 || query >= inputs.num_queries() || doc < 0 || doc >= inputs.num_docs()) {
            reject("maxsim_pairs: pairs[", i, "] is (", query, ", ", doc, ") but there are ", inputs.num_queries(),
                   " queries and ", inputs.num_docs(), " documents");
        }
    }
    // By document: its queries find it in the cache.
    std::vector<int64_t> order(static_cast<size_t>(pairs.rows));
    std::iota(order.begin(), order.end(), 0);
    std::stable_sort(order.begin(), order.end(),
                     [&](int64_t a, int64_t b) { return pairs.row(a)[1] < pairs.row(b)[1]; });
    const Scorer scorer(inputs, false);
    const auto tokens_of = [&](int64_t i) {
        const int32_t doc = pairs.row(order[static_cast<size_t>(i)])[1];
        return inputs.cu_seqlens_d.data[doc + 1] - inputs.cu_seqlens_d.data[doc];
    };
    const auto group_of = [&](int64_t i) -> const QueryGroup& {
        return scorer.groups()[static_cast<size_t>(pairs.row(order[static_cast<size_t>(i)])[0])];
    };
    int64_t total = 0;
    for (int64_t i = 0; i < pairs.rows; ++i) total += tokens_of(i) * scorer.cost_of(group_of(i));
    const int64_t share = std::max(kTaskCost, total / (kTasksPerThread * num_threads()));
    std::vector<int64_t> starts = {0};
    int64_t cost = 0;
    for (int64_t i = 0; i < pairs.rows; ++i) {
        cost += tokens_of(i) * scorer.cost_of(group_of(i));
        if (cost < share && i + 1 < pairs.rows) continue;
        starts.push_back(i + 1);
        cost = 0;
    }
    parallel_for(static_cast<int64_t>(starts.size()) - 1, [&](int64_t task) {
        for (int64_t i = starts[static_cast<size_t>(task)]; i < starts[static_cast<size_t>(task) + 1]; ++i) {
            const int64_t pair = order[static_cast<size_t>(i)];
            scorer.score(group_of(i), pairs.row(pair)[1], [&](int64_t, float score) { out.data[pair] = score; });
        }
    });
}

void maxsim_topk(const MaxsimInputs& inputs, const MatrixView<float>& scores, const MatrixView<int64_t>& rows) {
    check("maxsim_topk", inputs);
    const int64_t k = scores.cols;
    if (scores.rows != inputs.num_queries() || rows.rows != scores.rows || rows.cols != k) {
        reject("maxsim_topk: scores and rows must be (", inputs.num_queries(), ", k), got (", scores.rows, ", ", k,
               ") and (", rows.rows, ", ", rows.cols, ")");
    }
    if (k < 1 || k > inputs.num_docs()) {
        reject("maxsim_topk: k must be from 1 to the number of documents, ", inputs.num_docs(), ", got ", k);
    }
    const Scorer scorer(inputs, true);
    std::vector<BestDocuments> best(static_cast<size_t>(inputs.num_queries()));
    for_document_runs(inputs, scorer, [&](const QueryGroup& group, int64_t first_doc, int64_t last_doc) {
        std::vector<std::vector<float>> block(static_cast<size_t>(group.last_query - group.first_query));
        for (int64_t first = first_doc; first < last_doc; first += kBlockDocs) {
            for (int64_t doc = first; doc < std::min(first + kBlockDocs, last_doc); ++doc) {
                scorer.score(group, doc, [&](int64_t query, float score) {
                    block[static_cast<size_t>(query - group.first_query)].push_back(score);
                });
            }
            for (size_t i = 0; i < block.size(); ++i) {
                best[static_cast<size_t>(group.first_query) + i].offer(block[i], first, k);
                block[i].clear();
            }
        }
    });
    parallel_for(inputs.num_queries(), [&](int64_t query) {
        const std::vector<ScoredDocument> taken = best[static_cast<size_t>(query)].take();
        for (int64_t i = 0; i < k; ++i) {
            scores.row(query)[i] = taken[static_cast<size_t>(i)].score;
            rows.row(query)[i] = taken[static_cast<size_t>(i)].row;
        }
    });
}

}  // namespace longspan
