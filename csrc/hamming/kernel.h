// The kernels, once for every instruction set. Before this, a file defines in its namespace
//   Words       kLanes 64-bit lanes: load, all, store, store_int32, ^, +, least (of two, below 2^31), and
//               within (a bit for each lane <= limit)
//   Counter     count(x): partial bit counts that `+` may add up kMaxWords times; total(x): the sum in each lane
//   kVectors    how many Words are summed side by side
//   transpose   columns [first_byte, last_byte) of some rows of codes into words by lane

#include "hamming/hamming.h"

namespace longspan::LONGSPAN_ISA {
namespace {

constexpr int64_t kStep = kVectors * Words::kLanes;  // codes summed side by side
static_assert(kCodesPerBlock % kStep == 0);

// totals[v] = the distances of codes [v * kLanes, (v + 1) * kLanes) of `block` to `query`.
inline void sum_words(const uint64_t* block, const uint64_t* query, int64_t words, Words* totals) {
    const auto count = [&](int64_t word, int64_t v) {
        const Words codes = Words::load(block + word * kCodesPerBlock + v * Words::kLanes);
        return Counter::count(codes ^ Words::all(query[word]));
    };
    for (int64_t begin = 0; begin < words; begin += Counter::kMaxWords) {
        const int64_t end = words - begin < Counter::kMaxWords ? words : begin + Counter::kMaxWords;
        Words counts[kVectors];
        for (int64_t v = 0; v < kVectors; ++v) counts[v] = count(begin, v);
        for (int64_t word = begin + 1; word < end; ++word) {
            for (int64_t v = 0; v < kVectors; ++v) counts[v] = counts[v] + count(word, v);
        }
        for (int64_t v = 0; v < kVectors; ++v) {
            const Words total = Counter::total(counts[v]);
            totals[v] = begin == 0 ? total : totals[v] + total;
        }
    }
}

// Whether a code of these is within the limit: one comparison for all of them.
inline bool any_within(const Words* totals, Words limit) {
    Words nearest = totals[0];
    for (int64_t v = 1; v < kVectors; ++v) nearest = least(nearest, totals[v]);
    return nearest.within(limit) != 0;
}

// The filter's bits of rows [row, row + count), bit i for row + i; row is a multiple of 64.
inline uint64_t filter_bits(const uint8_t* filter, int64_t row, int64_t count) {
    uint64_t bits = count == 64 ? ~uint64_t{0} : (uint64_t{1} << count) - 1;
    if (filter == nullptr) return bits;
    uint64_t stored = 0;
    for (int64_t i = 0; i < (count + 7) / 8; ++i) stored |= uint64_t{filter[row / 8 + i]} << (8 * i);
    // Most significant bit first: turn over the bits of each byte.
    stored = (stored >> 4 & 0x0f0f0f0f0f0f0f0f) | (stored & 0x0f0f0f0f0f0f0f0f) << 4;
    stored = (stored >> 2 & 0x3333333333333333) | (stored & 0x3333333333333333) << 2;
    stored = (stored >> 1 & 0x5555555555555555) | (stored & 0x5555555555555555) << 1;
    return bits & stored;
}

// The distances of up to 64 codes from `row` on to every query: calls body(query, lane, totals) with those of the codes
// row + lane, row + lane + 1, ... for each step of lanes.
template <class Body>
inline void for_each_distance(const HammingPass& pass, int64_t row, int64_t count, uint64_t* scratch, Body&& body) {
    uint64_t* sums = scratch + kCodesPerBlock * kPanelWords;  // (num_queries, 64) of the panels before
    for (int64_t first = 0; first < pass.words; first += kPanelWords) {
        const int64_t words = pass.words - first < kPanelWords ? pass.words - first : kPanelWords;
        const bool is_last = first + words == pass.words;
        transpose(pass.codes, row, count, 8 * first, is_last ? pass.codes.cols : 8 * (first + words), scratch);
        for (int64_t query = 0; query < pass.num_queries; ++query) {
            for (int64_t lane = 0; lane < count; lane += kStep) {
                Words totals[kVectors];
                sum_words(scratch + lane, pass.queries + query * pass.words + first, words, totals);
                uint64_t* sum = sums + query * kCodesPerBlock + lane;
                if (first > 0) {
                    for (int64_t v = 0; v < kVectors; ++v) totals[v] = totals[v] + Words::load(sum + v * Words::kLanes);
                }
                if (is_last) {
                    body(query, lane, totals);
                } else {
                    for (int64_t v = 0; v < kVectors; ++v) totals[v].store(sum + v * Words::kLanes);
                }
            }
        }
    }
}

}  // namespace

void hamming(const HammingPass& pass, int64_t first, int64_t last, uint64_t* scratch, const MatrixView<int32_t>& out) {
    for (int64_t row = first; row < last; row += kCodesPerBlock) {
        const int64_t count = last - row < kCodesPerBlock ? last - row : kCodesPerBlock;
        for_each_distance(pass, row, count, scratch, [&](int64_t query, int64_t lane, const Words* totals) {
            int32_t* target = out.row(query) + row + lane;
            if (count - lane >= kStep) {
                for (int64_t v = 0; v < kVectors; ++v) totals[v].store_int32(target + v * Words::kLanes);
                return;
            }
            int32_t rest[kStep];
            for (int64_t v = 0; v < kVectors; ++v) totals[v].store_int32(rest + v * Words::kLanes);
            for (int64_t i = 0; i < count - lane; ++i) target[i] = rest[i];
        });
    }
}

void hamming_scan(const HammingPass& pass, int64_t first, int64_t last, uint64_t* scratch, Candidates& candidates) {
    for (int64_t row = first; row < last; row += kCodesPerBlock) {
        const int64_t count = last - row < kCodesPerBlock ? last - row : kCodesPerBlock;
        const uint64_t wanted = filter_bits(pass.filter, row, count);
        if (wanted == 0) continue;
        for_each_distance(pass, row, count, scratch, [&](int64_t query, int64_t lane, const Words* totals) {
            const Words limit = Words::all(static_cast<uint64_t>(pass.limits[query]));
            if (!any_within(totals, limit)) return;
            uint64_t found = 0;
            for (int64_t v = 0; v < kVectors; ++v) found |= totals[v].within(limit) << (v * Words::kLanes);
            found &= wanted >> lane;
            if (found == 0) return;
            uint64_t distances[kStep];
            for (int64_t v = 0; v < kVectors; ++v) totals[v].store(distances + v * Words::kLanes);
            take(candidates, query, row + lane, found, distances);
        });
    }
}

}  // namespace longspan::LONGSPAN_ISA
