// Sums of strips by AMX's tiles (core/tiles.h), where words of x meet panels as they do elsewhere: 16 words of 16 or 32
// rows times 16 words of a panel's two registers' columns. For kernel.h, in the files of instruction sets with tiles.
//
// Tiles are always whole. The rows that fill up a strip's last tile are what follows in memory: a row's sums know
// nothing of the others, and those are not kept. So memory of staged rows has room behind it (kRowsBehind), and panels
// and staged rows are filled up with zeros to 16 words.

#include "core/tiles.h"

namespace longspan::LONGSPAN_ISA {
namespace {

constexpr int64_t kTileHeight = TileConfig::kMostRows, kTileWordsDeep = PanelShape::kTileStep;
// Rows of int8 that the kernel without tiles multiplies, to the same whole numbers: a tile takes its time however few
// of its rows count.
constexpr int kFewRows = 4;

// Sums in tiles 0 to 3: rows 0 to 15, columns of the low and the high register, then rows 16 to 31; x in 4 and 5, a
// panel's registers in 6 and 7.
constexpr TileConfig kTileConfig = [] {
    TileConfig config;
    constexpr int kRegisterBytes = kLanes * sizeof(Word);
    for (int tile = 0; tile < 8; ++tile) {
        const bool is_x = tile == 4 || tile == 5;
        config.set(tile, kTileHeight, is_x ? kTileWordsDeep * sizeof(Word) : kRegisterBytes);
    }
    return config;
}();
constexpr int64_t kSumsStride = kColumns * sizeof(Word), kStagedStride = kStride * sizeof(Word);

template <class Kind, int kSums, int kX, int kPanel>
inline void add_tile_products() {
    if constexpr (Kind::kDtype == Dtype::bf16) add_bf16_products<kSums, kX, kPanel>();
    if constexpr (Kind::kDtype == Dtype::i8) add_byte_products<kSums, kX, kPanel>();
}

// Adds the products of `depth` words to the sums in tiles, of kHeights times 16 rows.
template <class Kind, int kHeights>
inline void add_tiles(const Word* staged, const Word* panel, int64_t depth, Ahead ahead) {
    for (int64_t k = 0; k < depth; k += kTileWordsDeep) {
        for (int64_t line = 0; line < kTileWordsDeep / kSteps * ahead.lines; ++line, ahead.piece += kLineWords) {
            __builtin_prefetch(ahead.piece, 0, 2);
        }
        load_tile<6>(panel + k * kColumns, kSumsStride);
        load_tile<4>(staged + k, kStagedStride);
        add_tile_products<Kind, 0, 4, 6>();
        load_tile<7>(panel + k * kColumns + kLanes, kSumsStride);
        add_tile_products<Kind, 1, 4, 7>();
        if constexpr (kHeights == 2) {
            load_tile<5>(staged + kTileHeight * kStride + k, kStagedStride);
            add_tile_products<Kind, 2, 5, 6>();
            add_tile_products<Kind, 3, 5, 7>();
        }
    }
}

template <int kHeights>
inline void store_sums(Word* sums) {
    store_tile<0>(sums, kSumsStride);
    store_tile<1>(sums + kLanes, kSumsStride);
    if constexpr (kHeights == 2) {
        store_tile<2>(sums + kTileHeight * kColumns, kSumsStride);
        store_tile<3>(sums + kTileHeight * kColumns + kLanes, kSumsStride);
    }
}
template <int kHeights>
inline void load_sums(const Word* sums) {
    load_tile<0>(sums, kSumsStride);
    load_tile<1>(sums + kLanes, kSumsStride);
    if constexpr (kHeights == 2) {
        load_tile<2>(sums + kTileHeight * kColumns, kSumsStride);
        load_tile<3>(sums + kTileHeight * kColumns + kLanes, kSumsStride);
    }
}
template <int kHeights>
inline void clear_sums() {
    clear_tile<0>();
    clear_tile<1>();
    if constexpr (kHeights == 2) {
        clear_tile<2>();
        clear_tile<3>();
    }
}

// As multiply(), for `rows` rows and one panel.
template <class Kind, int kHeights>
void multiply_rows(const Word* staged, const Word* panel, int64_t depth, Ahead ahead, int64_t rows, const Tiles& tiles,
                   const Extension* more) {
    alignas(64) Word sums[kHeights * kTileHeight * kColumns];
    clear_sums<kHeights>();
    add_tiles<Kind, kHeights>(staged, panel, depth, ahead);
    store_sums<kHeights>(sums);
    using Sum = typename Kind::Sum;
    using Stored = typename Kind::Stored;
    if (tiles.continues) {  // with what an earlier K block left
        for (int64_t i = 0; i < rows * kColumns; i += kLanes) {
            auto* sum = reinterpret_cast<Stored*>(sums + i);
            (Sum::load(reinterpret_cast<const Stored*>(tiles.sums + i)) + Sum::load(sum)).store(sum);
        }
    }
    if (more != nullptr) {
        load_sums<kHeights>(sums);
        add_tiles<Kind, kHeights>(more->staged, more->panel, more->depth, {more->panel, 0});
        store_sums<kHeights>(sums);
    }
    std::memcpy(tiles.sums, sums, static_cast<size_t>(rows * kColumns) * sizeof(Word));
}

template <class Kind, int kRows>
void multiply_tiles(const Word* staged, const Word* panel, int64_t, int64_t depth, Ahead ahead, const Tiles& tiles,
                    const Extension* more) {
    constexpr int kHeights = kRows <= kTileHeight ? 1 : 2;
    multiply_rows<Kind, kHeights>(staged, panel, depth, ahead, kRows, tiles, more);
}

}  // namespace
}  // namespace longspan::LONGSPAN_ISA
