// Many queries on AVX2, by tables: what a nibble (half a byte) of a query differs by from each of the 16 nibbles that a
// code may have there is 16 bytes, which vpshufb looks up for 32 codes at once. Against counting bits, which takes two
// look-ups, a shift and two masks for every 64 bits, that leaves one look-up and one addition for a nibble of 32 codes:
// 2 of each for 256 bits. A block's nibbles are laid out once for all queries of a pass.

#include <immintrin.h>

#include <cstdint>

#include "hamming/hamming.h"

namespace longspan::avx2 {
namespace {

constexpr int64_t kCodesPerRegister = 32;
constexpr int64_t kRegisters = kCodesPerBlock / kCodesPerRegister;
static_assert(kRegisters == 2);
// Nibbles whose differences, of up to 4 bits each, are added up in bytes before they are widened: 128 bits.
constexpr int64_t kNibblesPerSum = 32;
// Nibbles of a block that are laid out at once: 8 KiB, beside as much of four queries' tables.
constexpr int64_t kNibblesPerPanel = 128;
static_assert(kNibblesPerPanel % kNibblesPerSum == 0);
// What a look-up in `scratch` may take: a panel of nibbles, and a pass's sums.
static_assert(kNibblesPerPanel * kCodesPerBlock + kQueriesPerPass * kCodesPerBlock * 2 <= kTableScratchBytes);

inline __m256i load(const void* p) {
    return _mm256_loadu_si256(static_cast<const __m256i*>(p));
}
inline void store(void* p, __m256i v) {
    _mm256_storeu_si256(static_cast<__m256i*>(p), v);
}

// The distances of a register of codes so far, 16 bits each: codes 0 .. 7 and 16 .. 23, then the others.
struct Sums {
    __m256i low, high;

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

// Bytes [first_byte, last_byte) of `count` codes from row `first` on to nibbles: (2 * bytes, rounded up to 32,
// kCodesPerBlock). What lies past a code's end is zeros, as in the queries; places past the last code repeat it.
void lay_out(const MatrixView<const uint8_t>& codes, int64_t first, int64_t count, int64_t first_byte,
             int64_t last_byte, uint8_t* target) {
    for (int64_t half = 0; half < kRegisters; ++half, target += kCodesPerRegister) {
        const auto code = [&](int64_t i) {
            const int64_t at = half * kCodesPerRegister + i;
            return codes.row(first + (at < count ? at : count - 1));
        };
        for (int64_t at = first_byte; at < last_byte; at += 16) {
            alignas(16) uint8_t rest[kCodesPerRegister][16] = {};
            const int64_t bytes = last_byte - at;
            const auto part = [&](int64_t i) {
                const uint8_t* from = code(i) + at;
                if (at % 64 == 0) _mm_prefetch(reinterpret_cast<const char*>(from + kPrefetchBytes), _MM_HINT_T0);
                if (bytes >= 16) return _mm_loadu_si128(reinterpret_cast<const __m128i*>(from));
                for (int64_t b = 0; b < bytes; ++b) rest[i][b] = from[b];
                return _mm_load_si128(reinterpret_cast<const __m128i*>(rest[i]));
            };
            __m256i rows[16];
            for (int64_t i = 0; i < 16; ++i) {
                rows[i] = _mm256_inserti128_si256(_mm256_castsi128_si256(part(i)), part(i + 16), 1);
            }
            lay_out_16(rows, target + 2 * (at - first_byte) * kCodesPerBlock);
        }
    }
}

// Adds to sums[query][register] how `nibbles` of a block (kNibblesPerSum at the most) differ from a group's queries.
[[gnu::always_inline]] inline void add_differences(const uint8_t* block, const uint8_t* tables, int64_t nibbles,
                                                   Sums (&sums)[kQueriesPerTable][kRegisters]) {
    __m256i bytes[kQueriesPerTable][kRegisters];
    for (auto& query : bytes) query[0] = query[1] = _mm256_setzero_si256();
#pragma GCC unroll 4
    for (int64_t nibble = 0; nibble < nibbles; ++nibble) {
        const __m256i codes[kRegisters] = {load(block), load(block + kCodesPerRegister)};
        for (int64_t query = 0; query < kQueriesPerTable; ++query) {
            const auto* table = reinterpret_cast<const __m128i*>(tables + query * kTableBytes);
            const __m256i both = _mm256_broadcastsi128_si256(_mm_loadu_si128(table));
            for (int64_t i = 0; i < kRegisters; ++i) {
                bytes[query][i] = _mm256_add_epi8(bytes[query][i], _mm256_shuffle_epi8(both, codes[i]));
            }
        }
        block += kCodesPerBlock;
        tables += kQueriesPerTable * kTableBytes;
    }
    for (int64_t query = 0; query < kQueriesPerTable; ++query) {
        for (int64_t i = 0; i < kRegisters; ++i) sums[query][i].add(bytes[query][i]);
    }
}

// The distances of up to 64 codes from `row` on to every query: calls body(query, sums) for each.
template <class Body>
inline void for_each_sums(const HammingPass& pass, int64_t row, int64_t count, uint8_t* scratch, Body&& body) {
    const int64_t nibbles = 16 * pass.words, groups = (pass.num_queries + kQueriesPerTable - 1) / kQueriesPerTable;
    auto* kept = scratch + kNibblesPerPanel * kCodesPerBlock;  // between panels: (groups, queries, registers) of Sums
    for (int64_t first = 0; first < nibbles; first += kNibblesPerPanel) {
        const int64_t last = first + kNibblesPerPanel < nibbles ? first + kNibblesPerPanel : nibbles;
        const bool is_last = last == nibbles;
        const int64_t panel = is_last ? (2 * pass.codes.cols - first) : last - first;
        lay_out(pass.codes, row, count, first / 2, first / 2 + panel / 2, scratch);
        for (int64_t group = 0; group < groups; ++group) {
            Sums sums[kQueriesPerTable][kRegisters];
            auto* place = reinterpret_cast<__m256i*>(kept + group * int64_t{sizeof sums});
            for (int64_t i = 0; i < kQueriesPerTable * kRegisters; ++i) {
                sums[i / kRegisters][i % kRegisters] = first > 0 ? Sums{load(place + 2 * i), load(place + 2 * i + 1)}
                                                                 : Sums{_mm256_setzero_si256(), _mm256_setzero_si256()};
            }
            const uint8_t* tables = pass.tables + (group * nibbles + first) * kQueriesPerTable * kTableBytes;
            int64_t nibble = 0;
            for (; nibble + kNibblesPerSum <= panel; nibble += kNibblesPerSum) {
                add_differences(scratch + nibble * kCodesPerBlock, tables + nibble * kQueriesPerTable * kTableBytes,
                                kNibblesPerSum, sums);
            }
            if (nibble < panel) {
                add_differences(scratch + nibble * kCodesPerBlock, tables + nibble * kQueriesPerTable * kTableBytes,
                                panel - nibble, sums);
            }
            if (!is_last) {
                for (int64_t i = 0; i < kQueriesPerTable * kRegisters; ++i) {
                    store(place + 2 * i, sums[i / kRegisters][i % kRegisters].low);
                    store(place + 2 * i + 1, sums[i / kRegisters][i % kRegisters].high);
                }
                continue;
            }
            for (int64_t i = 0; i < kQueriesPerTable && group * kQueriesPerTable + i < pass.num_queries; ++i) {
                body(group * kQueriesPerTable + i, sums[i]);
            }
        }
    }
}

}  // namespace

void hamming_tables(const HammingPass& pass, int64_t first, int64_t last, uint64_t* scratch,
                    const MatrixView<int32_t>& out) {
    for (int64_t row = first; row < last; row += kCodesPerBlock) {
        const int64_t count = last - row < kCodesPerBlock ? last - row : kCodesPerBlock;
        for_each_sums(pass, row, count, reinterpret_cast<uint8_t*>(scratch), [&](int64_t query, const Sums* sums) {
            int16_t distances[kCodesPerBlock];
            for (int64_t i = 0; i < kRegisters; ++i) sums[i].store_in_order(distances + i * kCodesPerRegister);
            int32_t* target = out.row(query) + row;
            for (int64_t i = 0; i < count; ++i) target[i] = distances[i];
        });
    }
}

void hamming_scan_tables(const HammingPass& pass, int64_t first, int64_t last, uint64_t* scratch,
                         Candidates& candidates) {
    for (int64_t row = first; row < last; row += kCodesPerBlock) {
        const int64_t count = last - row < kCodesPerBlock ? last - row : kCodesPerBlock;
        const uint64_t wanted = filter_bits(pass.filter, row, count);
        if (wanted == 0) continue;
        for_each_sums(pass, row, count, reinterpret_cast<uint8_t*>(scratch), [&](int64_t query, const Sums* sums) {
            const int64_t most = pass.limits[query] < INT16_MAX ? pass.limits[query] : INT16_MAX;
            const __m256i limit = _mm256_set1_epi16(static_cast<int16_t>(most));
            const uint64_t found = (sums[0].within(limit) | uint64_t{sums[1].within(limit)} << 32) & wanted;
            if (found == 0) return;
            int16_t distances[kCodesPerBlock];
            uint64_t wide[kCodesPerBlock];
            for (int64_t i = 0; i < kRegisters; ++i) sums[i].store_in_order(distances + i * kCodesPerRegister);
            for (int64_t i = 0; i < kCodesPerBlock; ++i) wide[i] = static_cast<uint64_t>(distances[i]);
            take(candidates, query, row, found, wide);
        });
    }
}

}  // namespace longspan::avx2
