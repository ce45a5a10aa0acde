// hamming: the number of differing bits between every query and every code, and the k codes nearest to each query.
//   queries (num_queries, bytes) uint8, codes (n, bytes) uint8   ->   distance int32
//   hamming: all of them, (num_queries, n).   hamming_topk: the k least by (distance, row), exact.
//
// Codes are taken 64 at a time and transposed into words: lane j of a register holds one 64-bit word of code j. Each
// query then costs an exclusive or, a bit count and an addition for a word of 64 / lanes codes, and no sum across
// lanes; the block is read from memory once for all queries of a pass (kQueriesPerPass). Top-k keeps, per worker and
// query, the candidates under a limit that only falls; the limit is compared in registers, so that almost every code
// costs no more. Bytes = n * bytes * ceil(num_queries / kQueriesPerPass). Limit: memory for few queries, bit counts for
// many. Where bits are dear to count (AVX2), four queries and more look up their differences in tables instead
// (avx2_tables.h).
#pragma once

#include <cstdint>

#include "core/tensor_view.h"

namespace longspan {

inline constexpr int64_t kCodesPerBlock = 64;  // one bit each in a 64-bit mask
inline constexpr int64_t kQueriesPerPass = 64;
inline constexpr int64_t kPanelWords = 32;                // 16 KiB to a block
inline constexpr int64_t kTableScratchBytes = 24 * 1024;  // for kernels by tables
inline constexpr int64_t kPrefetchBytes = 8 * 1024;       // how far ahead of their use codes are asked for

// Tables of what queries differ by: one of kTableBytes for each nibble and two queries, those of kQueriesPerTable
// queries side by side.
inline constexpr int64_t kQueriesPerTable = 4;
inline constexpr int64_t kTableBytes = 16;
inline constexpr int64_t kNibblesPerBound =
    4;  // scans by tables count the last of so many one bit less where all differ
inline constexpr int64_t kMostTableCodeBytes = INT16_MAX / 8;  // distances are summed in 16 bits

// The nearest codes that one worker has seen so far, for each query of a pass (dispatch.cpp).
class Candidates;

// What a kernel reads: codes as they lie, queries padded with zero bytes to whole words.
struct HammingPass {
    MatrixView<const uint8_t> codes;
    const uint64_t* queries;  // (num_queries, words)
    int64_t num_queries;
    int64_t words;          // ceil(bytes / 8)
    const uint8_t* filter;  // one bit a row, most significant first, 1 = may be found; null: all may
    const int64_t* limits;  // (num_queries,) the worker's own: greatest distance that is still of interest, or -1
    // (ceil(num_queries / kQueriesPerTable), 16 * words nibbles, kQueriesPerTable / 2, kTableBytes): byte v of a
    // nibble's table is how many bits it differs by from v, for one query, plus 16 times that of the next query. For
    // the kernels that want them; those of a scan never say 4 for the last of kNibblesPerBound nibbles, but 3.
    const uint8_t* tables;
};

// Rows [first, last), first a multiple of 64; `block` is room for 64 * words words.
using HammingFn = void(const HammingPass&, int64_t first, int64_t last, uint64_t* block,
                       const MatrixView<int32_t>& out);
using HammingScanFn = void(const HammingPass&, int64_t first, int64_t last, uint64_t* block, Candidates& candidates);

// For the kernels: takes the rows `first_row + i` for each bit i of `mask`, whose distance distances[i] is within
// limits[query]. Lowers that limit in time.
void take(Candidates& candidates, int64_t query, int64_t first_row, uint64_t mask, const uint64_t* distances);

namespace portable {
HammingFn hamming;
HammingScanFn hamming_scan;
}  // namespace portable
namespace avx2 {
HammingFn hamming, hamming_tables;
HammingScanFn hamming_scan, hamming_scan_tables;
}  // namespace avx2
namespace avx512 {
HammingFn hamming;
HammingScanFn hamming_scan;
}  // namespace avx512
namespace avx512_vnni {
HammingFn hamming;
HammingScanFn hamming_scan;
}  // namespace avx512_vnni
namespace neon {
HammingFn hamming;
HammingScanFn hamming_scan;
}  // namespace neon

// Throws std::invalid_argument on shapes that do not fit.
void hamming(const MatrixView<const uint8_t>& queries, const MatrixView<const uint8_t>& codes,
             const MatrixView<int32_t>& out);

struct HammingTopkArgs {
    MatrixView<const uint8_t> queries;
    MatrixView<const uint8_t> codes;
    VectorView<const uint8_t> filter;     // (ceil(n / 8),), or data null
    VectorView<const int64_t> tie_ranks;  // (n,) a permutation of [0, n), or data null: ties go by rank, not by row
    MatrixView<int32_t> distances;        // (num_queries, k)
    MatrixView<int64_t> rows;             // (num_queries, k)
};

// Throws std::invalid_argument on shapes that do not fit, or where the filter lets fewer than k rows pass.
void hamming_topk(const HammingTopkArgs& args);

}  // namespace longspan
