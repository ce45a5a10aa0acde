// postings: inverted lists of sparse vectors, and exact search in them by dot product.
//
// Documents stand in blocks of at most kBlockDocs. Of each block and each term that occurs in it there is a list: which
// documents of the block hold it, rising, and with what weight. A document's number in its block has 16 bits, and a
// block's scores, 256 KB, stay in a core's L2 cache while the lists of a query's terms are added to them one by one.
//
//   score[q, d] = sum over the terms t of q, rising, of q[t] * d[t]     each product and each sum rounded once to f32
// so a score has the same bits in any block, beside any documents, on any number of threads and in any instruction set.
// Found are documents with a score above 0, the k best by (score falling, rank rising).
//
// Cost of a query: 6 bytes and 2 FLOPs for each entry of its terms' lists, and 8 bytes for each document of a block
// that many entries touch. A block whose highest weights cannot reach the k-th score so far is left out.
#pragma once

#include <cstdint>
#include <vector>

#include "core/tensor_view.h"

namespace longspan {

inline constexpr int64_t kBlockDocs = 65536;

// OwnedRows of sparse vectors: row r has entries [offsets[r], offsets[r + 1]), terms rising within a row.
struct CsrRows {
    VectorView<const int64_t> offsets;
    VectorView<const int32_t> terms;
    VectorView<const float> values;

    int64_t rows() const { return offsets.size - 1; }
};

// One block, made of rows.
struct PostingBlock {
    std::vector<int32_t> terms;  // rising
    std::vector<int64_t> ends;   // of each term: entries up to its last one
    std::vector<float> peaks;    // of each term: its highest weight
    std::vector<uint16_t> docs;  // of each entry
    std::vector<float> values;
};

// Throws std::invalid_argument on more than kBlockDocs rows, offsets or terms out of order, or values not above 0.
PostingBlock invert(const CsrRows& rows, int64_t dim);

// Blocks end to end, as they lie in files. `ends` of terms and entries count from `first_entry` on, and the ends of
// blocks from `first_doc` and `first_term` on.
struct PostingsView {
    VectorView<const int64_t> block_docs;   // (blocks,): documents up to the block's last one
    VectorView<const int64_t> block_terms;  // (blocks,): terms up to its last one
    VectorView<const int32_t> terms;
    VectorView<const int64_t> ends;
    VectorView<const float> peaks;
    VectorView<const uint16_t> docs;
    VectorView<const float> values;
    int64_t first_doc = 0, first_term = 0, first_entry = 0;
};

// Entries of the block `block` as rows again: offsets (docs + 1,), then terms and values of offsets' last size.
struct OwnedRows {
    std::vector<int64_t> offsets;
    std::vector<int32_t> terms;
    std::vector<float> values;
};
OwnedRows block_rows(const PostingsView& postings, int64_t block);

// Where the terms' lists lie: for each block and query term that it holds, entries [starts, stops) of `docs` and
// `values`; in the order of blocks, then of terms. `terms` rise.
void find_lists(const PostingsView& postings, const VectorView<const int32_t>& terms, std::vector<int64_t>& starts,
                std::vector<int64_t>& stops);

// For each query its best documents: scores (queries, k) falling, rows (queries, k) of the documents; 0 and -1 where
// there are no more. `wanted`: bits of the documents that may be found, most significant first; null data: all.
// `ranks` (docs,): what decides between equal scores, lower first; null data: the row.
// Throws std::invalid_argument where the views contradict each other, or a query's terms do not rise.
void postings_topk(const PostingsView& postings, const CsrRows& queries, const VectorView<const uint8_t>& wanted,
                   const VectorView<const int64_t>& ranks, const MatrixView<float>& scores,
                   const MatrixView<int64_t>& rows);

}  // namespace longspan
