// Many queries on AVX2, by tables: how many bits a nibble (half a byte) of a query differs by from each of the 16
// nibbles that a code may have there is a table, which vpshufb looks up for 32 codes at once. A byte of a table is two
// queries' differences, 0 to 4 in each half; three of them are added before a half could overflow. That is 9
// instructions for 3 nibbles of 2 queries and 32 codes, where counting bits takes some 20. A block's nibbles are laid
// out once for all queries of a pass.

#include <immintrin.h>

#include <cstdint>

#include "hamming/hamming.h"

namespace longspan::avx2 {
namespace {

constexpr int64_t kCodesPerRegister = 32;
constexpr int64_t kRegisters = kCodesPerBlock / kCodesPerRegister;
static_assert(kRegisters == 2);
// Nibbles whose differences, of up to 4 bits each, are added up in bytes before they are widened.
constexpr int64_t kNibblesPerSum = 48;
static_assert(kNibblesPerSum % 3 == 0 && 4 * kNibblesPerSum < 256);
// Nibbles of a block that are laid out at once, 16 bytes of a code at a time: 12 KiB, beside half as much of four
// queries' tables.
constexpr int64_t kNibblesPerPanel = 4 * kNibblesPerSum;
static_assert(kNibblesPerPanel % 32 == 0);
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

// Bytes [first_byte, last_byte) of `count` codes from row `first` on to nibbles: (2 * bytes, rounded up to 32,
// kCodesPerBlock). What lies past a code's end is zeros, as in the queries; places past the last code repeat it.
void lay_out(const MatrixView<const uint8_t>& codes, int64_t first, int64_t count, int64_t first_byte,
             int64_t last_byte, uint8_t* target) {
    const int64_t rows_per_line = codes.row_stride > 0 && codes.row_stride < 64 ? 64 / codes.row_stride : 1;
    for (int64_t half = 0; half < kRegisters; ++half, target += kCodesPerRegister) {
        const auto code = [&](int64_t i) {
            const int64_t at = half * kCodesPerRegister + i;
            return codes.row(first + (at < count ? at : count - 1));
        };
        for (int64_t at = first_byte; at < last_byte; at += 16) {
            const int64_t bytes = last_byte - at;
            const auto part = [&](int64_t i) {
                const uint8_t* from = code(i) + at;
                if (bytes >= 16) return _mm_loadu_si128(reinterpret_cast<const __m128i*>(from));
                alignas(16) uint8_t rest[16] = {};
                for (int64_t b = 0; b < bytes; ++b) rest[b] = from[b];
                return _mm_load_si128(reinterpret_cast<const __m128i*>(rest));
            };
            for (int64_t i = 0; at % 64 == 0 && i < kCodesPerRegister; i += rows_per_line) {
                _mm_prefetch(reinterpret_cast<const char*>(code(i) + at + kPrefetchBytes), _MM_HINT_T0);
            }
            __m256i rows[16];
            for (int64_t i = 0; i < 16; ++i) {
                rows[i] = _mm256_inserti128_si256(_mm256_castsi128_si256(part(i)), part(i + 16), 1);
            }
            lay_out_16(rows, target + 2 * (at - first_byte) * kCodesPerBlock);
        }
    }
}

// Not __m256i: GCC would keep arrays of these in memory. And the loops over them must vanish, for the same reason.
using Bytes = unsigned char __attribute__((vector_size(32)));
constexpr int64_t kPairs = kQueriesPerTable / 2;

// Sums of looked-up bytes: `all` is low + 16 * high modulo 256, where low and high are sums of the bytes' halves.
struct PairSums {
    Bytes all[kPairs][kRegisters] = {}, high[kPairs][kRegisters] = {};
};

// Adds what kCount nibbles, 3 at the most, differ by.
template <int kCount>
[[gnu::always_inline]] inline void add_nibbles(const uint8_t* block, const uint8_t* tables, PairSums& sums) {
    const __m256i half = _mm256_set1_epi8(0x0f);
#pragma GCC unroll 2
    for (int64_t pair = 0; pair < kPairs; ++pair) {
        Bytes few[kRegisters];
#pragma GCC unroll 3
        for (int64_t i = 0; i < kCount; ++i) {
            const auto* table = reinterpret_cast<const __m128i*>(tables + (i * kPairs + pair) * kTableBytes);
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
            const __m256i high = _mm256_srli_epi16(reinterpret_cast<__m256i>(few[at]), 4);
            sums.all[pair][at] += few[at];
            sums.high[pair][at] += reinterpret_cast<Bytes>(_mm256_and_si256(high, half));
            __asm__("" : "+x"(sums.all[pair][at]), "+x"(sums.high[pair][at]));  // now: there are few registers
        }
    }
}

// How `nibbles` of a block (kNibblesPerSum at the most) differ from a group's queries, to `bytes` (queries, registers).
[[gnu::always_inline]] inline void add_differences(const uint8_t* block, const uint8_t* tables, int64_t nibbles,
                                                   __m256i* bytes) {
    PairSums sums;
    for (; nibbles >= 3; nibbles -= 3) {
        add_nibbles<3>(block, tables, sums);
        block += 3 * kCodesPerBlock;
        tables += 3 * kPairs * kTableBytes;
    }
    for (; nibbles > 0; --nibbles) {
        add_nibbles<1>(block, tables, sums);
        block += kCodesPerBlock;
        tables += kPairs * kTableBytes;
    }
#pragma GCC unroll 2
    for (int64_t pair = 0; pair < kPairs; ++pair) {
#pragma GCC unroll 2
        for (int64_t at = 0; at < kRegisters; ++at) {
            const Bytes low = sums.all[pair][at] - (sums.high[pair][at] << 4);
            store(bytes + 2 * pair * kRegisters + at, reinterpret_cast<__m256i>(low));
            store(bytes + (2 * pair + 1) * kRegisters + at, reinterpret_cast<__m256i>(sums.high[pair][at]));
        }
    }
}

// The distances of up to 64 codes from `row` on to every query: calls body(query, sums) for each, but where there are
// bytes to judge by and is_far(query, halves of the distances, rounded up, (registers)) says that none is of interest.
template <class IsFar, class Body>
inline void for_each_sums(const HammingPass& pass, int64_t row, int64_t count, uint8_t* scratch, IsFar&& is_far,
                          Body&& body) {
    constexpr int64_t kGroup = kQueriesPerTable * kRegisters, kMostSums = kNibblesPerPanel / kNibblesPerSum;
    const int64_t nibbles = 16 * pass.words, groups = (pass.num_queries + kQueriesPerTable - 1) / kQueriesPerTable;
    const __m256i zero = _mm256_setzero_si256();
    // Between panels: (queries, registers) of Sums.
    auto* kept = reinterpret_cast<__m256i*>(scratch + kNibblesPerPanel * kCodesPerBlock);
    for (int64_t first = 0; first < nibbles; first += kNibblesPerPanel) {
        const bool is_last = first + kNibblesPerPanel >= nibbles;
        const int64_t panel = is_last ? 2 * pass.codes.cols - first : kNibblesPerPanel;
        lay_out(pass.codes, row, count, first / 2, (first + panel) / 2, scratch);
        for (int64_t group = 0; group < groups; ++group) {
            const uint8_t* tables = pass.tables + (group * nibbles + first) * kQueriesPerTable / 2 * kTableBytes;
            const auto tables_at = [&](int64_t nibble) { return tables + nibble * kQueriesPerTable / 2 * kTableBytes; };
            __m256i bytes[kMostSums * kGroup];
            int64_t nibble = 0, used = 0;
            for (; nibble + kNibblesPerSum <= panel; nibble += kNibblesPerSum, used += kGroup) {
                add_differences(scratch + nibble * kCodesPerBlock, tables_at(nibble), kNibblesPerSum, bytes + used);
            }
            if (nibble < panel) {
                add_differences(scratch + nibble * kCodesPerBlock, tables_at(nibble), panel - nibble, bytes + used);
                used += kGroup;
            }
            const bool has_halves = first == 0 && is_last && used <= 2 * kGroup;
            for (int64_t query = 0; query < kQueriesPerTable; ++query) {
                const int64_t number = group * kQueriesPerTable + query, at = query * kRegisters;
                if (number >= pass.num_queries) break;
                if (has_halves) {
                    const __m256i* const more = used == kGroup ? &zero : bytes + kGroup + at;
                    const int64_t step = used == kGroup ? 0 : 1;
                    const __m256i halves[kRegisters] = {_mm256_avg_epu8(bytes[at], more[0]),
                                                        _mm256_avg_epu8(bytes[at + 1], more[step])};
                    if (is_far(number, halves)) continue;
                }
                Sums sums[kRegisters];
                for (int64_t i = 0; i < kRegisters; ++i) {
                    __m256i* const place = kept + 2 * (number * kRegisters + i);
                    sums[i] = first > 0 ? Sums{load(place), load(place + 1)} : Sums::zero();
                    for (int64_t sum = 0; sum < used; sum += kGroup) sums[i].add(bytes[sum + at + i]);
                    if (is_last) continue;
                    store(place, sums[i].low);
                    store(place + 1, sums[i].high);
                }
                if (is_last) body(number, sums);
            }
        }
    }
}

}  // namespace

void hamming_tables(const HammingPass& pass, int64_t first, int64_t last, uint64_t* scratch,
                    const MatrixView<int32_t>& out) {
    for (int64_t row = first; row < last; row += kCodesPerBlock) {
        const int64_t count = last - row < kCodesPerBlock ? last - row : kCodesPerBlock;
        const auto is_far = [](int64_t, const __m256i*) { return false; };
        for_each_sums(pass, row, count, reinterpret_cast<uint8_t*>(scratch), is_far,
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
    for (int64_t row = first; row < last; row += kCodesPerBlock) {
        const int64_t count = last - row < kCodesPerBlock ? last - row : kCodesPerBlock;
        const uint64_t wanted = filter_bits(pass.filter, row, count);
        if (wanted == 0) continue;
        const auto is_far = [&](int64_t query, const __m256i* halves) {
            const int64_t most = pass.limits[query] < 509 ? (pass.limits[query] + 1) / 2 : 255;
            const __m256i nearest = _mm256_min_epu8(halves[0], halves[1]);
            const __m256i within = _mm256_min_epu8(nearest, _mm256_set1_epi8(static_cast<char>(most)));
            return _mm256_movemask_epi8(_mm256_cmpeq_epi8(within, nearest)) == 0;
        };
        for_each_sums(
            pass, row, count, reinterpret_cast<uint8_t*>(scratch), is_far, [&](int64_t query, const Sums* sums) {
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
