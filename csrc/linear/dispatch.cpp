#include <algorithm>
#include <new>

#include "core/error.h"
#include "core/isa.h"
#include "core/parallel.h"
#include "linear/linear.h"
#include "linear/packed.h"
#include "linear/variants.h"

namespace longspan {
namespace {

constexpr int64_t divide_up(int64_t value, int64_t by) {
    return (value + by - 1) / by;
}

// What a call's tasks share: grows and is kept by the thread that calls. thread_scratch() is each task's own.
class CallScratch {
public:
    std::byte* reserve(int64_t bytes) {
        if (bytes > capacity_) {
            bytes_ = allocate_words(divide_up(bytes, sizeof(Word)));
            capacity_ = bytes;
        }
        return reinterpret_cast<std::byte*>(bytes_.get());
    }

private:
    Words bytes_{nullptr, FreeWords{64}};
    int64_t capacity_ = 0;
};
thread_local CallScratch call_scratch;

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

Plan plan(int64_t rows, const PackedView& weights, int64_t lora_words, const PanelShape& shape) {
    // Blocks that fit in a core's L2 cache: the staged rows and, between K blocks, the sums.
    constexpr int64_t kRows = 168, kColumns = 512;
    // About 10 us of work; below 8 rows, reading the weights takes as long as multiplying by 8 rows.
    constexpr int64_t kWorkPerTask = 512 * 1024, kMemoryBoundRows = 8, kTasksPerThread = 2;
    const int64_t threads = num_threads();
    const int64_t row_blocks = divide_up(rows, kRows);
    const int64_t depth = weights.num_words + lora_words;
    const int64_t work = std::max(rows, kMemoryBoundRows) * depth * weights.num_panels * shape.columns;
    int64_t tasks = std::clamp<int64_t>(work / kWorkPerTask, 1, kTasksPerThread * threads);
    if (tasks > threads) tasks -= tasks % threads;
    const int64_t blocks_for_cache = divide_up(weights.num_panels * shape.columns, kColumns);
    const int64_t panel_blocks = std::max(blocks_for_cache, divide_up(tasks, row_blocks));
    return {row_blocks, std::min(panel_blocks, weights.num_panels)};
}

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
    const auto& variant = variant_for(lora.dtype(), lora.order().isa);
    const LinearArgs args{x, {}, lora.a().view(), Activation::none, {}, shrunk, {}};
    const auto blocks = shrink_blocks(lora, adapters.ids);
    parallel_for(static_cast<int64_t>(blocks.size()),
                 [&](int64_t task) { variant.run(args, blocks[static_cast<size_t>(task)]); });
}

// Every row of x to whole numbers.
void quantize(const LinearArgs& args, Isa isa) {
    constexpr int64_t kValuesPerTask = 64 * 1024;  // about 10 us
    const auto run = pick_variant(kQuantizeVariants, isa).run;
    const int64_t rows = args.x.rows;
    const int64_t tasks = std::clamp<int64_t>(rows * args.x.cols / kValuesPerTask, 1, rows);
    parallel_for(tasks, [&](int64_t task) { run(args, rows * task / tasks, rows * (task + 1) / tasks); });
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

// What goes before the product: rows of x quantised, rows of x shrunk by their adapters.
void prepare(LinearArgs& args, Dtype dtype, Isa isa, const RowAdapters& adapters, const MatrixView<const float>& x) {
    constexpr int64_t kLine = 64;
    const bool is_i8 = dtype == Dtype::i8, has_lora = adapters.lora != nullptr;
    const int64_t width = has_lora ? adapters.lora->num_adapters() * adapters.lora->rank() : 0;
    const int64_t row_bytes = is_i8 ? divide_up(x.cols, kLine) * kLine : 0;
    const int64_t column_bytes = is_i8 ? divide_up(x.rows * int64_t{sizeof(float)}, kLine) * kLine : 0;
    const int64_t shrunk_bytes = x.rows * width * int64_t{sizeof(float)};
    if (!is_i8 && !has_lora) return;
    std::byte* memory = call_scratch.reserve(x.rows * row_bytes + 2 * column_bytes + shrunk_bytes);
    if (is_i8) {
        args.quantized = {reinterpret_cast<uint8_t*>(memory), reinterpret_cast<float*>(memory + x.rows * row_bytes),
                          reinterpret_cast<int32_t*>(memory + x.rows * row_bytes + column_bytes), row_bytes};
        quantize(args, isa);
    }
    if (has_lora) {
        auto* shrunk = reinterpret_cast<float*>(memory + x.rows * row_bytes + 2 * column_bytes);
        shrink(x, adapters, {shrunk, x.rows, width, width});
        const PackedLora& lora = *adapters.lora;
        args.lora = {
            lora.segments(), lora.num_adapters(), lora.rank(), adapters.ids.data, {shrunk, x.rows, width, width}};
    }
}

void run_linear(LinearArgs args, Dtype dtype, Isa isa, const RowAdapters& adapters, const MatrixView<const float>& x) {
    const PackedView& weights = args.weights;
    prepare(args, dtype, isa, adapters, x);
    const LinearVariant& variant = variant_for(dtype, isa);
    const int64_t lora_words = adapters.lora == nullptr ? 0 : words_for(adapters.lora->dtype(), args.lora.rank);
    const Plan cut = plan(x.rows, weights, lora_words, variant.panel);
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
    run_linear({x, {}, packed.view(), activation, residual, out, {}}, packed.dtype(), packed.isa(), adapters, x);
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
    PackedView nothing;
    nothing.bias = bias.data();
    nothing.num_panels = order.num_panels();
    nothing.out_features = order.rows;
    const MatrixView<const float> no_inputs{x.data, x.rows, 0, x.row_stride};
    run_linear({no_inputs, {}, nothing, Activation::none, {}, out, {}}, order.dtype, order.isa, adapters, x);
}

}  // namespace longspan
