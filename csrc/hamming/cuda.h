// hamming and hamming_topk on a GPU: what the launchers take, and how a search is planned (host code, tested as such).
//   queries (num_queries, bytes) uint8, codes (n, bytes) uint8   ->   distance int32, row int64
// Pointers are device memory; strides count bytes for codes, elements elsewhere. A launcher allocates nothing and waits
// for nothing: its workspace comes with the call. Ties go by row, and the result is exact on every path.
//
// Three paths to the k nearest. What each costs is said with its kernels; cuda.cu holds them to k and n.
//   whole      few rows: one block a query looks at all of them twice (cuda_select.cu)
//   histogram  one query: distances and their histogram in one pass at memory speed, then 2 bytes a row (cuda_scan.cu)
//   sampled    many queries: tensor cores, 16 queries against 8 codes an instruction. A sample of the rows gives each
//              query a bound that the k-th nearest of all rows cannot exceed; only what beats it is kept
//              (cuda_tiles.cu)
//
// Why tensor cores: 1024 queries x 10 M x 1024 bits are 1.0e10 pairs of 32 words. With popcounts alone, 16 words a
// clock and multiprocessor, an H100 (132 of them at 1.75 GHz) takes 89 ms; adding words up first (carry-save) brings
// that to some 55 ms. One query at a time, at 3 TB/s, takes 437 ms. As 8-bit products of +-1 the pairs are 2.1e13
// operations: 11 ms at the peak of 1979 TOPS, and codes unpacked eightfold in shared memory. One-bit products
// (and + popcount, dist = |q| + |c| - 2 |q & c|) need no unpacking and do eight times as many a clock on sm_80, whose
// instruction sm_90 still has (SASS: BMMA.168256.AND.POPC): some 3 ms, and then looking at each pair's sum, half
// a maximum and half a comparison, some 1 ms. On sm_100 the assembler makes each of eight 8-bit products.
#pragma once

#include "core/cuda_host.h"

namespace longspan::cuda {

inline constexpr int kMaxCodeBytes = 512;        // distances fit in 16 bits, histograms in shared memory
inline constexpr int64_t kMaxRows = 0xffffffff;  // rows fit in 32 bits of a key
inline constexpr int64_t kMaxSorted = 2048;      // keys that one block puts in order

// A candidate is one key, distance before row: comparing keys is the order of the result.
using Key = uint64_t;
inline constexpr int kRowBits = 32;
inline constexpr Key kNoKey = 0x7fffffffffffffff;  // after all others, also as a signed number

__host__ __device__ inline Key make_key(uint32_t distance, int64_t row) {
    return static_cast<Key>(distance) << kRowBits | static_cast<Key>(row);
}

struct Codes {
    const uint8_t* data;
    int64_t row_stride;
    int64_t n;
    int32_t bytes;
    const uint8_t* filter;  // one bit a row, most significant first, 1 = may be found; null: all may

    __host__ __device__ const uint8_t* row(int64_t i) const { return data + i * row_stride; }
    __host__ __device__ bool may_find(int64_t i) const {
        return filter == nullptr || (filter[i / 8] >> (7 - i % 8) & 1) != 0;
    }
};

struct Queries {
    const uint8_t* data;
    int64_t row_stride;
    int64_t count;

    __host__ __device__ const uint8_t* row(int64_t i) const { return data + i * row_stride; }
};

// The widest of 16, 4 and 1 bytes at which all codes can be read.
inline int read_width(const Codes& codes) {
    const uint64_t all =
        reinterpret_cast<uintptr_t>(codes.data) | static_cast<uint64_t>(codes.row_stride) | uint64_t(codes.bytes);
    return all % 16 == 0 ? 16 : all % 4 == 0 ? 4 : 1;
}

// ---- the plan ----

enum class Route { whole, histogram, sampled };

inline constexpr int kMaxLevels = 8;

struct TopkPlan {
    Route route;
    int64_t blocks, rows_per_block;  // histogram
    int num_levels;                  // sampled: level i looks at every steps[i]-th row; the last at all
    int64_t steps[kMaxLevels];
    int64_t capacity;  // candidates of a query that a level may keep
    int64_t group;     // queries to a pass over the codes
    size_t workspace;  // bytes
};

inline constexpr int64_t kTileRows = 1024;           // rows that a block looks at between barriers
inline constexpr int64_t kLeastSample = 4096;        // rows
inline constexpr int64_t kGreatestRatio = 24;        // from one level's rows to the next's
inline constexpr int64_t kLeastCapacity = 4096;      // keys
inline constexpr int64_t kMostCandidates = 1 << 25;  // keys of all queries of a group: 256 MB
inline constexpr int kScanBlocks = 5;                // to a multiprocessor

// Sizes of the workspaces in turn; what the launchers cut them into.
struct HistogramSpace {
    size_t histogram, state, ties, distances, end;  // offsets
    HistogramSpace(int32_t bytes, int64_t n, int64_t blocks) {
        const auto round = [](size_t size) { return divide_up<size_t>(size, 256) * 256; };
        histogram = 0;
        state = round((8 * static_cast<size_t>(bytes) + 1) * sizeof(uint32_t));
        ties = state + 256;
        distances = ties + round(static_cast<size_t>(blocks) * sizeof(uint32_t));
        end = distances + round(static_cast<size_t>(n) * sizeof(uint16_t));
    }
};
struct SampledSpace {
    size_t limits, counts, candidates, end;
    SampledSpace(int64_t group, int64_t capacity) {
        const auto round = [](size_t size) { return divide_up<size_t>(size, 256) * 256; };
        limits = 0;
        counts = round(static_cast<size_t>(group) * sizeof(Key));
        candidates = counts + round(static_cast<size_t>(group) * sizeof(uint32_t));
        end = candidates + static_cast<size_t>(group * capacity) * sizeof(Key);
    }
};

constexpr int64_t power_of(int64_t base, int64_t exponent) {
    int64_t power = 1;
    for (; exponent > 0; --exponent) power *= base;
    return power;
}

// A sample of every s-th row in which the k-th nearest has rank k lets about k * s of all rows pass, with a spread of
// s * sqrt(k): twice the expected number, and never less than kLeastCapacity, is not reached but by rows that lie in
// the sample's own rhythm. Then the query's block looks at all rows itself (cuda_select.cu).
inline TopkPlan plan_topk(int64_t num_queries, int64_t n, int32_t bytes, int64_t k, int multiprocessors) {
    TopkPlan plan{};
    const int64_t sample = k * 4 > kLeastSample ? k * 4 : kLeastSample;
    if (n <= 2 * sample && n <= 16 * kTileRows) {
        plan.route = Route::whole;
        return plan;
    }
    if (num_queries == 1 || k > kMaxSorted) {
        plan.route = Route::histogram;
        const int64_t most = int64_t{kScanBlocks} * multiprocessors;
        plan.rows_per_block = divide_up(divide_up(n, most), kTileRows) * kTileRows;
        plan.blocks = divide_up(n, plan.rows_per_block);
        plan.workspace = HistogramSpace(bytes, n, plan.blocks).end;
        return plan;
    }
    plan.route = Route::sampled;
    // The least number of levels whose ratios, all the same, stay within kGreatestRatio.
    const int64_t whole_ratio = divide_up(n, sample);
    int64_t levels = 0, ratio = kGreatestRatio + 1;
    while (ratio > kGreatestRatio) {
        ++levels;
        for (ratio = 1; power_of(ratio, levels) < whole_ratio;) ++ratio;
    }
    plan.num_levels = static_cast<int>(levels) + 1;
    int64_t step = 1;
    for (int level = plan.num_levels - 1; level >= 0; --level, step *= ratio) plan.steps[level] = step;
    const int64_t expected = 2 * k * ratio;
    plan.capacity = expected > kLeastCapacity ? expected : kLeastCapacity;
    const int64_t fit = kMostCandidates / plan.capacity;
    plan.group = num_queries < 1024 ? num_queries : 1024;
    if (plan.group > fit) plan.group = fit;
    plan.workspace = SampledSpace(plan.group, plan.capacity).end;
    return plan;
}

// ---- launchers ----

// All distances, out (num_queries, n) int32.
struct AllPairs {
    Queries queries;
    Codes codes;
    int32_t* out;
    int64_t out_stride;
};
void all_pairs(const AllPairs& args, Stream stream);

// The k nearest of each query, in any order, as keys (num_queries, k); kNoKey where `filter` lets fewer pass.
struct Nearest {
    Queries queries;
    Codes codes;
    int64_t k;
    Key* keys;
    unsigned char* workspace;  // as large as the plan says, 256-byte aligned
};
void nearest(const Nearest& args, const TopkPlan& plan, Stream stream);

// Puts each row of keys in order, unless it is already, and takes it apart. distances and rows are (num_queries, k),
// contiguous; kNoKey becomes distance 2^31 - 1, row -1.
struct Results {
    const Key* keys;
    int64_t num_queries, k;
    bool is_sorted;  // needed where k > kMaxSorted
    int32_t* distances;
    int64_t* rows;
};
void results(const Results& args, Stream stream);

// ---- the steps of `nearest`, each in a file of its own ----

// One block a query, over every step-th row. Exactly one of `keys` and `limits` is not null: (num_queries, k) keys in
// any order, or the k-th one alone, kNoKey where fewer rows pass.
struct Whole {
    Queries queries;
    Codes codes;
    int64_t step, k;
    Key* keys;
    Key* limits;
};
void select_whole(const Whole& args, Stream stream);

// The k least of each query's candidates, or its limit from them, left as it is where they are fewer than k. Where
// `keys` are wanted and there were more candidates than `capacity`, the query looks at all rows itself.
struct Shrink {
    Whole whole;
    const uint32_t* counts;  // (num_queries,) candidates, also those that found no room
    const Key* candidates;   // (num_queries, capacity)
    int64_t capacity;
};
void shrink(const Shrink& args, Stream stream);

// Appends the keys of every step-th row that are not after the query's limit.
struct Candidates {
    Queries queries;
    Codes codes;
    int64_t step;
    const Key* limits;
    uint32_t* counts;
    Key* candidates;
    int64_t capacity;
};
void find_candidates(const Candidates& args, Stream stream);

// One query by histogram; `workspace` as HistogramSpace says.
struct Scan {
    const uint8_t* query;
    Codes codes;
    int64_t k;
    Key* keys;
    unsigned char* workspace;
    int64_t blocks, rows_per_block;
};
void scan(const Scan& args, Stream stream);

}  // namespace longspan::cuda
