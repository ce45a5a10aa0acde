// What kernel.h multiplies: a kind says how rows of x become staged words, how a word of x meets a register of words of
// weights, and what the finished sums mean. For kernel.h, once an instruction set.
//
// kParts: how many registers a register of words is widened to, one after the other; a word of x is staged as so many.

namespace longspan::LONGSPAN_ISA {
namespace {

constexpr int64_t kLanes = F32::kLanes;
constexpr int64_t kColumns = kF32.columns;
constexpr int64_t kStride = PanelShape::kStride;
static_assert(kColumns == 2 * kLanes);

// Words of weights in a K block.
template <class Kind>
constexpr int64_t kDepth = Kind::kPanel.depth();

// A kind that multiplies by AMX's tiles (tiles.h); int8's few rows excepted.
template <class Kind>
constexpr bool kHasTiles = Kind::kPanel.step == PanelShape::kTileStep;
// A kind whose sums take several words at once (words_at_once.h).
template <class Kind>
constexpr bool kTakesWords = Kind::kPanel.step > 1 && !kHasTiles<Kind>;
// The same, of pairs of rows and pairs of columns.
template <class Kind>
constexpr bool kIsPaired = Kind::kPanel.side > 1;

constexpr int64_t at_most(int64_t value, int64_t limit) {
    return value < limit ? value : limit;
}

inline float float_of(Word bits) {
    float value;
    std::memcpy(&value, &bits, sizeof value);
    return value;
}

// The bits of the bf16 nearest to the float of these bits, ties to even, as those of a float.
inline Word round_to_bf16(Word bits) {
    const Word rounded = (bits + 0x7fffu + (bits >> 16 & 1u)) & 0xffff0000u;
    const bool is_nan = (bits & 0x7fffffffu) > 0x7f800000u;
    return is_nan ? (bits | 0x400000u) & 0xffff0000u : rounded;
}

// A finished tile: kColumns sums for each row from first_row on.
struct Tile {
    const Word* sums;
    const float* own;  // what the rows' own adapters add: of i8, in a call that has adapters
    int64_t first_row;

    static int64_t at(int64_t r, int vector) { return r * kColumns + vector * kLanes; }
};

// What a tile's sums mean: themselves,
struct FloatSums {
    FloatSums(const LinearArgs&, int64_t) {}
    F32 at(const Tile& tile, int64_t r, int vector) const {
        return F32::load(reinterpret_cast<const float*>(tile.sums) + Tile::at(r, vector));
    }
};

struct FloatKind {
    static constexpr Dtype kDtype = Dtype::f32;
    static constexpr PanelShape kPanel = kF32;
    static constexpr int kParts = 1;
    using Sum = F32;
    using Stored = float;
    using Values = FloatSums;
    using Expand = FloatKind;  // how what an adapter has shrunk is multiplied
    template <int>
    static F32 load(const Word* p) {
        return F32::load(reinterpret_cast<const float*>(p));
    }
    static F32 broadcast(Word x) { return F32::all(float_of(x)); }
    static F32 lanes(const Word* x) { return F32::load(reinterpret_cast<const float*>(x)); }
    static F32 add(F32 sum, F32 x, F32 w) { return fma(x, w, sum); }
    static void stage(const float* x, int64_t count, Word* staged) {
        std::memcpy(staged, x, static_cast<size_t>(count) * sizeof(float));
    }
};

// Where Product widens: products in f32 of numbers that bf16 holds.
template <class Product, bool kIsWide = Product::kParts == 2>
struct Bf16Operands : Product {
    static F32 broadcast(Word x) { return F32::all(float_of(x)); }
    static F32 lanes(const Word* x) { return F32::load(reinterpret_cast<const float*>(x)); }
    static F32 add(F32 sum, F32 x, F32 w) { return fma(x, w, sum); }
    static void stage(const float* x, int64_t count, Word* staged) {
        for (int64_t i = 0; i < count; ++i) {
            Word bits;
            std::memcpy(&bits, x + i, sizeof bits);
            staged[i] = round_to_bf16(bits);
        }
        if (count % 2 != 0) staged[count] = 0;
    }
};
template <class Product>
struct Bf16Operands<Product, false> : Product {};

struct Bf16Kind : Bf16Operands<Bf16Product> {
    static constexpr Dtype kDtype = Dtype::bf16;
    static constexpr PanelShape kPanel = kBf16;
    using Sum = F32;
    using Stored = float;
    using Values = FloatSums;
    using Expand = Bf16Kind;
};

// or, exact as they are, times the scales of their rows and columns, less what the rows' zeros put in,
struct ScaledSums {
    const StagedRows& rows;
    F32 scales[2];
    I32 column_sums[2];

    ScaledSums(const LinearArgs& args, int64_t panel) : rows(args.staged) {
        for (int vector = 0; vector < 2; ++vector) {
            const int64_t column = panel * kColumns + vector * kLanes;
            scales[vector] = F32::load(args.weights.scales + column);
            column_sums[vector] = I32::load(args.weights.sums + column);
        }
    }
    F32 at(const Tile& tile, int64_t r, int vector) const {
        const int64_t row = tile.first_row + r;
        const I32 zero = I32::all(static_cast<Word>(rows.zeros[row]));
        const I32 sum = I32::load(tile.sums + Tile::at(r, vector)) - zero * column_sums[vector];
        return to_float(sum) * (F32::all(rows.scales[row]) * scales[vector]);
    }
};

// with what the rows' own adapters add.
struct AdaptedSums : ScaledSums {
    using ScaledSums::ScaledSums;
    F32 at(const Tile& tile, int64_t r, int vector) const {
        return ScaledSums::at(tile, r, vector) + F32::load(tile.own + Tile::at(r, vector));
    }
};

// What is taken off x before it is multiplied: 128 where the instruction set multiplies signed bytes alone.
template <class Product>
constexpr int32_t offset_of() {
    if constexpr (requires { Product::kOffset; }) return Product::kOffset;
    return 0;
}
// What the sums of bytes lie in: I32, or a type of the product's own.
template <class Product>
struct SumOf {
    using Type = I32;
};
template <class Product>
    requires requires { typename Product::OwnSum; }
struct SumOf<Product> {
    using Type = typename Product::OwnSum;
};

struct Int8Kind : Int8Product {
    static constexpr Dtype kDtype = Dtype::i8;
    static constexpr PanelShape kPanel = kI8;
    static constexpr int32_t kOffset = offset_of<Int8Product>();
    using Sum = typename SumOf<Int8Product>::Type;
    using Stored = Word;
    using Values = ScaledSums;
    using Expand = Bf16Kind;
    static I32 broadcast(Word x) { return I32::all(x); }
    static I32 lanes(const Word* x) { return I32::load(x); }
};

// Values of x to words, filled up with zeros to a whole step where a product takes so many.
template <class Kind>
inline void stage_words(const float* x, int64_t count, Word* staged) {
    Kind::stage(x, count, staged);
    if constexpr (kHasTiles<Kind>) {
        for (int64_t i = words_for(Kind::kDtype, count); i % Kind::kPanel.step != 0; ++i) staged[i] = 0;
    }
}

template <class Kind>
constexpr bool kFitsShape = Kind::kParts == Kind::kPanel.parts && Kind::kPanel.columns == kColumns;
static_assert(kFitsShape<FloatKind> && kFitsShape<Bf16Kind> && kFitsShape<Int8Kind>);

}  // namespace
}  // namespace longspan::LONGSPAN_ISA
