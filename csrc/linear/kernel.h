// The kernel, once for every instruction set: included by portable.cpp, avx2.cpp and avx512*.cpp after the lanes of
// that instruction set (lanes_<isa>.h). walk() is the same for every dtype; kinds.h says what is multiplied.
//
// stage_rows() first copies (rounds, quantises) the rows of x to memory that all tasks share: K block by K block, with
// a fixed row stride, so that one pointer and constant offsets reach every row, and no two rows share cache sets. Then
// of each K block, each panel's piece, which stays in the L1 cache, meets all rows of a task, a strip of up to
// tile_rows at a time: multiply(). Sums of a strip and a panel (a tile) lie in scratch between K blocks; after the last
// one finish() turns them into outputs while they are in the L1 cache.

#include <cstring>
#include <optional>
#include <type_traits>
#include <utility>

#include "core/parallel.h"
#include "linear/linear.h"

namespace longspan::LONGSPAN_ISA {
namespace {

// Calls body(0), ... body(kCount - 1) with constants: the only loop that surely leaves its arrays in registers.
template <class Body, int... kIndex>
inline void unroll(std::integer_sequence<int, kIndex...>, Body&& body) {
    (body(std::integral_constant<int, kIndex>{}), ...);
}
template <int kCount, class Body>
inline void unroll(Body&& body) {
    unroll(std::make_integer_sequence<int, kCount>{}, body);
}

}  // namespace
}  // namespace longspan::LONGSPAN_ISA

#include "linear/kinds.h"

#include "linear/epilogue.h"
#include "linear/words_at_once.h"

namespace longspan::LONGSPAN_ISA {
namespace {

template <class Kind>
constexpr int64_t kTileRows = Kind::kPanel.tile_rows;
template <class Kind>
constexpr int64_t kTileWords = kTileRows<Kind> * kColumns;

constexpr int64_t divide_up(int64_t value, int64_t by) {
    return (value + by - 1) / by;
}

// Where a strip's sums go: tile (kRows, kColumns) of panel i at sums + i * stride.
struct Tiles {
    Word* sums;
    int64_t stride;
    bool continues;  // add to what an earlier K block left
};

// Every kSteps words, multiply() asks for some cache lines of what comes next, of a panel's piece or of rows: they
// begin where no hardware prefetcher looks, and would else come from the L3 cache, or the memory, while the first strip
// waits for them. A panel's strips ask for them together (Asking).
struct Ahead {
    const Word* piece;
    int64_t lines;  // every kSteps words
};
constexpr int64_t kLineWords = 16, kSteps = 4, kLinesPerPiece = kColumns * kSteps / kLineWords;

// Steps without a jump between them, where they are products of whole words in AVX-512: a twentieth faster than a jump
// after each, by 28 multiply-adds.
template <class Kind>
constexpr int kStepsAtOnce = kLanes == 16 && Kind::kParts == 1 ? kSteps : 1;

// What all rows of a strip go on with: words that their adapter has shrunk them to, and its words of B.
struct Extension {
    const Word* staged;
    const Word* panel;
    int64_t depth;
};

// Sums over `depth` words for kRows staged rows and kPanels panels. Eight chains at the least, kRows * kPanels * 2 of
// them, hide the latency of the multiply-add. `ahead` is what to ask for. Extended, each chain goes on, after what an
// earlier K block left, through the words of `more`: by the same loop, since GCC has no registers for a second one.
template <class Kind, int kRows, int kPanels, bool kExtended = false>
void multiply(const Word* staged, const Word* panel, int64_t panel_stride, int64_t depth, Ahead ahead,
              const Tiles& tiles, const Extension* more) {
    using Sum = typename Kind::Sum;
    constexpr int kSumRows = kRowsOfSums<Kind, kRows>;
    Sum sums[kPanels][kSumRows][2];
    unroll<kPanels * kSumRows>([&](auto i) {
        sums[i / kSumRows][i % kSumRows][0] = Sum::zero();
        sums[i / kSumRows][i % kSumRows][1] = Sum::zero();
    });
    [[maybe_unused]] const auto step = [&]([[maybe_unused]] int64_t k) LONGSPAN_INLINED {
        if constexpr (!kTakesWords<Kind>) {
            each<kPanels * Kind::kParts>([&](auto i) LONGSPAN_INLINED {
                constexpr int p = i / Kind::kParts, kPart = i % Kind::kParts;
                const auto low = Kind::template load<kPart>(panel + p * panel_stride + k * kColumns);
                const auto high = Kind::template load<kPart>(panel + p * panel_stride + k * kColumns + kLanes);
                each<kRows>([&](auto r) LONGSPAN_INLINED {
                    const auto x = Kind::broadcast(staged[r * kStride + k * Kind::kParts + kPart]);
                    sums[p][r][0] = Kind::add(sums[p][r][0], x, low);
                    sums[p][r][1] = Kind::add(sums[p][r][1], x, high);
                });
            });
        }
    };
    const auto each_sum = [&](auto&& body) {
        unroll<kPanels * kRows * 2>([&](auto i) {
            constexpr int kVector = i % 2, kRow = i / 2 % kRows, kAt = i / 2 / kRows;
            Word* at = tiles.sums + kAt * tiles.stride + kRow * kColumns + kVector * kLanes;
            body(sums[kAt][kRow][kVector], reinterpret_cast<typename Kind::Stored*>(at));
        });
    };
    for (int round = 0; round < (kExtended ? 2 : 1); ++round) {
        int64_t k = 0;
        for (; k + kSteps <= depth; k += kSteps) {
            for (int64_t line = 0; line < ahead.lines; ++line, ahead.piece += kLineWords) {
                __builtin_prefetch(ahead.piece, 0, 2);
            }
            if constexpr (kTakesWords<Kind> || F32::kHasLaneProducts) {
                add_words<Kind, kRows, kPanels, kSteps>(staged + k * Kind::kParts, panel + k * kColumns, panel_stride,
                                                        sums);
            } else {
                for (int64_t i = 0; i < kSteps; i += kStepsAtOnce<Kind>) {
                    each<kStepsAtOnce<Kind>>([&](auto more) LONGSPAN_INLINED { step(k + i + more); });
                }
            }
        }
        if constexpr (kTakesWords<Kind>) {
            if (k < depth) {
                add_words<Kind, kRows, kPanels, kSteps / 2>(staged + k * Kind::kParts, panel + k * kColumns,
                                                            panel_stride, sums);
            }
        } else {
            for (; k < depth; ++k) step(k);
        }
        settle<Kind, kRows>(sums);
        if (round == 0 && tiles.continues) {
            each_sum([](Sum& sum, const auto* at) { sum = Sum::load(at) + sum; });
        }
        if constexpr (kExtended) {
            if (round == 0) unsettle<Kind, kRows>(sums);
            staged = more->staged;
            panel = more->panel;
            depth = more->depth;
        }
    }
    each_sum([](const Sum& sum, auto* at) { sum.store(at); });
}

using MultiplyFn = void(const Word*, const Word*, int64_t, int64_t, Ahead, const Tiles&, const Extension*);

// How many panels a strip of so many rows takes at once; pairs of rows are made once for two of them.
template <class Kind>
constexpr int64_t panels_at_once(int64_t rows) {
    if (kIsPaired<Kind>) return 2;
    if (kHasTiles<Kind>) return 1;
    return rows == 1 ? 4 : rows <= 3 ? 2 : 1;
}
constexpr int64_t kMostPanelsAtOnce = 4;

}  // namespace
}  // namespace longspan::LONGSPAN_ISA

#ifdef LONGSPAN_HAS_TILES
#include "linear/tiles.h"
#endif

namespace longspan::LONGSPAN_ISA {
namespace {

// What multiplies so many rows.
template <class Kind, int kRows, int kPanels, bool kExtended>
constexpr MultiplyFn* multiply_of() {
#ifdef LONGSPAN_HAS_TILES
    if constexpr (kHasTiles<Kind> && (Kind::kDtype != Dtype::i8 || kRows > kFewRows))
        return multiply_tiles<Kind, kRows>;
#endif
    if constexpr (!kHasTiles<Kind> || Kind::kDtype == Dtype::i8) return multiply<Kind, kRows, kPanels, kExtended>;
    return nullptr;
}

template <class Kind, int... kIndex>
constexpr auto table_of(std::integer_sequence<int, kIndex...>) {
    struct Table {
        MultiplyFn* several[sizeof...(kIndex)];
        MultiplyFn* one[sizeof...(kIndex)];
        MultiplyFn* extended[sizeof...(kIndex)];
    };
    return Table{{multiply_of<Kind, kIndex + 1, panels_at_once<Kind>(kIndex + 1), false>()...},
                 {multiply_of<Kind, kIndex + 1, 1, false>()...},
                 {multiply_of<Kind, kIndex + 1, 1, true>()...}};
}
template <class Kind>
constexpr auto kMultiply = table_of<Kind>(std::make_integer_sequence<int, kTileRows<Kind>>{});

}  // namespace
}  // namespace longspan::LONGSPAN_ISA

#include "linear/adapters.h"

namespace longspan::LONGSPAN_ISA {
namespace {

template <class Values>
FinishFn* finish_of(const LinearArgs& args) {
    return args.rounded.data != nullptr ? finish_for<Values, ToBf16>(args.activation)
                                        : finish_for<Values, ToMatrix>(args.activation);
}
template <class Kind>
FinishFn* finish_of_kind(const LinearArgs& args) {
    using Values = typename Kind::Values;
    if (args.pooled.sequences != nullptr) return finish_pooled<Values>(args.pooled);
    if constexpr (std::is_same_v<Values, FloatSums>) {
        if (args.next.words != nullptr) return finish_for<Values, ToStaged<Kind>>(args.activation);
    } else if (args.lora.segments != nullptr) {
        return finish_of<AdaptedSums>(args);
    }
    return finish_of<Values>(args);
}

// What a task reads after so many panels of the K block from k on: the next one's piece, the next K block's first, or
// the next task's.
inline const Word* next_piece(const LinearArgs& args, const LinearBlock& block, int64_t panel, int64_t k,
                              int64_t depth) {
    const int64_t num_words = args.weights.num_words;
    panel += block.first_panel;
    if (panel == block.last_panel) {
        k += depth;
        panel = block.first_panel;
        if (k >= num_words) {
            k = 0;
            if (block.next_panel >= 0) panel = block.next_panel;
        }
    }
    return args.weights.panels + (panel * num_words + k) * kColumns;
}

// Fewer strips would ask for so much at once that they wait for it, and their rows are few.
constexpr int64_t kStripsWorthAsking = 4;

// How a panel's strips, of so many steps each, ask for what comes next: the first ones for its piece, those behind them
// for a share of the rows that the next K block, or the next task, reads, where these have left the L2 cache.
struct Asking {
    int64_t lines;  // every kSteps words
    int64_t steps, piece_strips, row_lines;

    Asking(int64_t piece_lines, int64_t row_lines, int64_t strips, int64_t steps)
        : lines(divide_up(piece_lines + row_lines, strips * steps)), steps(steps), row_lines(row_lines) {
        if (lines == 0) lines = 1;  // fewer words than a step has: nothing to ask for
        while (row_lines > 0 && strips_for(piece_lines) + strips_for(row_lines) > strips) ++lines;
        piece_strips = strips_for(piece_lines);
    }

    Ahead of(int64_t strip, const Word* piece, const Word* rows) const {
        if (strip < piece_strips) return {piece + strip * lines * steps * kLineWords, lines};
        const int64_t line = (strip - piece_strips) * lines * steps;
        return {rows + line * kLineWords, line < row_lines ? lines : 0};
    }

private:
    int64_t strips_for(int64_t count) const { return divide_up(count, lines * steps); }
};

// Where a register of words is widened before it is multiplied, and a panel's piece meets so many strips, it is widened
// once for all of them: to what kParts registers of each word hold, one after the other, as rows of x are staged. Sums
// are the same, in the same order. With eight lanes alone: 16 lanes' pieces would take most of an L1 cache.
constexpr int64_t kStripsWorthWidening = 6;
template <class Kind>
constexpr bool kWidensPieces = Kind::kParts == 2 && kLanes == 8;

template <class Kind>
struct WidePiece : Kind {
    static constexpr int kParts = 1;
    template <int>
    static auto load(const Word* p) {
        return Kind::Sum::load(reinterpret_cast<const typename Kind::Stored*>(p));
    }
};
template <class Kind>
using WideKind = std::conditional_t<Kind::kDtype == Dtype::bf16, FloatKind, WidePiece<Kind>>;

template <class Kind, int... kIndex>
constexpr auto wide_table_of(std::integer_sequence<int, kIndex...>) {
    struct Table {
        MultiplyFn* one[sizeof...(kIndex)];
    };
    return Table{{multiply_of<WideKind<Kind>, kIndex + 1, 1, false>()...}};
}
template <class Kind>
constexpr auto kMultiplyWide = wide_table_of<Kind>(std::make_integer_sequence<int, kTileRows<Kind>>{});

template <class Kind>
void widen(const Word* panel, int64_t depth, Word* wide) {
    for (int64_t k = 0; k < depth; ++k, panel += kColumns) {
        unroll<Kind::kParts>([&](auto part) {
            for (int64_t column = 0; column < kColumns; column += kLanes, wide += kLanes) {
                Kind::template load<part>(panel + column).store(reinterpret_cast<typename Kind::Stored*>(wide));
            }
        });
    }
}

template <class Kind>
void walk(const LinearArgs& args, const LinearBlock& block) {
    using Expand = typename Kind::Expand;
    constexpr bool kGoesOn = std::is_same_v<typename Kind::Values, FloatSums>;  // with what adapters add, in the sums
    const int64_t rows = block.last_row - block.first_row;
    const int64_t panels = block.last_panel - block.first_panel;
    const int64_t num_words = args.weights.num_words;
    const int64_t at_once = panels_at_once<Kind>(rows);
    const int64_t strips = divide_up(rows, kTileRows<Kind>);
    // With a single K block the sums need not outlive their strip.
    const bool keeps_sums = num_words > kDepth<Kind>;
    const int64_t tile_rows = keeps_sums ? rows : at_most(rows, kTileRows<Kind>);
    const int64_t kept_panels = keeps_sums ? panels : at_most(panels, kMostPanelsAtOnce);
    const bool has_lora = args.lora.segments != nullptr;
    const int64_t words = kept_panels * tile_rows * kColumns;
    const int64_t staged_rows = rows + (kHasTiles<Expand> ? kRowsBehind : 0);
    const int64_t lora_words = has_lora ? kTileWords<Kind> + OwnAdapters<Expand>::words(args.lora, staged_rows) : 0;
    const bool is_wide = kWidensPieces<Kind> && strips >= kStripsWorthWidening;
    const int64_t wide_words = is_wide ? PanelShape::kDepth * kColumns : 0;
    auto* const wide = static_cast<Word*>(thread_scratch((wide_words + words + lora_words) * int64_t{sizeof(Word)}));
    Word* const sums = wide + wide_words;
    Word* const own_sums = sums + words;
    OwnAdapters<Expand> own(args.lora, block, own_sums + (has_lora ? kTileWords<Kind> : 0));
    static_assert(kTileRows<Kind> <= kTileRows<Expand>);
    const Word* staged = args.staged.words + block.first_row * kStride;
    const bool asks_rows = block.next_row >= 0 && strips >= kStripsWorthAsking;
    const int64_t lines_of_rows = divide_up(rows * kStride / kLineWords, panels);  // a panel's share
    FinishFn* const finish = finish_of_kind<Kind>(args);

    int64_t k = 0;
    do {  // once even for a layer without inputs, which is adapters alone
        const int64_t depth = at_most(num_words - k, kDepth<Kind>);
        const bool is_last = k + depth == num_words;
        const int64_t steps = depth * (is_wide ? Kind::kParts : 1) / kSteps;
        const Asking asking(kLinesPerPiece * at_once * (depth / kSteps), asks_rows ? lines_of_rows * at_once : 0,
                            strips, steps > 0 ? steps : 1);
        const Word* next_rows = staged + args.staged.rows * kStride;
        if (is_last && asks_rows) next_rows = args.staged.words + block.next_row * kStride;
        for (int64_t panel = 0; panel < panels;) {
            const int64_t taken = panels - panel >= at_once ? at_once : 1;
            const Word* weights = args.weights.panels + ((block.first_panel + panel) * num_words + k) * kColumns;
            const Word* next = next_piece(args, block, panel + taken, k, depth);
            const auto* table = taken > 1 ? kMultiply<Kind>.several : kMultiply<Kind>.one;
            if constexpr (kWidensPieces<Kind>) {
                if (is_wide) widen<Kind>(weights, depth, wide);
            }
            for (int64_t strip = 0; strip < strips; ++strip) {
                const int64_t row = rows * strip / strips;
                const int64_t strip_rows = rows * (strip + 1) / strips - row;
                const Ahead ahead = asking.of(strip, next, next_rows + panel * lines_of_rows * kLineWords);
                const int64_t tile_stride = tile_rows * kColumns;
                Word* tile = keeps_sums ? sums + panel * tile_stride + row * kColumns : sums;
                const int64_t at = block.first_panel + panel, first_row = block.first_row + row;
                const auto more =
                    is_last && taken == 1 ? own.template extension<Kind>(first_row, strip_rows, at) : std::nullopt;
                const Tiles tiles{tile, tile_stride, k > 0};
                if constexpr (kWidensPieces<Kind>) {
                    if (is_wide && !more) {
                        kMultiplyWide<Kind>.one[strip_rows - 1](staged + row * kStride, wide, 0, depth * Kind::kParts,
                                                                ahead, tiles, nullptr);
                    }
                }
                if (!is_wide || more) {
                    const auto* multiply = more ? kMultiply<Kind>.extended : table;
                    multiply[strip_rows - 1](staged + row * kStride, weights, num_words * kColumns, depth, ahead, tiles,
                                             more ? &*more : nullptr);
                }
                if (!is_last) continue;
                for (int64_t i = 0; i < taken; ++i) {
                    Word* done = tile + i * tile_stride;
                    if (has_lora && !more) {
                        if (kGoesOn) own.expand(first_row, strip_rows, at + i, done);
                        if (!kGoesOn) own.expand_alone(first_row, strip_rows, at + i, own_sums);
                    }
                    finish(args, {done, reinterpret_cast<const float*>(own_sums), first_row}, strip_rows, at + i);
                }
            }
            panel += taken;
        }
        k += kDepth<Kind>;
        staged += args.staged.rows * kStride;
    } while (k < num_words);
}

}  // namespace
}  // namespace longspan::LONGSPAN_ISA

#include "linear/stage.h"
