// How sums take several words of a column at once, where the instruction set's products want that: factors from the
// lanes of a register, words that are multiplied together, pairs of rows by pairs of columns. For kernel.h, once an
// instruction set; those that broadcast each word of x have no use for it.

namespace longspan::LONGSPAN_ISA {
namespace {

// unroll(), whose body must not become a function: its sums would lie in memory.
#if defined(__GNUC__)
#define LONGSPAN_INLINED __attribute__((always_inline))
#else
#define LONGSPAN_INLINED
#endif
template <class Body, int... kIndex>
[[gnu::always_inline]] inline void each(std::integer_sequence<int, kIndex...>, Body&& body) {
    (body(std::integral_constant<int, kIndex>{}), ...);
}
template <int kCount, class Body>
[[gnu::always_inline]] inline void each(Body&& body) {
    each(std::make_integer_sequence<int, kCount>{}, body);
}

// Rows that there are sums of: with pairs, an odd one counts twice.
template <class Kind, int kRows>
constexpr int kRowsOfSums = kIsPaired<Kind> ? (kRows + 1) / 2 * 2 : kRows;

template <class Kind, int kRows, int kPanels>
using Sums = typename Kind::Sum[kPanels][kRowsOfSums<Kind, kRows>][2];

// Each register of x holds four staged words of a row, which meet one after the other.
template <class Kind, int kRows, int kPanels, int kWords>
[[gnu::always_inline]] inline void add_by_lanes(const Word* staged, const Word* panel, int64_t panel_stride,
                                                Sums<Kind, kRows, kPanels>& sums) {
    static_assert(kWords == 4);
    each<Kind::kParts>([&](auto quad) LONGSPAN_INLINED {
        decltype(Kind::lanes(staged)) x[kRows];
        each<kRows>([&](auto r) LONGSPAN_INLINED { x[r] = Kind::lanes(staged + r * kStride + quad * 4); });
        each<4>([&](auto lane) LONGSPAN_INLINED {
            constexpr int kStaged = quad * 4 + lane, kWord = kStaged / Kind::kParts, kPart = kStaged % Kind::kParts;
            each<kPanels>([&](auto p) LONGSPAN_INLINED {
                const Word* words = panel + p * panel_stride + kWord * kColumns;
                const auto low = Kind::template load<kPart>(words);
                const auto high = Kind::template load<kPart>(words + kLanes);
                each<kRows>([&](auto r) LONGSPAN_INLINED {
                    sums[p][r][0] = add_by_lane<lane>(sums[p][r][0], x[r], low);
                    sums[p][r][1] = add_by_lane<lane>(sums[p][r][1], x[r], high);
                });
            });
        });
    });
}

// Two words of a column at a time, and as many of x: load_words() and add() are the kind's.
template <class Kind, int kRows, int kPanels, int kWords>
[[gnu::always_inline]] inline void add_twos(const Word* staged, const Word* panel, int64_t panel_stride,
                                            Sums<Kind, kRows, kPanels>& sums) {
    each<kWords / 2 * kPanels>([&](auto i) LONGSPAN_INLINED {
        constexpr int p = i % kPanels, kTwo = i / kPanels;
        const auto words = Kind::load_words(panel + p * panel_stride + kTwo * 2 * kColumns);
        each<kRows>([&](auto r) LONGSPAN_INLINED {
            const auto x = Kind::lanes(staged + r * kStride + kTwo * 2 * Kind::kParts);
            sums[p][r][0] = Kind::add(sums[p][r][0], x, words.low);
            sums[p][r][1] = Kind::add(sums[p][r][1], x, words.high);
        });
    });
}

// A register of x holds two words of each of two rows, one of weights two words of each of two columns, and a product
// adds their four sums: (row, column), (row, column + 1), (row + 1, column), (row + 1, column + 1). Meanwhile the sums
// of rows r and r + 1, [r][0], [r][1], [r + 1][0] and [r + 1][1], are those of columns 0, 2, 4 and 6.
template <class Kind, int kRows, int kPanels, int kWords>
[[gnu::always_inline]] inline void add_pairs(const Word* staged, const Word* panel, int64_t panel_stride,
                                             Sums<Kind, kRows, kPanels>& sums) {
    constexpr int kPairs = (kRows + 1) / 2, kTwos = kWords / 2;
    decltype(Kind::lanes(staged)) x[kPairs][kTwos];
    each<kPairs>([&](auto i) LONGSPAN_INLINED {
        const Word* row = staged + 2 * i * kStride;
        const Word* next = 2 * i + 1 < kRows ? row + kStride : row;
        if constexpr (kTwos == 2) {
            const auto a = Kind::lanes(row), b = Kind::lanes(next);
            x[i][0] = low_halves(a, b);
            x[i][1] = high_halves(a, b);
        } else {
            x[i][0] = low_halves(Kind::half_of_lanes(row), Kind::half_of_lanes(next));
        }
    });
    each<kTwos * kPanels>([&](auto at) LONGSPAN_INLINED {
        constexpr int p = at % kPanels, kTwo = at / kPanels;
        each<4>([&](auto column) LONGSPAN_INLINED {
            const auto w = Kind::lanes(panel + p * panel_stride + kTwo * 2 * kColumns + column * 4);
            each<kPairs>([&](auto i) LONGSPAN_INLINED {
                auto& sum = sums[p][2 * i + column / 2][column % 2];
                sum = Kind::add_pair(sum, x[i][kTwo], w);
            });
        });
    });
}

// Adds the products of kWords words of each column to the sums of all rows.
template <class Kind, int kRows, int kPanels, int kWords>
[[gnu::always_inline]] inline void add_words(const Word* staged, const Word* panel, int64_t panel_stride,
                                             Sums<Kind, kRows, kPanels>& sums) {
    if constexpr (kIsPaired<Kind>) {
        add_pairs<Kind, kRows, kPanels, kWords>(staged, panel, panel_stride, sums);
    } else if constexpr (kTakesWords<Kind>) {
        add_twos<Kind, kRows, kPanels, kWords>(staged, panel, panel_stride, sums);
    } else {
        add_by_lanes<Kind, kRows, kPanels, kWords>(staged, panel, panel_stride, sums);
    }
}

// Sums of pairs to sums of rows,
template <class Kind, int kRows, class Sums>
[[gnu::always_inline]] inline void settle(Sums& sums) {
    if constexpr (kIsPaired<Kind>) {
        for (auto& panel : sums) {
            each<(kRows + 1) / 2>([&](auto i) LONGSPAN_INLINED {
                auto &row = panel[2 * i], &next = panel[2 * i + 1];
                const auto first = row[0], second = row[1], third = next[0], fourth = next[1];
                row[0] = low_halves(first, second);
                row[1] = low_halves(third, fourth);
                next[0] = high_halves(first, second);
                next[1] = high_halves(third, fourth);
            });
        }
    }
}

// and back.
template <class Kind, int kRows, class Sums>
[[gnu::always_inline]] inline void unsettle(Sums& sums) {
    if constexpr (kIsPaired<Kind>) {
        for (auto& panel : sums) {
            each<(kRows + 1) / 2>([&](auto i) LONGSPAN_INLINED {
                auto &row = panel[2 * i], &next = panel[2 * i + 1];
                const auto low = row[0], high = row[1], next_low = next[0], next_high = next[1];
                row[0] = low_halves(low, next_low);
                row[1] = high_halves(low, next_low);
                next[0] = low_halves(high, next_high);
                next[1] = high_halves(high, next_high);
            });
        }
    }
}

}  // namespace
}  // namespace longspan::LONGSPAN_ISA
