#include <algorithm>
#include <limits>
#include <new>
#include <vector>

#include "core/error.h"
#include "core/isa.h"
#include "core/parallel.h"
#include "linear/linear.h"
#include "linear/packed.h"
#include "linear/variants.h"

namespace longspan {
namespace {

constexpr int64_t kBlockRows = 168;  // of a task: what a core's L2 cache has room for
// Staged rows and weights, of a task, that a core's L2 cache keeps; of more, rows are asked for before each K block.
constexpr int64_t kWordsKept = 256 * 1024;

constexpr int64_t divide_up(int64_t value, int64_t by) {
    return (value + by - 1) / by;
}

// What a call's tasks share: grows and is kept by the thread that calls. thread_scratch() is each task's own.
class CallScratch {
public:
    Word* reserve(int64_t count) {
        if (count > capacity_) {
            capacity_ = 0;
            words_.reset();  // before there are two of them
            words_ = allocate_words(count);
            capacity_ = count;
        }
        return words_.get();
    }

private:
    Words words_{nullptr, FreeWords{0}};
    int64_t capacity_ = 0;
};
thread_local CallScratch call_scratch;
thread_local Scratch mlp_scratch;  // between the products of an MLP that are not staged for each other

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

void check_outputs(const char* op, const MatrixView<const float>& x, int64_t columns,
                   const MatrixView<const float>& residual, const MatrixView<float>& out) {
    const auto check_shape = [&](const char* name, int64_t rows, int64_t cols) {
        if (rows == x.rows && cols == columns) return;
        reject(op, ": ", name, " must be (", x.rows, ", ", columns, "), got (", rows, ", ", cols, ")");
    };
    check_shape("out", out.rows, out.cols);
    if (residual.data != nullptr) check_shape("residual", residual.rows, residual.cols);
    const MatrixView<const float> written{out.data, out.rows, out.cols, out.row_stride};
    if (overlaps(x, written)) reject(op, ": out must not share memory with x");
    const bool is_in_place = residual.data == out.data && residual.row_stride == out.row_stride;
    if (!is_in_place && overlaps(residual, written)) {
        reject(op, ": out must be residual itself or share no memory with it");
    }
}

// Rows whose staged form and shrunk values are in memory at once: enough for every thread's blocks (plan), few enough
// to stay in the L3 cache between staging and multiplying.
int64_t rows_at_once() {
    return kBlockRows * std::max(8, num_threads());
}

// How the work is cut: row_blocks x panel_blocks tasks. Blocks of rows are alike where they have as many strips each;
// else they end with a whole strip, but for the last one.
struct Plan {
    int64_t strips, tile_rows;
    int64_t row_blocks;
    int64_t panel_blocks;

    int64_t row(int64_t block, int64_t rows) const {
        if (strips % row_blocks == 0) return rows * block / row_blocks;
        return std::min(rows, strips * block / row_blocks * tile_rows);
    }
};

Plan plan(int64_t rows, const PackedView& weights, int64_t lora_words, const PanelShape& shape) {
    // Columns whose sums, between K blocks, stay in a core's L2 cache beside the staged rows and the weights that pass
    // through; twice as many for few rows.
    const int64_t columns_at_once = rows > kBlockRows / 2 ? 256 : 512;
    // About 10 us of work; below 8 rows, reading the weights takes as long as multiplying by 8 rows.
    constexpr int64_t kWorkPerTask = 512 * 1024, kMemoryBoundRows = 8, kTasksPerThread = 2;
    const int64_t threads = num_threads();
    const int64_t strips = divide_up(rows, shape.tile_rows);
    int64_t row_blocks = divide_up(rows, kBlockRows);
    const int64_t depth = weights.num_words + lora_words;
    const int64_t work = std::max(rows, kMemoryBoundRows) * depth * weights.num_panels * shape.columns;
    int64_t tasks = std::clamp<int64_t>(work / kWorkPerTask, 1, kTasksPerThread * threads);
    if (tasks > threads) tasks -= tasks % threads;
    const int64_t blocks_for_cache = divide_up(weights.num_panels * shape.columns, columns_at_once);
    const int64_t panel_blocks = std::min(std::max(blocks_for_cache, divide_up(tasks, row_blocks)), weights.num_panels);
    // As many tasks for each thread.
    if (row_blocks > 1 && row_blocks * panel_blocks % threads != 0) {
        row_blocks = std::min(strips, divide_up(row_blocks, threads) * threads);
    }
    return {strips, shape.tile_rows, row_blocks, panel_blocks};
}

// shrunk[r] = A x[r] for rows [first_row, last_row), in the columns of the row's own adapter; others are left as they
// are, or hold what nobody reads. Runs of rows whose adapters' columns lie in the same panels of A go together.
void shrink(const LinearArgs& args, const PackedLora& lora, const LinearVariant& variant, int64_t first_row,
            int64_t last_row) {
    const int64_t columns = lora.a().order().panel.columns;
    LinearArgs to_shrunk{args.x, args.staged, lora.a().view(), Activation::none, {}, {}, {}, {}, {}, {}};
    const auto& shrunk = args.lora.shrunk;
    to_shrunk.out = {const_cast<float*>(shrunk.data), shrunk.rows, shrunk.cols, shrunk.row_stride};
    const auto panels_of = [&](int64_t row) {
        const int64_t id = args.lora.ids[row];
        if (id < 0) return std::pair<int64_t, int64_t>{0, 0};
        return std::pair{id * lora.rank() / columns, divide_up((id + 1) * lora.rank(), columns)};
    };
    for (int64_t row = first_row, end; row < last_row; row = end) {
        const auto panels = panels_of(row);
        for (end = row + 1; end < last_row && panels_of(end) == panels;) ++end;
        if (panels.first < panels.second) variant.run(to_shrunk, {row, end, panels.first, panels.second});
    }
}

// Rows of x staged (unless another product has done that) and shrunk by their adapters, in parallel where it pays.
void prepare(const LinearArgs& args, const PackedLora* lora, const LinearVariant& variant, bool is_staged) {
    if (is_staged && lora == nullptr) return;
    const int64_t values_per_task = (lora == nullptr ? 64 : 16) * 1024;  // about 10 us
    const int64_t rows = args.x.rows;
    const int64_t most_tasks = std::max<int64_t>(1, rows * args.x.cols / values_per_task);
    const int64_t least_rows =
        std::clamp<int64_t>(divide_up(rows, 4 * num_threads()), variant.panel.tile_rows, kBlockRows);
    const int64_t tasks = std::min(most_tasks, divide_up(rows, least_rows));
    parallel_for(tasks, [&](int64_t task) {
        const int64_t first = rows * task / tasks, last = rows * (task + 1) / tasks;
        if (!is_staged) variant.stage(args, first, last);
        if (lora != nullptr) shrink(args, *lora, variant, first, last);
    });
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

// The rows of `args` from `first` on, `rows` of them.
LinearArgs rows_of(const LinearArgs& args, int64_t first, int64_t rows) {
    LinearArgs some = args;
    const auto cut = [&](auto& matrix) {
        if (matrix.data != nullptr) matrix.data = matrix.row(first);
        matrix.rows = rows;
    };
    cut(some.x);
    cut(some.residual);
    cut(some.out);
    cut(some.rounded);
    if (some.lora.ids != nullptr) some.lora.ids += first;
    if (some.pooled.sequences != nullptr) some.pooled.sequences += first;
    return some;
}

// A part of a call: its weights' kernel, and the adapters that its rows may have.
struct Layer {
    Dtype dtype;
    const LinearVariant& variant;
    const PackedLora* lora;

    Layer(Dtype dtype, Isa isa, const PackedLora* lora) : dtype(dtype), variant(variant_for(dtype, isa)), lora(lora) {}
};

// What the tasks of a call read besides its inputs, for so many rows: words before `used` are taken. With null memory
// it is only counted. Returns the end.
int64_t reserve(Word* memory, int64_t used, int64_t rows, const Layer& layer, LinearArgs& args) {
    constexpr int64_t kLine = 64 / sizeof(Word);
    const int64_t blocks = divide_up(words_for(layer.dtype, args.x.cols), layer.variant.panel.depth());
    const auto take = [&](int64_t count) {
        Word* taken = memory == nullptr ? nullptr : memory + used;
        used += divide_up(count, kLine) * kLine;
        return taken;
    };
    const int64_t behind = layer.variant.panel.step == PanelShape::kTileStep ? kRowsBehind : 0;
    Word* words = take((rows * blocks + behind) * PanelShape::kStride);
    Word* scales = take(rows);
    args.staged = {words, rows, reinterpret_cast<float*>(scales), reinterpret_cast<int32_t*>(take(rows))};
    if (layer.lora == nullptr) return used;
    const int64_t width = layer.lora->num_adapters() * layer.lora->rank();
    args.lora.segments = layer.lora->segments();
    args.lora.num_adapters = layer.lora->num_adapters();
    args.lora.rank = layer.lora->rank();
    args.lora.shrunk = {reinterpret_cast<float*>(take(rows * width)), rows, width, width};
    return used;
}

// All tasks of a product whose rows are prepared.
void multiply(const LinearArgs& args, const Layer& layer) {
    const int64_t rows = args.x.rows, num_panels = args.weights.num_panels;
    const int64_t lora_words = layer.lora == nullptr ? 0 : words_for(layer.lora->expand_dtype(), layer.lora->rank());
    const Plan cut = plan(rows, args.weights, lora_words, layer.variant.panel);
    const int64_t tasks = cut.row_blocks * cut.panel_blocks, threads = parallel_threads();
    const PanelShape& shape = layer.variant.panel;
    const int64_t row_words = divide_up(rows, cut.row_blocks) * shape.parts;  // a task's, for each word of a column
    const int64_t panel_words = divide_up(num_panels, cut.panel_blocks) * shape.columns;
    const bool asks_rows = (row_words + panel_words) * args.weights.num_words > kWordsKept;
    // Blocks of panels in the outer loop: threads that work at the same time read the same weights.
    parallel_for(tasks, [&](int64_t task) {
        const auto first_row = [&](int64_t task) { return cut.row(task % cut.row_blocks, rows); };
        const auto first_panel = [&](int64_t task) { return num_panels * (task / cut.row_blocks) / cut.panel_blocks; };
        const int64_t next = std::min(task + threads, tasks - 1);
        layer.variant.run(args,
                          {first_row(task), cut.row(task % cut.row_blocks + 1, rows), first_panel(task),
                           first_panel(task + cut.row_blocks), asks_rows ? first_row(next) : -1, first_panel(next)});
    });
}

// Calls body(first row, rows) for turns of at most rows_at_once() rows.
template <class Body>
void each_turn(int64_t rows, Body&& body) {
    const int64_t turns = divide_up(rows, rows_at_once());
    for (int64_t turn = 0; turn < turns; ++turn) {
        const int64_t first = rows * turn / turns;
        body(first, rows * (turn + 1) / turns - first);
    }
}

void run_linear(LinearArgs args, const Layer& layer) {
    const int64_t most_rows = divide_up(args.x.rows, divide_up(args.x.rows, rows_at_once()));
    Word* memory = call_scratch.reserve(reserve(nullptr, 0, most_rows, layer, args));
    reserve(memory, 0, most_rows, layer, args);
    each_turn(args.x.rows, [&](int64_t first, int64_t rows) {
        const LinearArgs some = rows_of(args, first, rows);
        prepare(some, layer.lora, layer.variant, false);
        multiply(some, layer);
    });
}

// Two products, the first one's outputs staged for the second.
void run_mlp(LinearArgs up, const Layer& up_layer, LinearArgs down, const Layer& down_layer) {
    const int64_t most_rows = divide_up(up.x.rows, divide_up(up.x.rows, rows_at_once()));
    const int64_t half = reserve(nullptr, 0, most_rows, up_layer, up);
    Word* memory = call_scratch.reserve(reserve(nullptr, half, most_rows, down_layer, down));
    reserve(memory, 0, most_rows, up_layer, up);
    reserve(memory, half, most_rows, down_layer, down);
    up.next = down.staged;
    each_turn(up.x.rows, [&](int64_t first, int64_t rows) {
        const LinearArgs some = rows_of(up, first, rows), rest = rows_of(down, first, rows);
        prepare(some, up_layer.lora, up_layer.variant, false);
        multiply(some, up_layer);
        prepare(rest, down_layer.lora, down_layer.variant, true);
        multiply(rest, down_layer);
    });
}

// A product whose outputs are pooled. A task has some columns of all rows: no two write one value, and a sequence's
// rows come in order.
void run_pooled(LinearArgs args, const Layer& layer) {
    constexpr int64_t kColumns = 256;  // of a task: their weights stay in a core's L2 cache from block to block of rows
    const int64_t total = args.x.rows, num_panels = args.weights.num_panels, columns = layer.variant.panel.columns;
    const int64_t most_rows = divide_up(total, divide_up(total, rows_at_once()));
    Word* memory = call_scratch.reserve(reserve(nullptr, 0, most_rows, layer, args));
    reserve(memory, 0, most_rows, layer, args);
    const PooledRows pooled = args.pooled;
    const auto each_row = [&](int64_t first_panel, int64_t last_panel, auto&& body) {
        const int64_t first = first_panel * columns, last = std::min(last_panel * columns, pooled.out.cols);
        for (int64_t row = 0; row < pooled.out.rows; ++row) body(pooled.out.row(row) + first, last - first);
    };
    const int64_t tasks = std::min(num_panels, divide_up(num_panels * columns, kColumns));
    each_turn(total, [&](int64_t first, int64_t rows) {
        const LinearArgs some = rows_of(args, first, rows);
        prepare(some, nullptr, layer.variant, false);
        const int64_t blocks = divide_up(rows, kBlockRows);
        parallel_for(tasks, [&](int64_t task) {
            const int64_t first_panel = num_panels * task / tasks, last_panel = num_panels * (task + 1) / tasks;
            if (first == 0) {
                const float start = pooled.is_sum ? 0.0f : -std::numeric_limits<float>::infinity();
                each_row(first_panel, last_panel, [&](float* at, int64_t count) { std::fill_n(at, count, start); });
            }
            for (int64_t block = 0; block < blocks; ++block) {
                layer.variant.run(some, {rows * block / blocks, rows * (block + 1) / blocks, first_panel, last_panel});
            }
            if (first + rows == total && !pooled.is_sum) {
                each_row(first_panel, last_panel,
                         [&](float* at, int64_t count) { layer.variant.saturate(at, count, pooled.saturation); });
            }
        });
    });
}

// The sequence of each row.
std::vector<int32_t> sequences_of(const VectorView<const int32_t>& cu_seqlens, int64_t rows) {
    const int64_t size = cu_seqlens.size;
    if (size < 1 || cu_seqlens.data[0] != 0 || cu_seqlens.data[size - 1] != rows) {
        reject("pool_logits: cu_seqlens must go from 0 to ", rows);
    }
    for (int64_t i = 1; i < size; ++i) {
        if (cu_seqlens.data[i] < cu_seqlens.data[i - 1])
            reject("pool_logits: cu_seqlens must not fall, it does at ", i);
    }
    std::vector<int32_t> sequences(static_cast<size_t>(rows));
    for (int64_t i = 1; i < size; ++i) {
        std::fill(sequences.begin() + cu_seqlens.data[i - 1], sequences.begin() + cu_seqlens.data[i],
                  static_cast<int32_t>(i - 1));
    }
    return sequences;
}

// Shapes, adapters and memory of one product; `op` is who asks.
void check_product(const char* op, const MatrixView<const float>& x, const PackedLinear& packed,
                   const RowAdapters& adapters) {
    if (x.cols != packed.in_features()) {
        reject(op, ": x must have ", packed.in_features(), " columns (in_features), got ", x.cols);
    }
    if (adapters.lora == nullptr) return;
    check_adapters(op, adapters, x.rows, x.cols);
    if (!(adapters.lora->order() == packed.order())) {
        reject(op, ": lora was packed for another layer than weight: pack it with base=weight");
    }
}

}  // namespace

void linear(const MatrixView<const float>& x, const PackedLinear& packed, Activation activation,
            const MatrixView<const float>& residual, const RowAdapters& adapters, const MatrixView<float>& out) {
    check_product("linear", x, packed, adapters);
    check_outputs("linear", x, packed.out_features(), residual, out);
    if (x.rows == 0) return;
    LinearArgs args{x, {}, packed.view(), activation, residual, out, {}, {}, {}, {}};
    args.lora.ids = adapters.ids.data;
    run_linear(args, {packed.dtype(), packed.isa(), adapters.lora});
}

void linear(const MatrixView<const float>& x, const PackedLinear& packed, const RowAdapters& adapters,
            const MatrixView<uint16_t>& out) {
    check_product("linear", x, packed, adapters);
    if (out.rows != x.rows || out.cols != packed.out_features()) {
        reject("linear: out must be (", x.rows, ", ", packed.out_features(), "), got (", out.rows, ", ", out.cols, ")");
    }
    if (x.rows == 0) return;
    LinearArgs args{x, {}, packed.view(), Activation::none, {}, {}, {}, {}, out, {}};
    args.lora.ids = adapters.ids.data;
    run_linear(args, {packed.dtype(), packed.isa(), adapters.lora});
}

void mlp(const MatrixView<const float>& x, const Mlp& weights, const VectorView<const int32_t>& lora_ids,
         const MatrixView<const float>& residual, const MatrixView<float>& out) {
    const PackedLinear &up = *weights.up, &down = *weights.down;
    const RowAdapters up_adapters = lora_ids ? RowAdapters{weights.up_lora, lora_ids} : RowAdapters{};
    const RowAdapters down_adapters = lora_ids ? RowAdapters{weights.down_lora, lora_ids} : RowAdapters{};
    if (up.dtype() != down.dtype() || up.isa() != down.isa() || up.dtype() == Dtype::i8) {
        const int64_t width = up.out_features();
        auto* middle = static_cast<float*>(mlp_scratch.reserve(x.rows * width * int64_t{sizeof(float)}));
        linear(x, up, weights.activation, {}, up_adapters, {middle, x.rows, width, width});
        linear({middle, x.rows, width, width}, down, Activation::none, residual, down_adapters, out);
        return;
    }
    check_product("mlp", x, up, up_adapters);
    check_product("mlp", {nullptr, x.rows, up.out_features(), 0}, down, down_adapters);
    check_outputs("mlp", x, down.out_features(), residual, out);
    if (x.rows == 0) return;
    LinearArgs first{x, {}, up.view(), weights.activation, {}, {}, {}, {}, {}, {}};
    LinearArgs second{
        {nullptr, x.rows, up.out_features(), 0}, {}, down.view(), Activation::none, residual, out, {}, {}, {}, {}};
    first.lora.ids = second.lora.ids = lora_ids.data;
    run_mlp(first, {up.dtype(), up.isa(), up_adapters.lora}, second, {down.dtype(), down.isa(), down_adapters.lora});
}

void pool_logits(const MatrixView<const float>& x, const PackedLinear& packed,
                 const VectorView<const int32_t>& cu_seqlens, bool is_sum, Saturation saturation,
                 const MatrixView<float>& out) {
    check_product("pool_logits", x, packed, {});
    if (packed.gate() != Gate::none) reject("pool_logits: weight must not be gated");
    const std::vector<int32_t> sequences = sequences_of(cu_seqlens, x.rows);
    if (out.rows != cu_seqlens.size - 1 || out.cols != packed.out_features()) {
        reject("pool_logits: out must be (", cu_seqlens.size - 1, ", ", packed.out_features(), "), got (", out.rows,
               ", ", out.cols, ")");
    }
    if (overlaps(x, {out.data, out.rows, out.cols, out.row_stride})) {
        reject("pool_logits: out must not share memory with x");
    }
    if (x.rows == 0) {  // sequences without tokens
        const bool is_raw = !is_sum && saturation == Saturation::none;
        const float value = is_raw ? -std::numeric_limits<float>::infinity() : 0.0f;
        for (int64_t row = 0; row < out.rows; ++row) std::fill_n(out.row(row), out.cols, value);
        return;
    }
    LinearArgs args{
        x, {}, packed.view(), Activation::none, {}, {}, {}, {}, {}, {out, sequences.data(), is_sum, saturation}};
    run_pooled(args, {packed.dtype(), packed.isa(), nullptr});
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
    const std::vector<float> bias(static_cast<size_t>(order.num_panels() * order.panel.columns), 0.0f);
    PackedView nothing;
    nothing.bias = bias.data();
    nothing.num_panels = order.num_panels();
    nothing.out_features = order.rows;
    LinearArgs args{x, {}, nothing, Activation::none, {}, out, {}, {}, {}, {}};
    args.lora.ids = adapters.ids.data;
    run_linear(args, {order.dtype, order.isa, adapters.lora});
}

}  // namespace longspan
