// The kernel, once for every instruction set: included by portable.cpp, avx2.cpp and avx512.cpp.
//
// Of each K block, the rows' piece of x is copied to scratch with a fixed row stride (so that one pointer and constant
// offsets reach every row, and no two rows share cache sets), then each panel's piece, which stays in the L1 cache,
// meets all rows, a strip of up to tile_rows at a time: multiply(). Sums of a strip and a panel (a tile) lie in scratch
// between K blocks; after the last one finish() turns them into outputs while they are in the L1 cache.

#include <cstring>
#include <utility>

#include "core/parallel.h"
#include "linear/linear.h"

namespace longspan::LONGSPAN_ISA {
namespace {

constexpr int64_t kLanes = F32::kLanes;
constexpr int64_t kColumns = kPanel.columns;
constexpr int64_t kTileRows = kPanel.tile_rows;
constexpr int64_t kStride = kPanel.depth + 16;  // floats from one staged row to the next
static_assert(kColumns == 2 * kLanes);

constexpr int64_t at_most(int64_t value, int64_t limit) {
    return value < limit ? value : limit;
}
constexpr int64_t divide_up(int64_t value, int64_t by) {
    return (value + by - 1) / by;
}

// Calls body(0), ... body(kCount - 1) with constants: the only loop that surely leaves its arrays in registers.
template <class Body, int... kIndex>
inline void unroll(std::integer_sequence<int, kIndex...>, Body&& body) {
    (body(std::integral_constant<int, kIndex>{}), ...);
}
template <int kCount, class Body>
inline void unroll(Body&& body) {
    unroll(std::make_integer_sequence<int, kCount>{}, body);
}

// Where a strip's sums go: tile (kRows, kColumns) of panel i at sums + i * stride.
struct Tiles {
    float* sums;
    int64_t stride;
    bool continues;  // add to what an earlier K block left
};

// Every few values of k, multiply() asks for one cache line of the panel that comes next: its piece begins where no
// hardware prefetcher looks, and would else come from the L3 cache while the first strip waits for it.
constexpr int64_t kLineFloats = 16, kStepsPerLine = 4;
constexpr int64_t kStripsPerPanel = kColumns * kStepsPerLine / kLineFloats;  // that ask for a whole piece together

// Sums over `depth` values of k for kRows staged rows and kPanels panels. Eight chains at the least, kRows * kPanels *
// 2 of them, hide the latency of the multiply-add. `ahead` is what to ask for.
template <int kRows, int kPanels>
void multiply(const float* staged, const float* panel, int64_t panel_stride, int64_t depth, const float* ahead,
              const Tiles& tiles) {
    F32 sums[kPanels][kRows][2];
    unroll<kPanels * kRows>([&](auto i) {
        sums[i / kRows][i % kRows][0] = F32::zero();
        sums[i / kRows][i % kRows][1] = F32::zero();
    });
    const auto step = [&](int64_t k) {
        unroll<kPanels>([&](auto p) {
            const F32 low = F32::load(panel + p * panel_stride + k * kColumns);
            const F32 high = F32::load(panel + p * panel_stride + k * kColumns + kLanes);
            unroll<kRows>([&](auto r) {
                const F32 x = F32::all(staged[r * kStride + k]);
                sums[p][r][0] = fma(x, low, sums[p][r][0]);
                sums[p][r][1] = fma(x, high, sums[p][r][1]);
            });
        });
    };
    int64_t k = 0;
    for (; k + kStepsPerLine <= depth; k += kStepsPerLine) {
        __builtin_prefetch(ahead + k / kStepsPerLine * kLineFloats, 0, 2);
        for (int64_t i = 0; i < kStepsPerLine; ++i) step(k + i);
    }
    for (; k < depth; ++k) step(k);
    float* const tile = tiles.sums;
    const int64_t tile_stride = tiles.stride;
    const bool continues = tiles.continues;
    unroll<kPanels * kRows * 2>([&](auto i) {
        constexpr int kVector = i % 2, kRow = i / 2 % kRows, kAt = i / 2 / kRows;
        float* at = tile + kAt * tile_stride + kRow * kColumns + kVector * kLanes;
        F32 sum = sums[kAt][kRow][kVector];
        if (continues) sum = F32::load(at) + sum;
        sum.store(at);
    });
}

using MultiplyFn = void(const float*, const float*, int64_t, int64_t, const float*, const Tiles&);

// How many panels a strip of so many rows takes at once.
constexpr int64_t panels_at_once(int64_t rows) {
    return rows == 1 ? 4 : rows <= 3 ? 2 : 1;
}
constexpr int64_t kMostPanelsAtOnce = 4;

template <int... kIndex>
constexpr auto table_of(std::integer_sequence<int, kIndex...>) {
    struct Table {
        MultiplyFn* several[sizeof...(kIndex)];
        MultiplyFn* one[sizeof...(kIndex)];
    };
    return Table{{multiply<kIndex + 1, panels_at_once(kIndex + 1)>...}, {multiply<kIndex + 1, 1>...}};
}
constexpr auto kMultiply = table_of(std::make_integer_sequence<int, kTileRows>{});

template <Activation kActivation>
inline F32 activate(F32 u) {
    if constexpr (kActivation == Activation::relu) return max(F32::zero(), u);
    if constexpr (kActivation == Activation::gelu) return gelu(u);
    if constexpr (kActivation == Activation::gelu_tanh) return gelu_tanh(u);
    if constexpr (kActivation == Activation::silu) return u * sigmoid(u);
    if constexpr (kActivation == Activation::tanh) return tanh(u);
    return u;
}

inline void write(F32 y, const float* residual, float* out, int64_t lanes) {
    if (lanes >= kLanes) {
        if (residual != nullptr) y = y + F32::load(residual);
        y.store(out);
    } else if (lanes > 0) {
        if (residual != nullptr) y = y + F32::load_first(residual, lanes);
        y.store_first(out, lanes);
    }
}

// A finished tile's sums to outputs, for rows from first_row on.
template <Activation kActivation>
void finish(const LinearArgs& args, const float* sums, int64_t first_row, int64_t rows, int64_t panel) {
    const F32 low_bias = F32::load(args.weights.bias + panel * kColumns);
    const F32 high_bias = F32::load(args.weights.bias + panel * kColumns + kLanes);
    const bool is_gated = args.weights.is_gated;
    const int64_t column = panel * (is_gated ? kLanes : kColumns);
    const int64_t left = args.weights.out_features - column;
    for (int64_t r = 0; r < rows; ++r) {
        const F32 low = F32::load(sums + r * kColumns) + low_bias;
        const F32 high = F32::load(sums + r * kColumns + kLanes) + high_bias;
        float* out = args.out.row(first_row + r) + column;
        const float* residual = args.residual.data == nullptr ? nullptr : args.residual.row(first_row + r) + column;
        const F32 activated = activate<kActivation>(low);
        if (is_gated) {
            write(activated * high, residual, out, left);
        } else {
            write(activated, residual, out, left);
            write(activate<kActivation>(high), residual == nullptr ? nullptr : residual + kLanes, out + kLanes,
                  left - kLanes);
        }
    }
}

using FinishFn = void(const LinearArgs&, const float*, int64_t, int64_t, int64_t);

FinishFn* finish_for(Activation activation) {
    switch (activation) {
        case Activation::none:
            return finish<Activation::none>;
        case Activation::relu:
            return finish<Activation::relu>;
        case Activation::gelu:
            return finish<Activation::gelu>;
        case Activation::gelu_tanh:
            return finish<Activation::gelu_tanh>;
        case Activation::silu:
            return finish<Activation::silu>;
        case Activation::tanh:
            return finish<Activation::tanh>;
    }
    return nullptr;
}

// Copies x[first_row : first_row + rows, k : k + depth] to scratch.
void stage(const MatrixView<const float>& x, int64_t first_row, int64_t rows, int64_t k, int64_t depth, float* staged) {
    for (int64_t r = 0; r < rows; ++r) {
        std::memcpy(staged + r * kStride, x.row(first_row + r) + k, static_cast<size_t>(depth) * sizeof(float));
    }
}

// Copies the values that the rows' own adapters left of them to scratch, in chunks of the K block's depth: (chunks,
// rows, kStride).
void stage_shrunk(const LoraView& lora, int64_t first_row, int64_t rows, float* staged) {
    for (int64_t r = 0; r < rows; ++r) {
        const int32_t id = lora.ids[first_row + r];
        if (id < 0) continue;
        const float* values = lora.shrunk.row(first_row + r) + id * lora.rank;
        for (int64_t j = 0; j < lora.rank; j += kPanel.depth) {
            const auto bytes = static_cast<size_t>(at_most(lora.rank - j, kPanel.depth)) * sizeof(float);
            std::memcpy(staged + (j / kPanel.depth * rows + r) * kStride, values + j, bytes);
        }
    }
}

// Adds to a strip's tile what its rows' adapters say, a run of rows with the same one at a time. `staged` is the first
// row's; chunks are chunk_stride apart.
void expand(const LoraView& lora, const float* staged, int64_t chunk_stride, int64_t first_row, int64_t rows,
            int64_t panel, float* tile) {
    for (int64_t row = 0, end; row < rows; row = end) {
        const int32_t id = lora.ids[first_row + row];
        end = row + 1;
        while (end < rows && lora.ids[first_row + end] == id) ++end;
        if (id < 0) continue;
        const LoraSegment& segment = lora.segments[panel * lora.num_adapters + id];
        for (int64_t done = 0, depth; done < segment.depth; done += depth) {
            const int64_t j = segment.first + done, from = j % kPanel.depth;
            depth = at_most(segment.depth - done, kPanel.depth - from);
            const float* weights = segment.panel + done * kColumns;
            const float* values = staged + j / kPanel.depth * chunk_stride + row * kStride + from;
            kMultiply.one[end - row - 1](values, weights, 0, depth, weights, {tile + row * kColumns, 0, true});
        }
    }
}

}  // namespace

void linear(const LinearArgs& args, const LinearBlock& block) {
    const int64_t rows = block.last_row - block.first_row;
    const int64_t panels = block.last_panel - block.first_panel;
    const int64_t in_features = args.weights.in_features;
    const int64_t at_once = panels_at_once(rows);
    const int64_t strips = divide_up(rows, kTileRows);
    // With a single K block the sums need not outlive their strip.
    const bool keeps_sums = in_features > kPanel.depth;
    const int64_t tile_rows = keeps_sums ? rows : at_most(rows, kTileRows);
    const int64_t kept_panels = keeps_sums ? panels : at_most(panels, kMostPanelsAtOnce);
    const bool has_lora = args.lora.segments != nullptr;
    const int64_t chunk_stride = rows * kStride, chunks = has_lora ? divide_up(args.lora.rank, kPanel.depth) : 0;
    auto* staged = static_cast<float*>(thread_scratch(
        (rows * kStride + kept_panels * tile_rows * kColumns + chunks * chunk_stride) * int64_t{sizeof(float)}));
    float* sums = staged + rows * kStride;
    float* shrunk = sums + kept_panels * tile_rows * kColumns;
    const auto finish = finish_for(args.activation);

    int64_t k = 0;
    do {  // once even for a layer without inputs, which is adapters alone
        const int64_t depth = at_most(in_features - k, kPanel.depth);
        const bool is_last = k + depth == in_features;
        stage(args.x, block.first_row, rows, k, depth, staged);
        if (is_last && has_lora) stage_shrunk(args.lora, block.first_row, rows, shrunk);
        for (int64_t panel = 0; panel < panels;) {
            const int64_t taken = panels - panel >= at_once ? at_once : 1;
            const float* weights = args.weights.panels + ((block.first_panel + panel) * in_features + k) * kColumns;
            const float* next = panel + taken < panels ? weights + taken * in_features * kColumns : weights;
            const auto* table = taken > 1 ? kMultiply.several : kMultiply.one;
            for (int64_t strip = 0; strip < strips; ++strip) {
                const int64_t row = rows * strip / strips;
                const int64_t strip_rows = rows * (strip + 1) / strips - row;
                const float* ahead = next + strip % kStripsPerPanel * (depth / kStepsPerLine) * kLineFloats;
                const int64_t tile_stride = tile_rows * kColumns;
                float* tile = keeps_sums ? sums + panel * tile_stride + row * kColumns : sums;
                table[strip_rows - 1](staged + row * kStride, weights, in_features * kColumns, depth, ahead,
                                      {tile, tile_stride, k > 0});
                if (!is_last) continue;
                for (int64_t i = 0; i < taken; ++i) {
                    const int64_t first_row = block.first_row + row, at = block.first_panel + panel + i;
                    float* done = tile + i * tile_stride;
                    if (has_lora) {
                        expand(args.lora, shrunk + row * kStride, chunk_stride, first_row, strip_rows, at, done);
                    }
                    finish(args, done, first_row, strip_rows, at);
                }
            }
            panel += taken;
        }
        k += kPanel.depth;
    } while (k < in_features);
}

}  // namespace longspan::LONGSPAN_ISA
