// The kernel, once for every instruction set: included by portable.cpp, avx2.cpp and avx512*.cpp after the lanes of
// that instruction set (lanes_<isa>.h).
//
// multiply() takes up to kMostRows document tokens and a tile of query tokens, one a lane: each of the document's units
// is broadcast and meets a register of queries, so that the best of the document tokens is a vertical maximum and no
// lane is ever summed across. f32 and bf16 documents are read where they lie; other formats are widened on the way
// into scratch, a chunk of tokens at a time, which all tiles of queries then share.

#include <cstdint>
#include <cstring>
#include <limits>
#include <utility>

#include "maxsim/maxsim.h"

#include "maxsim/kinds.h"
#include "maxsim/stage.h"

namespace longspan::LONGSPAN_ISA {
namespace {

// Units between two fetches: one cache line of a row.
constexpr int64_t kLineUnits = 64 / kUnitBytes;
// Units that a sum of floats takes in before it is put aside and a new one begins: the error of a long chain grows.
constexpr int64_t kChainUnits = 8 * kLineUnits;

template <class Kind, int kRows, int kVectors>
using Sums = typename Kind::Sum[kVectors][kRows];

// Adds the products of as many units as a register has lanes: one load brings them all.
constexpr int64_t kLaneUnits = 4;
template <class Kind, int kRows, int kVectors>
[[gnu::always_inline]] inline void add_lane_units(const std::byte* doc, int64_t row_bytes, const std::byte* tile,
                                                  Sums<Kind, kRows, kVectors>& sums) {
    decltype(Kind::load(doc)) docs[kRows];
    unroll<kRows>([&](auto r) { docs[r] = Kind::load(doc + r * row_bytes); });
    unroll<kLaneUnits>([&](auto unit) {
        decltype(Kind::load(tile)) queries[kVectors];
        unroll<kVectors>([&](auto i) { queries[i] = Kind::load(tile + (unit * kVectors + i) * kLanes * kUnitBytes); });
        Kind::template add_lane<unit>(sums, docs, queries);
    });
}

// Adds the products of `units` units to sums.
template <class Kind, int kRows, int kVectors>
[[gnu::always_inline]] inline void add_units(const std::byte* doc, int64_t row_bytes, const std::byte* tile,
                                             int64_t units, Sums<Kind, kRows, kVectors>& sums) {
    if constexpr (F32::kHasLaneProducts) {
        for (; units >= kLaneUnits; units -= kLaneUnits) {
            add_lane_units<Kind, kRows, kVectors>(doc, row_bytes, tile, sums);
            doc += kLaneUnits * kUnitBytes;
            tile += kLaneUnits * kVectors * kLanes * kUnitBytes;
        }
    }
    for (int64_t u = 0; u < units; ++u) {
        decltype(Kind::load(tile)) query[kVectors];
        unroll<kVectors>([&](auto i) { query[i] = Kind::load(tile + i * kLanes * kUnitBytes); });
        unroll<kRows>([&](auto r) {
            const auto value = Kind::broadcast(doc + r * row_bytes);
            unroll<kVectors>([&](auto i) { sums[i][r] = Kind::add(sums[i][r], value, query[i]); });
        });
        doc += kUnitBytes;
        tile += kVectors * kLanes * kUnitBytes;
    }
}

// The same for a whole chain, fetching rows that are wanted soon.
template <class Kind, int kRows, int kVectors>
[[gnu::always_inline]] inline void add_chain(const Rows& rows, int64_t first_unit, const std::byte* tile, int64_t units,
                                             Sums<Kind, kRows, kVectors>& sums) {
    const std::byte* doc = rows.data + first_unit * kUnitBytes;
    tile += first_unit * kVectors * kLanes * kUnitBytes;
    for (; units > 0; units -= kLineUnits) {
        if (rows.ahead != 0) unroll<kRows>([&](auto r) { __builtin_prefetch(doc + rows.ahead + r * rows.row_bytes); });
        add_units<Kind, kRows, kVectors>(doc, rows.row_bytes, tile, least(kLineUnits, units), sums);
        doc += kLineUnits * kUnitBytes;
        tile += kLineUnits * kVectors * kLanes * kUnitBytes;
    }
}

// Adds the chains after the first one. Not inlined: it would take registers from the loops that matter.
template <class Kind, int kRows, int kVectors>
[[gnu::noinline]] void add_further_chains(const Rows& rows, const std::byte* tile, int64_t units,
                                          Sums<Kind, kRows, kVectors>& sums) {
    for (int64_t u = kChainUnits; u < units; u += kChainUnits) {
        Sums<Kind, kRows, kVectors> chain;
        unroll<kRows * kVectors>([&](auto i) { chain[i / kRows][i % kRows] = Kind::Sum::zero(); });
        add_chain<Kind, kRows, kVectors>(rows, u, tile, least(kChainUnits, units - u), chain);
        unroll<kRows * kVectors>([&](auto i) {
            auto& sum = sums[i / kRows][i % kRows];
            sum = sum + chain[i / kRows][i % kRows];
        });
    }
}

// kRows document tokens against a tile; top and poison are the tile's lanes.
template <class Kind, int kRows, int kVectors>
void multiply(const Rows& rows, const std::byte* tile, int64_t units, float* top, float* poison) {
    Sums<Kind, kRows, kVectors> sums;
    unroll<kRows * kVectors>([&](auto i) { sums[i / kRows][i % kRows] = Kind::Sum::zero(); });
    add_chain<Kind, kRows, kVectors>(rows, 0, tile, Kind::kIsExact ? units : least(kChainUnits, units), sums);
    if constexpr (!Kind::kIsExact) {
        if (units > kChainUnits) {
            Sums<Kind, kRows, kVectors> in_memory;  // so that sums itself need not be
            unroll<kRows * kVectors>([&](auto i) { in_memory[i / kRows][i % kRows] = sums[i / kRows][i % kRows]; });
            add_further_chains<Kind, kRows, kVectors>(rows, tile, units, in_memory);
            unroll<kRows * kVectors>([&](auto i) { sums[i / kRows][i % kRows] = in_memory[i / kRows][i % kRows]; });
        }
    }
    unroll<kVectors>([&](auto i) {
        Best best{F32::load(top + i * kLanes), F32::load(poison + i * kLanes)};
        Kind::template finish<kRows>(sums[i], rows, best);
        best.top.store(top + i * kLanes);
        best.poison.store(poison + i * kLanes);
    });
}

using MultiplyFn = void(const Rows&, const std::byte*, int64_t, float*, float*);

struct MultiplyTable {
    MultiplyFn* wide[kRowsAtOnce];    // [rows - 1], tiles of two registers
    MultiplyFn* narrow[kRowsAtOnce];  // tiles of one
};
template <class Kind, int... kIndex>
constexpr MultiplyTable table_of(std::integer_sequence<int, kIndex...>) {
    return {{multiply<Kind, kIndex + 1, 2>...}, {multiply<Kind, kIndex + 1, 1>...}};
}
template <class Kind>
constexpr MultiplyTable kTable = table_of<Kind>(std::make_integer_sequence<int, kRowsAtOnce>{});

// A template, so that what kMultipliesBf16 excludes is not compiled: nothing of it that does not depend on its
// arguments.
template <bool kHasBf16Pairs, class Lanes = I32>
const MultiplyTable& table_for(Unit unit, bool has_scales) {
    if (unit == Unit::bits) return kTable<BitKind>;
    if (unit == Unit::i16_pair) return has_scales ? kTable<ScaledPairKind> : kTable<PairKind>;
    if constexpr (kHasBf16Pairs) {
        if (unit == Unit::bf16_pair) return kTable<Bf16Kind<Lanes>>;
    }
    return kTable<FloatKind>;
}

// A chunk of document tokens, widened into scratch if they need it.
class Document {
public:
    explicit Document(const MaxsimPart& part)
        : part_(part), stage_(stage_for(part.docs->format, part.unit, part.docs->dim)) {}

    bool is_staged() const { return stage_ != nullptr; }

    // Rows [first, last), which multiply() may read until the next call.
    Rows rows(int64_t first, int64_t last) const {
        const TokenRows& docs = *part_.docs;
        const float* scales = docs.scales == nullptr ? nullptr : docs.scales + first;
        if (!is_staged()) return {docs.row(first), docs.row_bytes, scales, 0, docs.dim};
        const int64_t row_bytes = part_.num_units * kUnitBytes;
        std::byte* to = part_.staged;
        for (int64_t row = first; row < last; ++row, to += row_bytes) {
            fetch(docs.row(row) + (last - first) * docs.row_bytes, least(row_bytes, docs.row_bytes));  // the next chunk
            std::memset(to + row_bytes - kUnitBytes, 0, kUnitBytes);  // what the row does not fill
            stage_(docs.row(row), docs.dim, to);
        }
        return {part_.staged, row_bytes, scales, 0, docs.dim};
    }

private:
    // Inlined by force: GCC takes a function that only prefetches for one without effect, and drops its calls.
    [[gnu::always_inline]] static void fetch(const std::byte* from, int64_t bytes) {
        for (int64_t i = 0; i < bytes; i += 64) __builtin_prefetch(from + i);
    }

    const MaxsimPart& part_;
    StageFn* stage_;
};

// Rows that multiply() takes at once, from strip first on: strips as even as can be.
struct Strips {
    int64_t first_row, rows, strips;

    int64_t begin(int64_t strip) const { return first_row + rows * strip / strips; }
};

// A chunk's strips against one tile.
void meet_tile(const MultiplyTable& table, const MaxsimPart& part, const Strips& strips, int64_t first_strip,
               int64_t last_strip, Rows rows, int64_t vector) {
    const bool is_wide = vector + 1 < part.num_vectors;
    const std::byte* tile = part.queries + vector * kLanes * part.num_units * kUnitBytes;
    float* top = part.best + vector * kLanes;
    float* poison = top + part.num_vectors * kLanes;
    for (int64_t strip = first_strip; strip < last_strip; ++strip) {
        const int64_t count = strips.begin(strip + 1) - strips.begin(strip);
        (is_wide ? table.wide : table.narrow)[count - 1](rows, tile, part.num_units, top, poison);
        rows.data += count * rows.row_bytes;
        if (rows.scales != nullptr) rows.scales += count;
    }
}

}  // namespace

void maxsim(const MaxsimPart& part) {
    const MultiplyTable& table = table_for<kMultipliesBf16>(part.unit, part.docs->scales != nullptr);
    const int64_t lanes = part.num_vectors * kLanes;
    for (int64_t i = 0; i < lanes; ++i) {
        part.best[i] = -std::numeric_limits<float>::infinity();
        part.best[lanes + i] = 0.0f;
    }
    const int64_t num_rows = part.last_row - part.first_row;
    const Strips strips{part.first_row, num_rows, (num_rows + kRowsAtOnce - 1) / kRowsAtOnce};
    const int64_t strip_bytes = kRowsAtOnce * part.num_units * kUnitBytes;
    const int64_t chunk = most(1, kStagedBytes / strip_bytes);  // in strips
    const Document document(part);
    for (int64_t strip = 0; strip < strips.strips; strip += chunk) {
        const int64_t last_strip = least(strip + chunk, strips.strips);
        Rows rows = document.rows(strips.begin(strip), strips.begin(last_strip));
        for (int64_t vector = 0; vector < part.num_vectors; vector += kTileVectors) {
            // The last tile asks for the next chunk's rows; in short rows the machine looks ahead well enough by
            // itself.
            const bool fetches =
                !document.is_staged() && vector + kTileVectors >= part.num_vectors && part.num_units >= kLineUnits;
            rows.ahead = fetches ? chunk * kRowsAtOnce * rows.row_bytes : 0;
            meet_tile(table, part, strips, strip, last_strip, rows, vector);
        }
    }
    for (int64_t i = 0; i < lanes; ++i) part.best[i] += part.best[lanes + i];
}

}  // namespace longspan::LONGSPAN_ISA
