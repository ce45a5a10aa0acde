#include <algorithm>
#include <new>

#include "core/error.h"
#include "core/isa.h"
#include "core/parallel.h"
#include "linear/linear.h"
#include "linear/packed.h"

#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace longspan {
namespace {

struct LinearVariant {
    Isa isa;
    PanelShape panel;
    LinearFn* run;
};

constexpr LinearVariant kVariants[] = {
#if LONGSPAN_X86
    {Isa::avx512, avx512::kPanel, avx512::linear},
    {Isa::avx2, avx2::kPanel, avx2::linear},
#endif
    {Isa::portable, portable::kPanel, portable::linear}};

constexpr int64_t divide_up(int64_t value, int64_t by) {
    return (value + by - 1) / by;
}

// Memory: a cache line's alignment, and for what is larger than a huge page (2 MB), huge pages where they are to be
// had.
constexpr size_t kLine = 64, kHugePage = size_t{2} << 20;

Floats allocate_floats(int64_t count) {
    const auto bytes = static_cast<size_t>(count) * sizeof(float);
    const size_t alignment = bytes >= kHugePage ? kHugePage : kLine;
    void* memory = ::operator new(bytes, std::align_val_t{alignment});
#if defined(__linux__)
    // Whole pages only: rounding up would make memory resident that holds nothing. A refusal costs speed alone.
    if (alignment == kHugePage) madvise(memory, bytes / kHugePage * kHugePage, MADV_HUGEPAGE);
#endif
    return {static_cast<float*>(memory), FreeFloats{alignment}};
}

int64_t checked_rows(const std::vector<LinearPart>& parts, Gate gate) {
    if (parts.empty()) reject("pack_linear: weights must hold at least one matrix, got none");
    const int64_t in_features = parts[0].weight.cols;
    int64_t rows = 0;
    for (size_t i = 0; i < parts.size(); ++i) {
        const auto& [weight, bias] = parts[i];
        if (weight.rows < 1 || weight.cols < 1 || weight.cols != in_features) {
            reject("pack_linear: weights[", i, "] must have at least one row and ", std::max<int64_t>(in_features, 1),
                   " columns, got (", weight.rows, ", ", weight.cols, ")");
        }
        if (bias && bias.size != weight.rows) {
            reject("pack_linear: biases[", i, "] must have ", weight.rows, " values, got ", bias.size);
        }
        rows += weight.rows;
    }
    if (gate != Gate::none && rows % 2 != 0) {
        reject("pack_linear: gated weights must have an even number of rows, got ", rows);
    }
    return rows;
}

// Whether two matrices may share a byte. Exact where their row strides are equal and hold both side by side.
bool overlaps(const MatrixView<const float>& a, const MatrixView<const float>& b) {
    if (a.data == nullptr || b.data == nullptr || a.empty() || b.empty()) return false;
    const auto first = [](const MatrixView<const float>& m) { return std::min(m.row(0), m.row(m.rows - 1)); };
    const auto last = [](const MatrixView<const float>& m) { return std::max(m.row(0), m.row(m.rows - 1)) + m.cols; };
    if (last(a) <= first(b) || last(b) <= first(a)) return false;
    const int64_t stride = a.row_stride;
    if (stride != b.row_stride || stride < std::max(a.cols, b.cols)) return true;
    const int64_t shift = ((b.data - a.data) % stride + stride) % stride;  // of b's columns against a's
    return shift < a.cols || shift + b.cols > stride;
}

void check(const MatrixView<const float>& x, const PackedView& weights, const MatrixView<const float>& residual,
           const MatrixView<float>& out) {
    if (x.cols != weights.in_features) {
        reject("linear: x must have ", weights.in_features, " columns (in_features), got ", x.cols);
    }
    const auto check_shape = [&](const char* name, int64_t rows, int64_t cols) {
        if (rows == x.rows && cols == weights.out_features) return;
        reject("linear: ", name, " must be (", x.rows, ", ", weights.out_features, "), got (", rows, ", ", cols, ")");
    };
    check_shape("out", out.rows, out.cols);
    if (residual.data != nullptr) check_shape("residual", residual.rows, residual.cols);
    const MatrixView<const float> written{out.data, out.rows, out.cols, out.row_stride};
    if (overlaps(x, written)) reject("linear: out must not share memory with x");
    const bool is_in_place = residual.data == out.data && residual.row_stride == out.row_stride;
    if (!is_in_place && overlaps(residual, written)) {
        reject("linear: out must be residual itself or share no memory with it");
    }
}

// How the work is cut: row_blocks x panel_blocks tasks.
struct Plan {
    int64_t row_blocks;
    int64_t panel_blocks;
};

Plan plan(int64_t rows, const PackedView& weights, int64_t rank, const PanelShape& shape) {
    // Blocks that fit in a core's L2 cache: the staged rows and, between K blocks, the sums.
    constexpr int64_t kRows = 168, kColumns = 512;
    // About 10 us of work; below 8 rows, reading the weights takes as long as multiplying by 8 rows.
    constexpr int64_t kWorkPerTask = 512 * 1024, kMemoryBoundRows = 8, kTasksPerThread = 2;
    const int64_t threads = num_threads();
    const int64_t row_blocks = divide_up(rows, kRows);
    const int64_t depth = weights.in_features + rank;
    const int64_t work = std::max(rows, kMemoryBoundRows) * depth * weights.num_panels * shape.columns;
    int64_t tasks = std::clamp<int64_t>(work / kWorkPerTask, 1, kTasksPerThread * threads);
    if (tasks > threads) tasks -= tasks % threads;
    const int64_t blocks_for_cache = divide_up(weights.num_panels * shape.columns, kColumns);
    const int64_t panel_blocks = std::max(blocks_for_cache, divide_up(tasks, row_blocks));
    return {row_blocks, std::min(panel_blocks, weights.num_panels)};
}

// A with the scaling in it, adapters stacked by rows.
PackedLinear packed_a(const HeadsView<const float>& lora_a, const HeadsView<const float>& lora_b,
                      const std::vector<float>& scaling, const PanelOrder& order) {
    const int64_t adapters = lora_a.rows, rank = lora_a.heads, in_features = lora_a.head_dim;
    if (adapters < 1 || rank < 1 || in_features < 1) {
        reject("pack_lora: lora_a must have at least one adapter, rank and input, got (", adapters, ", ", rank, ", ",
               in_features, ")");
    }
    if (lora_b.rows != adapters || lora_b.heads != order.rows || lora_b.head_dim != rank) {
        reject("pack_lora: lora_b must be (", adapters, ", ", order.rows, ", ", rank, "), got (", lora_b.rows, ", ",
               lora_b.heads, ", ", lora_b.head_dim, ")");
    }
    if (static_cast<int64_t>(scaling.size()) != adapters) {
        reject("pack_lora: scaling must have ", adapters, " values, got ", scaling.size());
    }
    std::vector<float> scaled(static_cast<size_t>(adapters * rank * in_features));
    for (int64_t t = 0; t < adapters; ++t) {
        for (int64_t j = 0; j < rank; ++j) {
            float* to = scaled.data() + (t * rank + j) * in_features;
            const float* from = lora_a.at(t, j);
            for (int64_t k = 0; k < in_features; ++k) to[k] = scaling[static_cast<size_t>(t)] * from[k];
        }
    }
    return {{{{scaled.data(), adapters * rank, in_features, in_features}, {}}}, Gate::none, order.isa};
}

}  // namespace

void FreeFloats::operator()(float* floats) const {
    ::operator delete(floats, std::align_val_t{alignment});
}

PanelOrder PanelOrder::of(Isa isa, Gate gate, int64_t rows) {
    const auto& variant = pick_variant(kVariants, isa);
    return {variant.isa, gate, rows, variant.panel.columns};
}

int64_t PanelOrder::num_panels() const {
    return gate == Gate::none ? divide_up(rows, columns) : divide_up(rows / 2, columns / 2);
}

int64_t PanelOrder::row_of(int64_t panel, int64_t column) const {
    const int64_t outputs = out_features();
    if (gate == Gate::none) {
        const int64_t row = panel * columns + column;
        return row < outputs ? row : -1;
    }
    const int64_t half = columns / 2;
    const bool is_gate_half = column < half;
    const int64_t output = panel * half + column % half;
    if (output >= outputs) return -1;
    return is_gate_half == (gate == Gate::first) ? output : outputs + output;
}

PackedLinear::PackedLinear(const std::vector<LinearPart>& parts, Gate gate, std::optional<Isa> isa)
    : order_(PanelOrder::of(isa.value_or(active_isa()), gate, checked_rows(parts, gate))) {
    const int64_t in_features = parts[0].weight.cols, columns = order_.columns;
    view_ = {nullptr, nullptr, order_.num_panels(), in_features, order_.out_features(), gate != Gate::none};
    const int64_t num_columns = view_.num_panels * columns;
    num_floats_ = num_columns * (in_features + 1);
    floats_ = allocate_floats(num_floats_);
    float* bias = floats_.get() + num_columns * in_features;
    view_.panels = floats_.get();
    view_.bias = bias;

    std::vector<const float*> sources(static_cast<size_t>(order_.rows));
    std::vector<float> biases(static_cast<size_t>(order_.rows), 0.0f);
    for (size_t row = 0; const auto& part : parts) {
        for (int64_t i = 0; i < part.weight.rows; ++i, ++row) {
            sources[row] = part.weight.row(i);
            if (part.bias) biases[row] = part.bias.data[i];
        }
    }
    parallel_for(view_.num_panels, [&](int64_t panel) {
        float* packed = floats_.get() + panel * columns * in_features;
        for (int64_t column = 0; column < columns; ++column) {
            const int64_t row = order_.row_of(panel, column);
            bias[panel * columns + column] = row < 0 ? 0.0f : biases[static_cast<size_t>(row)];
        }
        constexpr int64_t kRun = 16;  // values of a row at a time: a cache line read, and few enough lines written
        for (int64_t k = 0; k < in_features; k += kRun) {
            const int64_t end = std::min(in_features, k + kRun);
            for (int64_t column = 0; column < columns; ++column) {
                const int64_t row = order_.row_of(panel, column);
                const float* source = row < 0 ? nullptr : sources[static_cast<size_t>(row)];
                for (int64_t i = k; i < end; ++i) packed[i * columns + column] = source == nullptr ? 0.0f : source[i];
            }
        }
    });
}

void PackedLinear::unpack(const MatrixView<float>& weight, float* bias) const {
    const int64_t columns = order_.columns;
    for (int64_t panel = 0; panel < view_.num_panels; ++panel) {
        const float* packed = view_.panels + panel * columns * in_features();
        for (int64_t column = 0; column < columns; ++column) {
            const int64_t row = order_.row_of(panel, column);
            if (row < 0) continue;
            bias[row] = view_.bias[panel * columns + column];
            for (int64_t k = 0; k < in_features(); ++k) weight.row(row)[k] = packed[k * columns + column];
        }
    }
}

PackedLora::PackedLora(const HeadsView<const float>& lora_a, const HeadsView<const float>& lora_b,
                       const std::vector<float>& scaling, const PanelOrder& order)
    : order_(order),
      num_adapters_(lora_a.rows),
      rank_(lora_a.heads),
      a_(packed_a(lora_a, lora_b, scaling, order)),
      segments_(static_cast<size_t>(order.num_panels() * lora_a.rows)) {
    const int64_t columns = order.columns, num_panels = order.num_panels();
    const auto value = [&](int64_t panel, int64_t column, int64_t adapter, int64_t j) {
        const int64_t row = order_.row_of(panel, column);
        return row < 0 ? 0.0f : lora_b.at(adapter, row)[j];
    };
    const auto each_segment = [&](auto&& body) {
        parallel_for(num_panels, [&](int64_t panel) {
            for (int64_t t = 0; t < num_adapters_; ++t) {
                body(panel, t, segments_[static_cast<size_t>(panel * num_adapters_ + t)]);
            }
        });
    };
    each_segment([&](int64_t panel, int64_t t, LoraSegment& segment) {
        int64_t first = rank_, last = 0;
        for (int64_t column = 0; column < columns; ++column) {
            for (int64_t j = 0; j < rank_; ++j) {
                if (value(panel, column, t, j) == 0.0f) continue;
                first = std::min(first, j);
                last = std::max(last, j + 1);
            }
        }
        segment = {nullptr, last > first ? first : 0, std::max<int64_t>(last - first, 0)};
    });
    for (const auto& segment : segments_) num_floats_ += segment.depth * columns;
    floats_ = allocate_floats(std::max<int64_t>(num_floats_, 1));
    float* next = floats_.get();
    for (auto& segment : segments_) {
        segment.panel = next;
        next += segment.depth * columns;
    }
    each_segment([&](int64_t panel, int64_t t, const LoraSegment& segment) {
        float* packed = floats_.get() + (segment.panel - floats_.get());
        for (int64_t j = 0; j < segment.depth; ++j) {
            for (int64_t column = 0; column < columns; ++column) {
                packed[j * columns + column] = value(panel, column, t, segment.first + j);
            }
        }
    });
}

void PackedLora::unpack(const HeadsView<float>& lora_a, const HeadsView<float>& lora_b) const {
    std::vector<float> no_bias(static_cast<size_t>(a_.rows()));
    a_.unpack({lora_a.data, a_.rows(), in_features(), in_features()}, no_bias.data());
    for (int64_t t = 0; t < num_adapters_; ++t) {
        for (int64_t row = 0; row < order_.rows; ++row) std::fill_n(lora_b.at(t, row), rank_, 0.0f);
        for (int64_t panel = 0; panel < order_.num_panels(); ++panel) {
            const LoraSegment& segment = segments_[static_cast<size_t>(panel * num_adapters_ + t)];
            for (int64_t column = 0; column < order_.columns; ++column) {
                const int64_t row = order_.row_of(panel, column);
                if (row < 0) continue;
                float* values = lora_b.at(t, row) + segment.first;
                for (int64_t j = 0; j < segment.depth; ++j) values[j] = segment.panel[j * order_.columns + column];
            }
        }
    }
}

namespace {

// Pieces of work for the shrinking product: runs of rows whose adapters' columns lie in the same panels of A.
std::vector<LinearBlock> shrink_blocks(const PackedLora& lora, const VectorView<const int32_t>& ids) {
    constexpr int64_t kFewestRows = 32, kMostRows = 168;  // worth a task; that stay in the cache (see plan)
    const int64_t most_rows = std::clamp(divide_up(ids.size, num_threads()), kFewestRows, kMostRows);
    const int64_t columns = lora.a().order().columns;
    std::vector<LinearBlock> blocks;
    for (int64_t row = 0; row < ids.size; ++row) {
        const int64_t id = ids.data[row];
        if (id < 0) continue;
        const int64_t first = id * lora.rank() / columns, last = divide_up((id + 1) * lora.rank(), columns);
        if (!blocks.empty()) {
            LinearBlock& block = blocks.back();
            const bool joins = block.last_row == row && block.first_panel == first && block.last_panel == last;
            if (joins && row - block.first_row < most_rows) {
                ++block.last_row;
                continue;
            }
        }
        blocks.push_back({row, row + 1, first, last});
    }
    return blocks;
}

// shrunk[r] = A x[r], in the columns of the row's own adapter; others are left as they are, or hold what nobody reads.
void shrink(const MatrixView<const float>& x, const RowAdapters& adapters, const MatrixView<float>& shrunk) {
    const PackedLora& lora = *adapters.lora;
    const auto& variant = pick_variant(kVariants, lora.order().isa);
    const LinearArgs args{x, lora.a().view(), Activation::none, {}, shrunk, {}};
    const auto blocks = shrink_blocks(lora, adapters.ids);
    parallel_for(static_cast<int64_t>(blocks.size()),
                 [&](int64_t task) { variant.run(args, blocks[static_cast<size_t>(task)]); });
}

void check_adapters(const char* op, const RowAdapters& adapters, int64_t rows, int64_t in_features) {
    const PackedLora& lora = *adapters.lora;
    if (lora.in_features() != in_features) {
        reject(op, ": lora must be for ", in_features, " inputs, got one for ", lora.in_features());
    }
    if (adapters.ids.size != rows) reject(op, ": lora_ids must be (", rows, ",), got (", adapters.ids.size, ",)");
    for (int64_t row = 0; row < rows; ++row) {
        const int32_t id = adapters.ids.data[row];
        if (id < -1 || id >= lora.num_adapters()) {
            reject(op, ": lora_ids[", row, "] is ", id, " but ", lora.num_adapters(),
                   " adapters are loaded; use -1 for the base model");
        }
    }
}

void run_linear(LinearArgs args, Isa isa, const RowAdapters& adapters, const MatrixView<const float>& x) {
    const PackedView& weights = args.weights;
    std::unique_ptr<float[]> shrunk;
    if (adapters.lora != nullptr) {
        const PackedLora& lora = *adapters.lora;
        const int64_t width = lora.num_adapters() * lora.rank();
        shrunk = std::make_unique_for_overwrite<float[]>(static_cast<size_t>(x.rows * width));
        const MatrixView<float> view{shrunk.get(), x.rows, width, width};
        shrink(x, adapters, view);
        args.lora = {lora.segments(),
                     lora.num_adapters(),
                     lora.rank(),
                     adapters.ids.data,
                     {view.data, view.rows, view.cols, view.row_stride}};
    }
    const auto& variant = pick_variant(kVariants, isa);
    const Plan cut = plan(x.rows, weights, args.lora.rank, variant.panel);
    // Blocks of panels in the outer loop: threads that work at the same time read the same weights.
    parallel_for(cut.row_blocks * cut.panel_blocks, [&](int64_t task) {
        const int64_t rows = task % cut.row_blocks, panels = task / cut.row_blocks;
        const auto row = [&](int64_t at) { return x.rows * at / cut.row_blocks; };
        const auto panel = [&](int64_t at) { return weights.num_panels * at / cut.panel_blocks; };
        variant.run(args, {row(rows), row(rows + 1), panel(panels), panel(panels + 1)});
    });
}

}  // namespace

void linear(const MatrixView<const float>& x, const PackedLinear& packed, Activation activation,
            const MatrixView<const float>& residual, const RowAdapters& adapters, const MatrixView<float>& out) {
    check(x, packed.view(), residual, out);
    if (adapters.lora != nullptr) {
        check_adapters("linear", adapters, x.rows, x.cols);
        if (!(adapters.lora->order() == packed.order())) {
            reject("linear: lora was packed for another layer than weight: pack it with base=weight");
        }
    }
    if (x.rows == 0) return;
    run_linear({x, packed.view(), activation, residual, out, {}}, packed.isa(), adapters, x);
}

void multi_lora(const MatrixView<const float>& x, const RowAdapters& adapters, const MatrixView<float>& out) {
    const PanelOrder& order = adapters.lora->order();
    check_adapters("multi_lora", adapters, x.rows, x.cols);
    if (out.rows != x.rows || out.cols != order.rows) {
        reject("multi_lora: out must be (", x.rows, ", ", order.rows, "), got (", out.rows, ", ", out.cols, ")");
    }
    if (overlaps(x, {out.data, out.rows, out.cols, out.row_stride})) {
        reject("multi_lora: out must not share memory with x");
    }
    if (x.rows == 0) return;
    // A layer without inputs, whose own sums are zeros.
    const std::vector<float> bias(static_cast<size_t>(order.num_panels() * order.columns), 0.0f);
    const PackedView nothing{nullptr, bias.data(), order.num_panels(), 0, order.rows, false};
    run_linear({{x.data, x.rows, 0, x.row_stride}, nothing, Activation::none, {}, out, {}}, order.isa, adapters, x);
}

}  // namespace longspan
