#include <algorithm>
#include <atomic>
#include <bit>
#include <cstring>
#include <limits>
#include <vector>

#include "core/error.h"
#include "core/isa.h"
#include "core/parallel.h"
#include "hamming/hamming.h"

namespace longspan {
namespace {

struct HammingVariant {
    Isa isa;
    HammingFn* distances;
    HammingScanFn* scan;
    HammingFn* distances_by_tables = nullptr;  // null: no gain
    HammingScanFn* scan_by_tables = nullptr;
};

constexpr HammingVariant kVariants[] = {
#if LONGSPAN_X86
    {Isa::avx512_vnni, avx512_vnni::hamming, avx512_vnni::hamming_scan},
    {Isa::avx512, avx512::hamming, avx512::hamming_scan, avx2::hamming_tables, avx2::hamming_scan_tables},
    {Isa::avx2, avx2::hamming, avx2::hamming_scan, avx2::hamming_tables, avx2::hamming_scan_tables},
#endif
#if LONGSPAN_ARM64
    {Isa::neon, neon::hamming, neon::hamming_scan},
#endif
    {Isa::portable, portable::hamming, portable::hamming_scan}};

// With fewer queries, laying out the codes costs more than the tables save.
constexpr int64_t kLeastTableQueries = 4;

// A candidate is one 64-bit key, distance before row: comparing keys is the order of the result.
constexpr int kRowBits = 40;
constexpr uint64_t kRowMask = (uint64_t{1} << kRowBits) - 1;
constexpr int64_t kMaxBytes = (int64_t{1} << 21) - 1;  // so that a distance fits in the bits above

constexpr int64_t divide_up(int64_t value, int64_t by) {
    return (value + by - 1) / by;
}

void check_codes(const char* op, const MatrixView<const uint8_t>& queries, const MatrixView<const uint8_t>& codes) {
    if (codes.cols < 1 || codes.cols > kMaxBytes) {
        reject(op, ": codes must have from 1 to ", kMaxBytes, " bytes, got ", codes.cols);
    }
    if (queries.cols != codes.cols) {
        reject(op, ": q must have ", codes.cols, " bytes (as codes), got ", queries.cols);
    }
    if (codes.rows > static_cast<int64_t>(kRowMask)) reject(op, ": codes must have fewer than 2^40 rows");
}

// Queries [first, first + count) as whole words, the last one filled up with zeros.
std::vector<uint64_t> padded_words(const MatrixView<const uint8_t>& queries, int64_t first, int64_t count) {
    const int64_t words = divide_up(queries.cols, 8);
    std::vector<uint64_t> padded(static_cast<size_t>(count * words), 0);
    for (int64_t i = 0; i < count; ++i) {
        std::memcpy(padded.data() + i * words, queries.row(first + i), static_cast<size_t>(queries.cols));
    }
    return padded;
}

// What a pass is for.
enum class Wanted { distances, nearest };

// The tables of these queries (HammingPass::tables).
std::vector<uint8_t> difference_tables(const uint64_t* queries, int64_t count, int64_t words, Wanted wanted) {
    constexpr int kBits[16] = {0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4};
    constexpr int64_t kPairs = kQueriesPerTable / 2;
    const int64_t nibbles = 16 * words, groups = divide_up(count, kQueriesPerTable);
    std::vector<uint8_t> tables(static_cast<size_t>(groups * nibbles * kPairs * kTableBytes), 0);
    for (int64_t query = 0; query < groups * kQueriesPerTable; ++query) {
        const bool is_padding = query >= count;  // far from every code
        const auto* bytes = reinterpret_cast<const uint8_t*>(queries + (is_padding ? 0 : query) * words);
        const int64_t group = query / kQueriesPerTable, pair = query % kQueriesPerTable / 2;
        for (int64_t nibble = 0; nibble < nibbles; ++nibble) {
            const int value = bytes[nibble / 2] >> nibble % 2 * 4 & 15;
            uint8_t* table = tables.data() + ((group * nibbles + nibble) * kPairs + pair) * kTableBytes;
            const bool is_bound = wanted == Wanted::nearest && (nibble + 1) % kNibblesPerBound == 0;
            for (int other = 0; other < 16; ++other) {
                const int bits = is_padding ? 3 : std::min(kBits[value ^ other], is_bound ? 3 : 4);
                table[other] |= static_cast<uint8_t>(bits << query % 2 * 4);
            }
        }
    }
    return tables;
}

// The queries of one pass, as the kernels read them.
struct PreparedQueries {
    std::vector<uint64_t> words;
    std::vector<uint8_t> tables;  // empty: they are not worth it

    PreparedQueries(const MatrixView<const uint8_t>& queries, int64_t first, int64_t count,
                    const HammingVariant& variant, Wanted wanted)
        : words(padded_words(queries, first, count)) {
        const bool has_tables = variant.scan_by_tables != nullptr && count >= kLeastTableQueries;
        if (!has_tables || queries.cols > kMostTableCodeBytes) return;
        tables = difference_tables(words.data(), count, divide_up(queries.cols, 8), wanted);
    }
};

// Codes to a task: enough bytes to be worth handing out, few enough for the threads to end together.
int64_t rows_per_chunk(int64_t bytes) {
    constexpr int64_t kBytesPerChunk = 256 * 1024;
    return divide_up(std::max<int64_t>(kBytesPerChunk / bytes, 1), kCodesPerBlock) * kCodesPerBlock;
}

// A block of one panel, and the sums of each query over the panels before.
uint64_t* pass_scratch(const HammingPass& pass) {
    const int64_t sums = pass.words > kPanelWords ? pass.num_queries : 0;
    const int64_t bytes = kCodesPerBlock * (kPanelWords + sums) * int64_t{sizeof(uint64_t)};
    return static_cast<uint64_t*>(thread_scratch(std::max(bytes, kTableScratchBytes)));
}

}  // namespace

class Candidates {
public:
    // `shared_limits`: for each query the least k-th distance that any worker has reached: nothing farther can be in
    // the result. `capacity`: keys of a query before the k least are picked out.
    Candidates(std::vector<std::atomic<int64_t>>& shared_limits, int64_t k, int64_t capacity, const int64_t* tie_ranks)
        : keys_(shared_limits.size()),
          limits_(shared_limits.size(), std::numeric_limits<int64_t>::max()),
          shared_limits_(shared_limits),
          k_(static_cast<size_t>(k)),
          capacity_(static_cast<size_t>(capacity)),
          tie_ranks_(tie_ranks) {}

    const int64_t* limits() const { return limits_.data(); }
    std::vector<uint64_t>& keys(int64_t query) { return keys_[static_cast<size_t>(query)]; }

    void refresh_limits() {
        for (size_t query = 0; query < limits_.size(); ++query) refresh_limit(query);
    }

    void take(size_t query, int64_t first_row, uint64_t mask, const uint64_t* distances) {
        std::vector<uint64_t>& keys = keys_[query];
        for (; mask != 0; mask &= mask - 1) {
            const int lane = std::countr_zero(mask);
            const int64_t row = first_row + lane;
            const int64_t order = tie_ranks_ == nullptr ? row : tie_ranks_[row];
            keys.push_back(distances[lane] << kRowBits | static_cast<uint64_t>(order));
        }
        if (keys.size() >= capacity_) shrink(query);
    }

private:
    // Keeps the k least keys; what comes later must beat them.
    void shrink(size_t query) {
        std::vector<uint64_t>& keys = keys_[query];
        if (keys.size() > k_) {
            std::nth_element(keys.begin(), keys.begin() + static_cast<std::ptrdiff_t>(k_ - 1), keys.end());
            keys.resize(k_);
            const auto farthest = static_cast<int64_t>(keys[k_ - 1] >> kRowBits);
            // A worker sees its rows in ascending order, so a later one at the same distance loses; not so by rank.
            limits_[query] = std::min(limits_[query], tie_ranks_ == nullptr ? farthest - 1 : farthest);
            int64_t seen = shared_limits_[query].load(std::memory_order_relaxed);
            while (farthest < seen && !shared_limits_[query].compare_exchange_weak(seen, farthest)) {
            }
        }
        refresh_limit(query);
    }
    void refresh_limit(size_t query) {
        limits_[query] = std::min(limits_[query], shared_limits_[query].load(std::memory_order_relaxed));
    }

    std::vector<std::vector<uint64_t>> keys_;
    std::vector<int64_t> limits_;
    std::vector<std::atomic<int64_t>>& shared_limits_;
    size_t k_;
    size_t capacity_;
    const int64_t* tie_ranks_;
};

void take(Candidates& candidates, int64_t query, int64_t first_row, uint64_t mask, const uint64_t* distances) {
    candidates.take(static_cast<size_t>(query), first_row, mask, distances);
}

void hamming(const MatrixView<const uint8_t>& queries, const MatrixView<const uint8_t>& codes,
             const MatrixView<int32_t>& out) {
    check_codes("hamming", queries, codes);
    if (out.rows != queries.rows || out.cols != codes.rows) {
        reject("hamming: out must be (", queries.rows, ", ", codes.rows, "), got (", out.rows, ", ", out.cols, ")");
    }
    const HammingVariant& variant = pick_variant(kVariants, active_isa());
    const int64_t words = divide_up(codes.cols, 8), chunk = rows_per_chunk(codes.cols);
    for (int64_t query = 0; query < queries.rows; query += kQueriesPerPass) {
        const int64_t count = std::min(kQueriesPerPass, queries.rows - query);
        const PreparedQueries prepared(queries, query, count, variant, Wanted::distances);
        const HammingPass pass{codes, prepared.words.data(), count, words, nullptr, nullptr, prepared.tables.data()};
        const auto run = prepared.tables.empty() ? variant.distances : variant.distances_by_tables;
        const MatrixView<int32_t> part{out.row(query), count, out.cols, out.row_stride};
        parallel_for(divide_up(codes.rows, chunk), [&](int64_t task) {
            run(pass, task * chunk, std::min(codes.rows, (task + 1) * chunk), pass_scratch(pass), part);
        });
    }
}

namespace {

void check_topk(const HammingTopkArgs& args) {
    check_codes("hamming_topk", args.queries, args.codes);
    const int64_t n = args.codes.rows, k = args.rows.cols;
    if (k < 1 || k > n) reject("hamming_topk: k must be from 1 to ", n, " (the codes), got ", k);
    if (args.filter && args.filter.size != divide_up(n, 8)) {
        reject("hamming_topk: filter must have ", divide_up(n, 8), " bytes, got ", args.filter.size);
    }
    if (args.tie_ranks && args.tie_ranks.size != n) {
        reject("hamming_topk: tie_ranks must have ", n, " values, got ", args.tie_ranks.size);
    }
    const int64_t queries = args.queries.rows;
    if (args.rows.rows != queries || args.distances.rows != queries || args.distances.cols != k) {
        reject("hamming_topk: distances and rows must both be (", queries, ", k)");
    }
    if (args.tie_ranks) {
        for (int64_t row = 0; row < n; ++row) {
            if (args.tie_ranks.data[row] >= 0 && args.tie_ranks.data[row] < n) continue;
            reject("hamming_topk: tie_ranks must be from 0 to ", n - 1, ", got ", args.tie_ranks.data[row]);
        }
    }
}

// The k least of what all workers have kept for a query, in order.
void write_result(std::vector<Candidates>& workers, int64_t query, int64_t k, int32_t* distances, int64_t* rows) {
    std::vector<uint64_t>& keys = workers[0].keys(query);
    for (size_t i = 1; i < workers.size(); ++i) {
        const std::vector<uint64_t>& more = workers[i].keys(query);
        keys.insert(keys.end(), more.begin(), more.end());
    }
    if (static_cast<int64_t>(keys.size()) < k) {
        reject("hamming_topk: k must be at most the number of rows that filter lets pass, ", keys.size(), ", got ", k);
    }
    std::partial_sort(keys.begin(), keys.begin() + k, keys.end());
    for (int64_t i = 0; i < k; ++i) {
        distances[i] = static_cast<int32_t>(keys[static_cast<size_t>(i)] >> kRowBits);
        rows[i] = static_cast<int64_t>(keys[static_cast<size_t>(i)] & kRowMask);
    }
}

// One pass over the codes for queries [first, first + count).
void scan(const HammingTopkArgs& args, int64_t first, int64_t count, int64_t num_workers, int64_t capacity) {
    const int64_t n = args.codes.rows, k = args.rows.cols, words = divide_up(args.codes.cols, 8);
    const HammingVariant& variant = pick_variant(kVariants, active_isa());
    const PreparedQueries prepared(args.queries, first, count, variant, Wanted::nearest);
    const auto run = prepared.tables.empty() ? variant.scan : variant.scan_by_tables;
    std::vector<std::atomic<int64_t>> limits(static_cast<size_t>(count));
    for (auto& limit : limits) limit.store(std::numeric_limits<int64_t>::max());
    std::vector<Candidates> workers;
    for (int64_t i = 0; i < num_workers; ++i) workers.emplace_back(limits, k, capacity, args.tie_ranks.data);
    const int64_t chunk = rows_per_chunk(args.codes.cols);
    std::atomic<int64_t> next{0};  // workers take chunks in ascending order, so each sees its rows ascending
    parallel_for(num_workers, [&](int64_t worker) {
        Candidates& own = workers[static_cast<size_t>(worker)];
        const HammingPass pass{args.codes,   prepared.words.data(), count, words, args.filter.data,
                               own.limits(), prepared.tables.data()};
        for (int64_t row = next.fetch_add(chunk); row < n; row = next.fetch_add(chunk)) {
            own.refresh_limits();
            run(pass, row, std::min(n, row + chunk), pass_scratch(pass), own);
        }
    });
    parallel_for(count, [&](int64_t query) {
        write_result(workers, query, k, args.distances.row(first + query), args.rows.row(first + query));
    });
}

}  // namespace

void hamming_topk(const HammingTopkArgs& args) {
    check_topk(args);
    const int64_t n = args.codes.rows, k = args.rows.cols;
    const int64_t workers = std::min<int64_t>(num_threads(), divide_up(n, rows_per_chunk(args.codes.cols)));
    // Room before the least k are picked out: a multiple of k, so that this costs little per candidate, and no large
    // one, so that the limit is soon near the k-th distance.
    const int64_t capacity = std::min(n + kCodesPerBlock, std::max<int64_t>(2 * k, 128));
    // Very large k: fewer queries to a pass, so that the candidates stay within bounds.
    constexpr int64_t kMaxCandidates = int64_t{16} << 20;
    const int64_t per_pass = std::clamp<int64_t>(kMaxCandidates / (capacity * workers), 1, kQueriesPerPass);
    for (int64_t query = 0; query < args.queries.rows; query += per_pass) {
        scan(args, query, std::min(per_pass, args.queries.rows - query), workers, capacity);
    }
}

}  // namespace longspan
