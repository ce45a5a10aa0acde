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

float* allocate_floats(size_t bytes, size_t alignment) {
    void* memory = ::operator new(bytes, std::align_val_t{alignment});
#if defined(__linux__)
    // Whole pages only: rounding up would make memory resident that holds nothing. A refusal costs speed alone.
    if (alignment == kHugePage) madvise(memory, bytes / kHugePage * kHugePage, MADV_HUGEPAGE);
#endif
    return static_cast<float*>(memory);
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

Plan plan(int64_t rows, const PackedView& weights, const PanelShape& shape) {
    // Blocks that fit in a core's L2 cache: the staged rows and, between K blocks, the sums.
    constexpr int64_t kRows = 168, kColumns = 512;
    // About 10 us of work; below 8 rows, reading the weights takes as long as multiplying by 8 rows.
    constexpr int64_t kWorkPerTask = 512 * 1024, kMemoryBoundRows = 8, kTasksPerThread = 2;
    const int64_t threads = num_threads();
    const int64_t row_blocks = divide_up(rows, kRows);
    const int64_t work = std::max(rows, kMemoryBoundRows) * weights.in_features * weights.num_panels * shape.columns;
    int64_t tasks = std::clamp<int64_t>(work / kWorkPerTask, 1, kTasksPerThread * threads);
    if (tasks > threads) tasks -= tasks % threads;
    const int64_t blocks_for_cache = divide_up(weights.num_panels * shape.columns, kColumns);
    const int64_t panel_blocks = std::max(blocks_for_cache, divide_up(tasks, row_blocks));
    return {row_blocks, std::min(panel_blocks, weights.num_panels)};
}

}  // namespace

void PackedLinear::FreeFloats::operator()(float* floats) const {
    ::operator delete(floats, std::align_val_t{alignment});
}

PackedLinear::PackedLinear(const std::vector<LinearPart>& parts, Gate gate)
    : isa_(active_isa()), gate_(gate), columns_(pick_variant(kVariants, isa_).panel.columns) {
    const int64_t total_rows = checked_rows(parts, gate);
    const int64_t in_features = parts[0].weight.cols;
    const bool is_gated = gate != Gate::none;
    const int64_t num_panels = divide_up(total_rows, columns_);
    view_ = {nullptr, nullptr, num_panels, in_features, is_gated ? total_rows / 2 : total_rows, is_gated};
    if (is_gated) view_.num_panels = divide_up(view_.out_features, columns_ / 2);
    const int64_t num_columns = view_.num_panels * columns_;
    num_floats_ = num_columns * (in_features + 1);
    const auto bytes = static_cast<size_t>(nbytes());
    const size_t alignment = bytes >= kHugePage ? kHugePage : kLine;
    floats_ = {allocate_floats(bytes, alignment), FreeFloats{alignment}};
    float* bias = floats_.get() + num_columns * in_features;
    view_.panels = floats_.get();
    view_.bias = bias;

    std::vector<const float*> sources(static_cast<size_t>(total_rows));
    std::vector<float> biases(static_cast<size_t>(total_rows), 0.0f);
    for (size_t row = 0; const auto& part : parts) {
        for (int64_t i = 0; i < part.weight.rows; ++i, ++row) {
            sources[row] = part.weight.row(i);
            if (part.bias) biases[row] = part.bias.data[i];
        }
    }
    parallel_for(view_.num_panels, [&](int64_t panel) {
        float* packed = floats_.get() + panel * columns_ * in_features;
        for (int64_t column = 0; column < columns_; ++column) {
            const int64_t row = row_of(panel, column);
            bias[panel * columns_ + column] = row < 0 ? 0.0f : biases[static_cast<size_t>(row)];
        }
        constexpr int64_t kRun = 16;  // values of a row at a time: a cache line read, and few enough lines written
        for (int64_t k = 0; k < in_features; k += kRun) {
            const int64_t end = std::min(in_features, k + kRun);
            for (int64_t column = 0; column < columns_; ++column) {
                const int64_t row = row_of(panel, column);
                const float* source = row < 0 ? nullptr : sources[static_cast<size_t>(row)];
                for (int64_t i = k; i < end; ++i) packed[i * columns_ + column] = source == nullptr ? 0.0f : source[i];
            }
        }
    });
}

int64_t PackedLinear::row_of(int64_t panel, int64_t column) const {
    const int64_t outputs = out_features();
    if (gate_ == Gate::none) {
        const int64_t row = panel * columns_ + column;
        return row < outputs ? row : -1;
    }
    const int64_t half = columns_ / 2;
    const bool is_gate_half = column < half;
    const int64_t output = panel * half + column % half;
    if (output >= outputs) return -1;
    return is_gate_half == (gate_ == Gate::first) ? output : outputs + output;
}

void PackedLinear::unpack(const MatrixView<float>& weight, float* bias) const {
    for (int64_t panel = 0; panel < view_.num_panels; ++panel) {
        const float* packed = view_.panels + panel * columns_ * in_features();
        for (int64_t column = 0; column < columns_; ++column) {
            const int64_t row = row_of(panel, column);
            if (row < 0) continue;
            bias[row] = view_.bias[panel * columns_ + column];
            for (int64_t k = 0; k < in_features(); ++k) weight.row(row)[k] = packed[k * columns_ + column];
        }
    }
}

void linear(const MatrixView<const float>& x, const PackedLinear& packed, Activation activation,
            const MatrixView<const float>& residual, const MatrixView<float>& out) {
    const PackedView& weights = packed.view();
    check(x, weights, residual, out);
    if (x.rows == 0) return;
    const auto& variant = pick_variant(kVariants, packed.isa());
    const LinearArgs args{x, weights, activation, residual, out};
    const Plan cut = plan(x.rows, weights, variant.panel);
    // Blocks of panels in the outer loop: threads that work at the same time read the same weights.
    parallel_for(cut.row_blocks * cut.panel_blocks, [&](int64_t task) {
        const int64_t rows = task % cut.row_blocks, panels = task / cut.row_blocks;
        const auto row = [&](int64_t at) { return x.rows * at / cut.row_blocks; };
        const auto panel = [&](int64_t at) { return weights.num_panels * at / cut.panel_blocks; };
        variant.run(args, {row(rows), row(rows + 1), panel(panels), panel(panels + 1)});
    });
}

}  // namespace longspan
