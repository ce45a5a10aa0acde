// Many queries on AVX2, by tables: how many bits a nibble (half a byte) of a query differs by from each of the 16
// nibbles that a code may have there is a table, which vpshufb looks up for 32 codes at once. A byte of a table is two
// queries' differences, 0 to 4 in each half; some of them are added before a half could overflow, and a block's nibbles
// are laid out once for all queries of a pass.
//
// hamming adds three nibbles: 9 instructions for 3 nibbles of 2 queries and 32 codes, where counting bits takes some
// 20. hamming_scan adds four, for which every fourth nibble counts one bit less where all four of it differ: 11
// instructions for 4 nibbles, and 64 of them fit a byte. Its sums are then bounds from below, a bit or so under the
// distance of 256 random bits; the few codes whose bound is within the limit are counted bit by bit.

#include <immintrin.h>

#include <cstdint>

#include "hamming/hamming.h"

namespace longspan::avx2 {
namespace {

constexpr int64_t kCodesPerRegister = 32;
constexpr int64_t kRegisters = kCodesPerBlock / kCodesPerRegister;
static_assert(kRegisters == 2);
constexpr int64_t kPairs = kQueriesPerTable / 2;

// Nibbles that are added in half a byte, kFew of them, and those whose sums a byte holds. A panel is what is laid out
// of a block at once: 16 bytes of a code at a time, and 12 or 16 KiB, beside half as much of four queries' tables.
constexpr int kExactFew = 3, kBoundFew = 4;
static_assert(kBoundFew == kNibblesPerBound);
template <int kFew>
constexpr int64_t kNibblesPerSum = 16 * kFew;
template <int kFew>
constexpr int64_t kNibblesPerPanel = 4 * kNibblesPerSum<kFew>;
static_assert(16 * 4 * kExactFew < 256 && 16 * (4 * kBoundFew - 1) < 256);
static_assert(kNibblesPerPanel<kExactFew> % 32 == 0 && kNibblesPerPanel<kBoundFew> % 32 == 0);
static_assert(kNibblesPerPanel<kBoundFew> * kCodesPerBlock + kQueriesPerPass * kCodesPerBlock * 2 <=
              kTableScratchBytes);

inline __m256i load(const void* p) {
    return _mm256_loadu_si256(static_cast<const __m256i*>(p));
}
inline void store(void* p, __m256i v) {
    _mm256_storeu_si256(static_cast<__m256i*>(p), v);
}

// The distances of a register of codes so far, 16 bits each: codes 0 .. 7 and 16 .. 23, then the others.
struct Sums {
    __m256i low, high;

    static Sums zero() { return {_mm256_setzero_si256(), _mm256_setzero_si256()}; }
    void add(__m256i bytes) {
        const __m256i zero = _mm256_setzero_si256();
        low = _mm256_add_epi16(low, _mm256_unpacklo_epi8(bytes, zero));
        high = _mm256_add_epi16(high, _mm256_unpackhi_epi8(bytes, zero));
    }
    // A bit for each code, in order, whose distance is at most the limit.
    uint32_t within(__m256i limit) const {
        const __m256i above = _mm256_packs_epi16(_mm256_cmpgt_epi16(low, limit), _mm256_cmpgt_epi16(high, limit));
        return ~static_cast<uint32_t>(_mm256_movemask_epi8(above));
    }
    // In order.
    void store_in_order(int16_t* to) const {
        store(to, _mm256_permute2x128_si256(low, high, 0x20));
        store(to + 16, _mm256_permute2x128_si256(low, high, 0x31));
    }
};

// 16 bytes of 32 codes (`rows`: 16 bytes of code j below those of code j + 16) to 32 rows of nibbles, 64 bytes apart:
// row 2 b is the low nibble of byte b of each code, row 2 b + 1 the high one.
inline void lay_out_16(__m256i (&rows)[16], uint8_t* target) {
    __m256i next[16];
    // Four times: what is 8 rows apart becomes neighbours. Then rows and columns have changed places.
    for (int stage = 0; stage < 2; ++stage) {
        for (int i = 0; i < 8; ++i) {
            next[2 * i] = _mm256_unpacklo_epi8(rows[i], rows[i + 8]);
            next[2 * i + 1] = _mm256_unpackhi_epi8(rows[i], rows[i + 8]);
        }
        for (int i = 0; i < 8; ++i) {
            rows[2 * i] = _mm256_unpacklo_epi8(next[i], next[i + 8]);
            rows[2 * i + 1] = _mm256_unpackhi_epi8(next[i], next[i + 8]);
        }
    }
    const __m256i half = _mm256_set1_epi8(0x0f);
    for (int b = 0; b < 16; ++b) {
        store(target + 2 * b * kCodesPerBlock, _mm256_and_si256(rows[b], half));
        store(target + (2 * b + 1) * kCodesPerBlock, _mm256_and_si256(_mm256_srli_epi16(rows[b], 4), half));
    }
}

// 16 bytes of 32 codes, row_at(i) that of code i, to nibbles; of fewer `bytes`, the others are zeros.
template <class RowAt>
inline void lay_out_rows(RowAt&& row_at, int64_t bytes, uint8_t* target) {
    const auto part = [&](int64_t i) {
        const uint8_t* from = row_at(i);
        if (bytes >= 16) return _mm_loadu_si128(reinterpret_cast<const __m128i*>(from));
        alignas(16) uint8_t rest[16] = {};
        for (int64_t b = 0; b < bytes; ++b) rest[b] = from[b];
        return _mm_load_si128(reinterpret_cast<const __m128i*>(rest));
    };
    __m256i rows[16];
    for (int64_t i = 0; i < 16; ++i) {
        rows[i] = _mm256_inserti128_si256(_mm256_castsi128_si256(part(i)), part(i + 16), 1);
    }
    lay_out_16(rows, target);
}

// Bytes [first_byte, last_byte) of `count` codes from row `first` on to nibbles: (2 * bytes, rounded up to 32,
// kCodesPerBlock). What lies past a code's end is zeros, as in the queries; places past the last code repeat it.
void lay_out(const MatrixView<const uint8_t>& codes, int64_t first, int64_t count, int64_t first_byte,
             int64_t last_byte, uint8_t* target) {
    const int64_t stride = codes.row_stride;
    const int64_t rows_per_line = stride > 0 && stride < 64 ? 64 / stride : 1;
    for (int64_t half = 0; half < kCodesPerBlock; half += kCodesPerRegister, target += kCodesPerRegister) {
        for (int64_t at = first_byte; at < last_byte; at += 16) {
            const uint8_t* const from = codes.row(first) + at;
            uint8_t* const to = target + 2 * (at - first_byte) * kCodesPerBlock;
            for (int64_t i = 0; at % 64 == 0 && i < kCodesPerRegister; i += rows_per_line) {
                prefetch(from + (half + i) * stride + kPrefetchBytes);
            }
            if (count == kCodesPerBlock && last_byte - at >= 16) {
                lay_out_rows([&](int64_t i) { return from + (half + i) * stride; }, 16, to);
            } else {
                const auto row_at = [&](int64_t i) {
                    return from + (half + i < count ? half + i : count - 1) * stride;
                };
                lay_out_rows(row_at, last_byte - at, to);
            }
        }
    }
}

// Not __m256i: GCC would keep arrays of these in memory. The loops over them must vanish for the same reason, and nests
// of three do not: so a pair of queries is summed by itself.
using Bytes = unsigned char __attribute__((vector_size(32)));

// Adds what kCount nibbles, no more than half a byte has room for, differ by from two queries: to `all` low + 16 * high
// modulo 256, where low and high are the sums of the halves, and to `high` the latter.
template <int kCount>
[[gnu::always_inline]] inline void add_nibbles(const uint8_t* block, const uint8_t* tables, Bytes (&all)[kRegisters],
                                               Bytes (&high)[kRegisters]) {
    const __m256i half = _mm256_set1_epi8(0x0f);
    Bytes few[kRegisters];
#pragma GCC unroll 4
    for (int64_t i = 0; i < kCount; ++i) {
        const auto* table = reinterpret_cast<const __m128i*>(tables + i * kPairs * kTableBytes);
        const __m256i both = _mm256_broadcastsi128_si256(_mm_loadu_si128(table));
#pragma GCC unroll 2
        for (int64_t at = 0; at < kRegisters; ++at) {
            const __m256i codes = load(block + i * kCodesPerBlock + at * kCodesPerRegister);
            const auto found = reinterpret_cast<Bytes>(_mm256_shuffle_epi8(both, codes));
            few[at] = i == 0 ? found : few[at] + found;
        }
    }
#pragma GCC unroll 2
    for (int64_t at = 0; at < kRegisters; ++at) {
        const __m256i above = _mm256_srli_epi16(reinterpret_cast<__m256i>(few[at]), 4);
        all[at] += few[at];
        high[at] += reinterpret_cast<Bytes>(_mm256_and_si256(above, half));
    }
}

// How `nibbles` of a block (kNibblesPerSum at the most) differ from a group's queries.
template <int kFew>
[[gnu::always_inline]] inline void add_differences(const uint8_t* block, const uint8_t* tables, int64_t nibbles,
                                                   __m256i (&bytes)[kQueriesPerTable][kRegisters]) {
    for (int64_t pair = 0; pair < kPairs; ++pair) {
        Bytes all[kRegisters], high[kRegisters];
#pragma GCC unroll 2
        for (int64_t at = 0; at < kRegisters; ++at) all[at] = high[at] = Bytes{};
        const uint8_t *codes = block, *table = tables + pair * kTableBytes;
        int64_t left = nibbles;
        for (; left >= kFew; left -= kFew) {
            add_nibbles<kFew>(codes, table, all, high);
            codes += kFew * kCodesPerBlock;
            table += kFew * kPairs * kTableBytes;
        }
        for (; left > 0; --left) {
            add_nibbles<1>(codes, table, all, high);
            codes += kCodesPerBlock;
            table += kPairs * kTableBytes;
        }
#pragma GCC unroll 2
        for (int64_t at = 0; at < kRegisters; ++at) {
            bytes[2 * pair][at] = reinterpret_cast<__m256i>(all[at] - (high[at] << 4));
            bytes[2 * pair + 1][at] = reinterpret_cast<__m256i>(high[at]);
        }
    }
}

// The tables of a group of queries from a nibble on.
inline const uint8_t* tables_of(const HammingPass& pass, int64_t group, int64_t nibble) {
    return pass.tables + (group * 16 * pass.words + nibble) * kPairs * kTableBytes;
}

// The sums of kFew nibbles at a time of up to 64 codes from `row` on: calls body(query, sums) for every query.
template <int kFew, class Body>
inline void for_each_sums(const HammingPass& pass, int64_t row, int64_t count, uint8_t* scratch, Body&& body) {
    constexpr int64_t kPerSum = kNibblesPerSum<kFew>, kPerPanel = kNibblesPerPanel<kFew>;
    const int64_t nibbles = 2 * pass.codes.cols;
    // Between panels: (queries, registers) of Sums.
    auto* kept = reinterpret_cast<__m256i*>(scratch + kPerPanel * kCodesPerBlock);
    for (int64_t first = 0; first < nibbles; first += kPerPanel) {
        const bool is_last = first + kPerPanel >= nibbles;
        const int64_t panel = is_last ? nibbles - first : kPerPanel;
        lay_out(pass.codes, row, count, first / 2, (first + panel) / 2, scratch);
        for (int64_t group = 0; group * kQueriesPerTable < pass.num_queries; ++group) {
            __m256i bytes[kPerPanel / kPerSum][kQueriesPerTable][kRegisters];
            int64_t used = 0;
            for (int64_t nibble = 0; nibble < panel; nibble += kPerSum, ++used) {
                const int64_t some = panel - nibble < kPerSum ? panel - nibble : kPerSum;
                add_differences<kFew>(scratch + nibble * kCodesPerBlock, tables_of(pass, group, first + nibble), some,
                                      bytes[used]);
            }
            for (int64_t query = 0; query < kQueriesPerTable; ++query) {
                const int64_t number = group * kQueriesPerTable + query;
                if (number >= pass.num_queries) break;
                Sums sums[kRegisters];
                for (int64_t i = 0; i < kRegisters; ++i) {
                    __m256i* const place = kept + 2 * (number * kRegisters + i);
                    sums[i] = first > 0 ? Sums{load(place), load(place + 1)} : Sums::zero();
                    for (int64_t sum = 0; sum < used; ++sum) sums[i].add(bytes[sum][query][i]);
                    if (is_last) continue;
                    store(place, sums[i].low);
                    store(place + 1, sums[i].high);
                }
                if (is_last) body(number, sums);
            }
        }
    }
}

// The limits of a pass's queries in bytes, as the bounds of codes of one panel are compared with them. Those are in
// bytes too: where several sums are joined, halves or quarters, rounded up each time, so of a sum s at most
// (s + 1) / 2 and s / 4 + 1.
class ByteLimits {
public:
    ByteLimits(const HammingPass& pass, int64_t sums) : shift_(sums <= 1 ? 0 : sums <= 2 ? 1 : 2) {
        for (int64_t query = 0; query < kQueriesPerPass; ++query) bytes_[query] = 0;
        for (int64_t query = 0; query < pass.num_queries; ++query) set(query, pass.limits[query]);
    }
    [[gnu::noinline]] void set(int64_t query, int64_t limit) {
        const int64_t most = limit <= 0 ? 0 : (limit >> shift_) + (shift_ > 0 ? 1 : 0);
        bytes_[query] = 0x01010101u * static_cast<uint32_t>(most < 255 ? most : 255);
    }
    __m256i of(int64_t query) const { return _mm256_set1_epi32(static_cast<int>(bytes_[query])); }

private:
    int64_t shift_;
    uint32_t bytes_[kQueriesPerPass];
};

// Sums beside each other to halves or quarters (ByteLimits) in the first.
inline void join(__m256i (*bytes)[kQueriesPerTable][kRegisters], int64_t sums) {
    if (sums <= 1) return;
    for (int64_t query = 0; query < kQueriesPerTable; ++query) {
        for (int64_t i = 0; i < kRegisters; ++i) {
            const auto sum = [&](int64_t at) { return at < sums ? bytes[at][query][i] : _mm256_setzero_si256(); };
            const __m256i half = _mm256_avg_epu8(sum(0), sum(1));
            bytes[0][query][i] = sums <= 2 ? half : _mm256_avg_epu8(half, _mm256_avg_epu8(sum(2), sum(3)));
        }
    }
}

// A bit for each code whose byte is at most the limit.
inline uint64_t within(const __m256i (&bytes)[kRegisters], __m256i limit) {
    const auto mask = [&](__m256i byte) {
        return static_cast<uint32_t>(_mm256_movemask_epi8(_mm256_cmpeq_epi8(_mm256_max_epu8(byte, limit), limit)));
    };
    return mask(bytes[0]) | uint64_t{mask(bytes[1])} << 32;
}

// Of the codes `row` + i for each bit i of `mask`, takes those within the query's limit.
[[gnu::noinline]] void take_near(const HammingPass& pass, int64_t query, int64_t row, uint64_t mask,
                                 Candidates& candidates) {
    uint64_t distances[kCodesPerBlock], near = 0;
    const uint64_t* const words = pass.queries + query * pass.words;
    for (; mask != 0; mask &= mask - 1) {
        const int lane = __builtin_ctzll(mask);
        const uint8_t* const code = pass.codes.row(row + lane);
        int64_t distance = 0;
        for (int64_t word = 0; word < pass.words; ++word) {
            distance += _mm_popcnt_u64(read_word(code + 8 * word, pass.codes.cols - 8 * word) ^ words[word]);
        }
        distances[lane] = static_cast<uint64_t>(distance);
        if (distance <= pass.limits[query]) near |= uint64_t{1} << lane;
    }
    if (near != 0) take(candidates, query, row, near, distances);
}

// Codes that are one panel.
void scan_panel(const HammingPass& pass, int64_t row, int64_t count, uint64_t wanted, uint8_t* scratch,
                ByteLimits& limits, Candidates& candidates) {
    constexpr int64_t kPerSum = kNibblesPerSum<kBoundFew>;
    const int64_t nibbles = 2 * pass.codes.cols;
    lay_out(pass.codes, row, count, 0, pass.codes.cols, scratch);
    for (int64_t group = 0; group * kQueriesPerTable < pass.num_queries; ++group) {
        __m256i bytes[kNibblesPerPanel<kBoundFew> / kPerSum][kQueriesPerTable][kRegisters];
        const uint8_t *block = scratch, *tables = tables_of(pass, group, 0);
        int64_t left = nibbles, sums = 0;
        for (; left >= kPerSum; left -= kPerSum, ++sums) {  // loops that always turn as often
            add_differences<kBoundFew>(block, tables, kPerSum, bytes[sums]);
            block += kPerSum * kCodesPerBlock;
            tables += kPerSum * kPairs * kTableBytes;
        }
        if (left > 0) add_differences<kBoundFew>(block, tables, left, bytes[sums++]);
        join(bytes, sums);
        const int64_t first = group * kQueriesPerTable;
        __m256i least = _mm256_set1_epi8(-1);  // by how much bounds are above limits
        for (int64_t i = 0; i < kQueriesPerTable; ++i) {
            const __m256i nearest = _mm256_min_epu8(bytes[0][i][0], bytes[0][i][1]);
            least = _mm256_min_epu8(least, _mm256_subs_epu8(nearest, limits.of(first + i)));
        }
        if (_mm256_movemask_epi8(_mm256_cmpeq_epi8(least, _mm256_setzero_si256())) == 0) continue;
        for (int64_t query = first; query < first + kQueriesPerTable && query < pass.num_queries; ++query) {
            const uint64_t found = within(bytes[0][query - first], limits.of(query)) & wanted;
            if (found == 0) continue;
            take_near(pass, query, row, found, candidates);
            limits.set(query, pass.limits[query]);
        }
    }
}

}  // namespace

void hamming_tables(const HammingPass& pass, int64_t first, int64_t last, uint64_t* scratch,
                    const MatrixView<int32_t>& out) {
    for (int64_t row = first; row < last; row += kCodesPerBlock) {
        const int64_t count = last - row < kCodesPerBlock ? last - row : kCodesPerBlock;
        for_each_sums<kExactFew>(pass, row, count, reinterpret_cast<uint8_t*>(scratch),
                                 [&](int64_t query, const Sums* sums) {
                                     int16_t distances[kCodesPerBlock];
                                     for (int64_t i = 0; i < kRegisters; ++i)
                                         sums[i].store_in_order(distances + i * kCodesPerRegister);
                                     int32_t* target = out.row(query) + row;
                                     for (int64_t i = 0; i < count; ++i) target[i] = distances[i];
                                 });
    }
}

void hamming_scan_tables(const HammingPass& pass, int64_t first, int64_t last, uint64_t* scratch,
                         Candidates& candidates) {
    const int64_t nibbles = 2 * pass.codes.cols;
    const bool is_panel = nibbles <= kNibblesPerPanel<kBoundFew>;
    auto* const place = reinterpret_cast<uint8_t*>(scratch);
    ByteLimits limits(pass, (nibbles + kNibblesPerSum<kBoundFew> - 1) / kNibblesPerSum<kBoundFew>);
    for (int64_t row = first; row < last; row += kCodesPerBlock) {
        const int64_t count = last - row < kCodesPerBlock ? last - row : kCodesPerBlock;
        const uint64_t wanted = filter_bits(pass.filter, row, count);
        if (wanted == 0) continue;
        if (is_panel) {
            scan_panel(pass, row, count, wanted, place, limits, candidates);
            continue;
        }
        for_each_sums<kBoundFew>(pass, row, count, place, [&](int64_t query, const Sums* sums) {
            const int64_t most = pass.limits[query] < INT16_MAX ? pass.limits[query] : INT16_MAX;
            const __m256i limit = _mm256_set1_epi16(static_cast<int16_t>(most));
            const uint64_t found = (sums[0].within(limit) | uint64_t{sums[1].within(limit)} << 32) & wanted;
            if (found != 0) take_near(pass, query, row, found, candidates);
        });
    }
}

}  // namespace longspan::avx2
