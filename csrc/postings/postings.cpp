#include "postings/postings.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <memory>

#include "core/error.h"
#include "core/parallel.h"

namespace longspan {
namespace {

void check_offsets(const char* op, const char* name, const CsrRows& rows) {
    const auto& offsets = rows.offsets;
    const int64_t entries = rows.terms.size;
    if (rows.values.size != entries) reject(op, ": ", name, " must have as many values as terms");
    if (offsets.size < 1 || offsets.data[0] != 0 || offsets.data[offsets.size - 1] != entries) {
        reject(op, ": ", name, "' offsets must go from 0 to ", entries);
    }
    for (int64_t row = 0; row < rows.rows(); ++row) {
        if (offsets.data[row + 1] < offsets.data[row]) reject(op, ": ", name, "' offsets must not fall, at ", row);
        for (int64_t i = offsets.data[row] + 1; i < offsets.data[row + 1]; ++i) {
            if (rows.terms.data[i] <= rows.terms.data[i - 1]) reject(op, ": ", name, "[", row, "]: terms must rise");
        }
    }
}

// Which part of the columns a block is; checked, so that nothing read by it lies outside them.
struct Block {
    int64_t first_doc, docs;
    int64_t first_term, last_term;
};

Block block_of(const PostingsView& postings, int64_t block) {
    const auto span = [&](const VectorView<const int64_t>& ends, int64_t first) {
        return std::pair{(block == 0 ? first : ends.data[block - 1]) - first, ends.data[block] - first};
    };
    const auto [first_doc, last_doc] = span(postings.block_docs, postings.first_doc);
    const auto [first_term, last_term] = span(postings.block_terms, postings.first_term);
    if (first_doc < 0 || last_doc < first_doc || last_doc - first_doc > kBlockDocs || first_term < 0 ||
        last_term < first_term || last_term > postings.terms.size) {
        reject("postings: block ", block, " contradicts the columns");
    }
    return {first_doc, last_doc - first_doc, first_term, last_term};
}

// A term's entries.
struct List {
    int64_t first, last;
};

List list_of(const PostingsView& postings, int64_t term) {
    const int64_t first = (term == 0 ? postings.first_entry : postings.ends.data[term - 1]) - postings.first_entry;
    const int64_t last = postings.ends.data[term] - postings.first_entry;
    if (first < 0 || last < first || last > postings.docs.size) reject("postings: list ", term, " lies outside");
    return {first, last};
}

// The place of a term in its block, -1 where it does not occur.
int64_t place_of(const PostingsView& postings, const Block& block, int32_t term) {
    const int32_t* first = postings.terms.data + block.first_term;
    const int32_t* last = postings.terms.data + block.last_term;
    const int32_t* found = std::lower_bound(first, last, term);
    return found == last || *found != term ? -1 : found - postings.terms.data;
}

void check_view(const PostingsView& postings) {
    if (postings.block_docs.size != postings.block_terms.size || postings.ends.size != postings.terms.size ||
        postings.peaks.size != postings.terms.size || postings.values.size != postings.docs.size) {
        reject("postings: columns differ in length");
    }
}

struct Found {
    float score;
    int64_t rank, row;
    bool operator<(const Found& other) const {  // better first
        return score != other.score ? score > other.score : rank < other.rank;
    }
};

// The k best so far; the worst of them on top of the heap.
class Best {
public:
    explicit Best(int64_t k) : k_(static_cast<size_t>(k)) { heap_.reserve(k_ + 1); }

    // What a score must reach to be among them.
    float least() const { return heap_.size() < k_ ? std::numeric_limits<float>::denorm_min() : heap_.front().score; }

    void offer(const Found& found) {
        if (heap_.size() == k_) {
            if (!(found < heap_.front())) return;
            std::pop_heap(heap_.begin(), heap_.end());
            heap_.back() = found;
        } else {
            heap_.push_back(found);
        }
        std::push_heap(heap_.begin(), heap_.end());
    }

    const std::vector<Found>& all() const { return heap_; }

private:
    size_t k_;
    std::vector<Found> heap_;
};

// What a task searches with.
struct Search {
    const PostingsView& postings;
    const VectorView<const uint8_t>& wanted;
    const VectorView<const int64_t>& ranks;
    float* scores;  // (kBlockDocs,), zeros between blocks

    bool is_wanted(int64_t row) const {
        return wanted.data == nullptr || (wanted.data[row >> 3] >> (7 - (row & 7)) & 1) != 0;
    }

    void offer(const Block& block, int64_t doc, Best& best) const {
        const int64_t row = block.first_doc + doc;
        if (is_wanted(row)) best.offer({scores[doc], ranks.data == nullptr ? row : ranks.data[row], row});
    }

    // The documents of a block that are among the best.
    void run(int64_t number, const int32_t* terms, const float* weights, int64_t count, Best& best) const {
        const Block block = block_of(postings, number);
        struct Weighted {
            List list;
            float weight;
        };
        std::vector<Weighted> lists;
        double bound = 0;
        int64_t entries = 0;
        for (int64_t i = 0; i < count; ++i) {
            const int64_t place = place_of(postings, block, terms[i]);
            if (place < 0) continue;
            const List list = list_of(postings, place);
            lists.push_back({list, weights[i]});
            bound += double{weights[i]} * postings.peaks.data[place];
            entries += list.last - list.first;
        }
        // Each rounding adds half a unit in the last place at most, and among the smallest numbers half of their step.
        const auto roundings = static_cast<double>(count + 1);
        if (bound * (1 + roundings * 0x1p-23) + roundings * 0x1p-149 < best.least()) return;
        for (const auto& [list, weight] : lists) {
            const uint16_t* docs = postings.docs.data;
            const float* values = postings.values.data;
            for (int64_t i = list.first; i < list.last; ++i) scores[docs[i]] += weight * values[i];
        }
        if (entries < block.docs / 4) {
            for (const auto& [list, weight] : lists) collect_listed(block, list, best);
        } else {
            collect_all(block, best);
        }
    }

    // By their lists, each document once: a score that was looked at is zero again.
    void collect_listed(const Block& block, const List& list, Best& best) const {
        for (int64_t i = list.first; i < list.last; ++i) {
            const int64_t doc = postings.docs.data[i];
            if (doc < block.docs && scores[doc] >= best.least()) offer(block, doc, best);
            scores[doc] = 0.0f;
        }
    }

    void collect_all(const Block& block, Best& best) const {
        constexpr int64_t kRun = 64;
        for (int64_t first = 0; first < block.docs; first += kRun) {
            float highest = 0.0f;
            for (int64_t i = first; i < first + kRun; ++i) highest = scores[i] > highest ? scores[i] : highest;
            if (highest < best.least()) continue;
            for (int64_t doc = first; doc < std::min(first + kRun, block.docs); ++doc) {
                if (scores[doc] >= best.least()) offer(block, doc, best);
            }
        }
        std::fill_n(scores, kBlockDocs, 0.0f);
    }
};

}  // namespace

PostingBlock invert(const CsrRows& rows, int64_t dim) {
    check_offsets("invert", "rows", rows);
    const int64_t entries = rows.terms.size;
    if (rows.rows() > kBlockDocs) reject("invert: a block has at most ", kBlockDocs, " rows, got ", rows.rows());
    std::vector<int64_t> places(static_cast<size_t>(dim), 0);
    for (int64_t i = 0; i < entries; ++i) {
        const int32_t term = rows.terms.data[i];
        if (term < 0 || term >= dim) reject("invert: terms must be from 0 to ", dim - 1, ", got ", term);
        if (!(rows.values.data[i] > 0) || !std::isfinite(rows.values.data[i])) {
            reject("invert: values must be finite and above 0, got ", rows.values.data[i]);
        }
        ++places[static_cast<size_t>(term)];
    }
    PostingBlock block;
    int64_t end = 0;
    for (int64_t term = 0; term < dim; ++term) {
        const int64_t count = places[static_cast<size_t>(term)];
        places[static_cast<size_t>(term)] = end;
        if (count == 0) continue;
        end += count;
        block.terms.push_back(static_cast<int32_t>(term));
        block.ends.push_back(end);
    }
    block.docs.resize(static_cast<size_t>(entries));
    block.values.resize(static_cast<size_t>(entries));
    for (int64_t row = 0; row < rows.rows(); ++row) {
        for (int64_t i = rows.offsets.data[row]; i < rows.offsets.data[row + 1]; ++i) {
            const auto at = static_cast<size_t>(places[static_cast<size_t>(rows.terms.data[i])]++);
            block.docs[at] = static_cast<uint16_t>(row);
            block.values[at] = rows.values.data[i];
        }
    }
    int64_t first = 0;
    for (const int64_t last : block.ends) {
        block.peaks.push_back(*std::max_element(block.values.begin() + first, block.values.begin() + last));
        first = last;
    }
    return block;
}

OwnedRows block_rows(const PostingsView& postings, int64_t number) {
    check_view(postings);
    if (number < 0 || number >= postings.block_docs.size) reject("block_rows: there is no block ", number);
    const Block block = block_of(postings, number);
    OwnedRows rows;
    rows.offsets.assign(static_cast<size_t>(block.docs + 1), 0);
    const auto each_entry = [&](auto&& body) {
        for (int64_t term = block.first_term; term < block.last_term; ++term) {
            const List list = list_of(postings, term);
            for (int64_t i = list.first; i < list.last; ++i) {
                if (postings.docs.data[i] >= block.docs) reject("block_rows: block ", number, " has no such document");
                body(term, i);
            }
        }
    };
    each_entry([&](int64_t, int64_t i) { ++rows.offsets[postings.docs.data[i] + size_t{1}]; });
    for (size_t doc = 1; doc < rows.offsets.size(); ++doc) rows.offsets[doc] += rows.offsets[doc - 1];
    rows.terms.resize(static_cast<size_t>(rows.offsets.back()));
    rows.values.resize(rows.terms.size());
    std::vector<int64_t> places(rows.offsets.begin(), rows.offsets.end() - 1);
    each_entry([&](int64_t term, int64_t i) {
        const auto at = static_cast<size_t>(places[postings.docs.data[i]]++);
        rows.terms[at] = postings.terms.data[term];
        rows.values[at] = postings.values.data[i];
    });
    return rows;
}

void find_lists(const PostingsView& postings, const VectorView<const int32_t>& terms, std::vector<int64_t>& starts,
                std::vector<int64_t>& stops) {
    check_view(postings);
    for (int64_t number = 0; number < postings.block_docs.size; ++number) {
        const Block block = block_of(postings, number);
        for (int64_t i = 0; i < terms.size; ++i) {
            const int64_t place = place_of(postings, block, terms.data[i]);
            if (place < 0) continue;
            const List list = list_of(postings, place);
            if (list.first == list.last) continue;
            starts.push_back(list.first);
            stops.push_back(list.last);
        }
    }
}

void postings_topk(const PostingsView& postings, const CsrRows& queries, const VectorView<const uint8_t>& wanted,
                   const VectorView<const int64_t>& ranks, const MatrixView<float>& scores,
                   const MatrixView<int64_t>& rows) {
    check_view(postings);
    check_offsets("postings_topk", "queries", queries);
    const int64_t num_queries = queries.rows(), k = scores.cols, blocks = postings.block_docs.size;
    const int64_t docs = blocks == 0 ? 0 : postings.block_docs.data[blocks - 1] - postings.first_doc;
    if (scores.rows != num_queries || rows.rows != num_queries || rows.cols != k) {
        reject("postings_topk: scores and rows must be (", num_queries, ", k)");
    }
    if ((wanted && wanted.size < (docs + 7) / 8) || (ranks && ranks.size < docs)) {
        reject("postings_topk: wanted and ranks must cover ", docs, " documents");
    }
    if (num_queries == 0 || k == 0) return;
    for (int64_t block = 0; block < blocks; ++block) block_of(postings, block);  // so that none reaches beyond `docs`
    // A query is one task, or one for each thread where there are fewer queries than threads.
    const int64_t threads = num_threads();
    const int64_t parts = std::clamp<int64_t>(threads / num_queries, 1, std::max<int64_t>(1, blocks));
    std::vector<std::vector<Found>> found(static_cast<size_t>(num_queries * parts));
    const int64_t tasks = std::min(threads, num_queries * parts);  // each has scores of its own
    parallel_for(tasks, [&](int64_t task) {
        const std::unique_ptr<float[]> block_scores(new float[kBlockDocs]());
        const Search search{postings, wanted, ranks, block_scores.get()};
        for (int64_t piece = num_queries * parts * task / tasks; piece < num_queries * parts * (task + 1) / tasks;
             ++piece) {
            const int64_t query = piece / parts, part = piece % parts, first = queries.offsets.data[query];
            Best best(std::min(k, std::max<int64_t>(1, docs)));
            for (int64_t block = blocks * part / parts; block < blocks * (part + 1) / parts; ++block) {
                search.run(block, queries.terms.data + first, queries.values.data + first,
                           queries.offsets.data[query + 1] - first, best);
            }
            found[static_cast<size_t>(piece)] = best.all();
        }
    });
    for (int64_t query = 0; query < num_queries; ++query) {
        std::vector<Found> all;
        for (int64_t part = 0; part < parts; ++part) {
            const auto& some = found[static_cast<size_t>(query * parts + part)];
            all.insert(all.end(), some.begin(), some.end());
        }
        std::sort(all.begin(), all.end());
        for (int64_t place = 0; place < k; ++place) {
            const bool is_there = place < static_cast<int64_t>(all.size());
            scores.row(query)[place] = is_there ? all[static_cast<size_t>(place)].score : 0.0f;
            rows.row(query)[place] = is_there ? all[static_cast<size_t>(place)].row : -1;
        }
    }
}

}  // namespace longspan
