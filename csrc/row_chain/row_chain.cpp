#include "row_chain/row_chain.h"

#include <algorithm>

#include "core/error.h"
#include "core/parallel.h"

namespace longspan {
namespace {

// Of a block: what the L2 cache has room for, beside a panel of weights, at a hidden size of 384 to 1024; and the
// smallest that is worth reading all weights for. Multiples of kTileRows, which most instruction sets' tiles divide.
constexpr int64_t kMostRows = 84, kLeastRows = 28, kTileRows = 14;
// Below so many rows for each thread, each step is cut by itself: by columns too.
constexpr int64_t kRowsPerThread = 84;
// And where the steps have more weights than that: they would come from memory, or a far L3 cache, for every block.
constexpr int64_t kMostWeightBytes = int64_t{40} << 20;
// Rows that go through each step together at the most, and for each thread where that is more: temporaries hold them.
constexpr int64_t kRowsAtOnce = 1344, kRowsAtOncePerThread = 168;
constexpr int64_t kValuesPerTask = 64 * 1024;  // of an addition

thread_local Scratch temporaries;

// Ends of blocks that are the smaller the less is left, so that threads which do not run alike end together.
std::vector<int64_t> block_ends(int64_t rows) {
    std::vector<int64_t> ends;
    for (int64_t end = 0; end < rows;) {
        const int64_t share = (rows - end) / (2 * num_threads()) / kTileRows * kTileRows;
        end = std::min(rows, end + std::clamp(share, kLeastRows, kMostRows));
        ends.push_back(end);
    }
    return ends;
}

MatrixView<const float> readable(const MatrixView<float>& m) {
    return {m.data, m.rows, m.cols, m.row_stride};
}

// Groups of `dim` columns of a value, as the norms take them.
template <class T>
HeadsView<T> groups_of(const MatrixView<float>& m, const ChainNorm& step) {
    const int64_t dim = step.weight.size;
    return {m.data + step.first_column, m.rows, step.columns / dim, dim, m.row_stride, dim};
}

}  // namespace

void RowChain::use(const char* step, const char* role, int value, int64_t width) {
    if (value < 0) reject("row_chain: ", step, ": ", role, " must be 0 or more, got ", value);
    const auto at = static_cast<size_t>(value);
    if (at >= widths_.size()) widths_.resize(at + 1, -1);
    if (widths_[at] >= 0 && widths_[at] != width) {
        reject("row_chain: ", step, ": ", role, " must have ", width, " columns, but value ", value, " has ",
               widths_[at]);
    }
    if (widths_[at] < 0 && value >= num_bound_) temporary_width_ += width;
    widths_[at] = width;
}

void RowChain::add(const ChainProduct& step) {
    use("multiply", "source", step.source, step.weights->in_features());
    use("multiply", "target", step.target, step.weights->out_features());
    if (step.residual >= 0) use("multiply", "residual", step.residual, step.weights->out_features());
    weight_bytes_ += step.weights->nbytes();
    steps_.emplace_back(step);
}

void RowChain::add(const ChainMlp& step) {
    const int64_t inner = step.weights.up->out_features();
    if (step.weights.down->in_features() != inner) {
        reject("row_chain: mlp: down must have ", inner, " inputs, as up has outputs, got ",
               step.weights.down->in_features());
    }
    use("mlp", "source", step.source, step.weights.up->in_features());
    use("mlp", "target", step.target, step.weights.down->out_features());
    if (step.residual >= 0) use("mlp", "residual", step.residual, step.weights.down->out_features());
    weight_bytes_ += step.weights.up->nbytes() + step.weights.down->nbytes();
    steps_.emplace_back(step);
}

void RowChain::add(const ChainNorm& step) {
    const int64_t dim = step.weight.size, end = step.first_column + step.columns;
    if (dim < 1 || step.columns % dim != 0) {
        reject("row_chain: norm: columns must be a multiple of weight's size, ", dim, ", got ", step.columns);
    }
    for (const int value : {step.source, step.target, std::max(step.residual, step.target)}) {
        const bool is_known = value >= 0 && static_cast<size_t>(value) < widths_.size();
        const int64_t width = is_known ? widths_[static_cast<size_t>(value)] : -1;
        if (width < 0 && step.first_column == 0) {
            use("norm", "a value", value, end);
        } else if (step.first_column < 0 || end > width) {
            reject("row_chain: norm: columns ", step.first_column, " to ", end, " are not in value ", value,
                   ", which has ", width);
        }
    }
    steps_.emplace_back(step);
}

void RowChain::add(const ChainAdd& step) {
    for (const int value : {step.source, step.residual, step.target}) {
        const int64_t width = step.source >= 0 && static_cast<size_t>(step.source) < widths_.size()
                                  ? widths_[static_cast<size_t>(step.source)]
                                  : -1;
        if (width < 0) reject("row_chain: add: source ", step.source, " has no width yet");
        use("add", "a value", value, width);
    }
    steps_.emplace_back(step);
}

bool RowChain::takes_bf16(int value) const {
    for (const ChainStep& step : steps_) {
        const auto* product = std::get_if<ChainProduct>(&step);
        const bool is_read = std::visit([&](const auto& s) { return s.source == value || s.residual == value; }, step);
        const bool is_written = std::visit([&](const auto& s) { return s.target == value; }, step);
        if (is_read ||
            (is_written && (product == nullptr || product->residual >= 0 || product->activation != Activation::none)))
            return false;
    }
    return true;
}

void RowChain::check(const std::vector<ChainValue>& bound, const VectorView<const int32_t>& lora_ids) const {
    if (bound.size() != static_cast<size_t>(num_bound_)) {
        reject("row_chain: run takes ", num_bound_, " values, got ", bound.size());
    }
    for (size_t i = 0; i < bound.size(); ++i) {
        const int64_t rows = bound[0].rows(), width = widths_[i] < 0 ? bound[i].cols() : widths_[i];
        if (bound[i].rows() != rows || bound[i].cols() != width) {
            reject("row_chain: value ", i, " must be (", rows, ", ", width, "), got (", bound[i].rows(), ", ",
                   bound[i].cols(), ")");
        }
        if (bound[i].rounded.data != nullptr && !takes_bf16(static_cast<int>(i))) {
            reject("row_chain: value ", i, " must be float32: only the target of products alone may be bfloat16");
        }
    }
    if (lora_ids && lora_ids.size != bound[0].rows()) {
        reject("row_chain: lora_ids must be (", bound[0].rows(), ",), got (", lora_ids.size, ",)");
    }
}

void RowChain::run(const std::vector<ChainValue>& bound, const VectorView<const int32_t>& lora_ids) const {
    check(bound, lora_ids);
    if (bound.empty()) return;
    const int64_t rows = bound[0].rows();
    if (rows < kRowsPerThread * num_threads() || weight_bytes_ > kMostWeightBytes) {
        const int64_t most_rows = std::max<int64_t>(kRowsAtOnce, kRowsAtOncePerThread * num_threads());
        const int64_t turns = (rows + most_rows - 1) / most_rows;
        for (int64_t turn = 0; turn < turns; ++turn) {
            run_rows(bound, lora_ids, rows * turn / turns, rows * (turn + 1) / turns);
        }
        return;
    }
    const std::vector<int64_t> ends = block_ends(rows);
    parallel_for(static_cast<int64_t>(ends.size()), [&](int64_t task) {
        const auto block = static_cast<size_t>(task);
        run_rows(bound, lora_ids, block == 0 ? 0 : ends[block - 1], ends[block]);
    });
}

// Some rows of all values, and how a step is run on them.
class RowChain::Rows {
public:
    Rows(const std::vector<ChainValue>& bound, const VectorView<const int32_t>& lora_ids, int64_t first, int64_t last)
        : rows_(last - first), ids_(lora_ids) {
        if (ids_) ids_ = {lora_ids.data + first, rows_};
        const auto cut = [&](const auto& whole) {
            auto part = whole;
            if (part.data != nullptr) part.data = part.row(first);
            part.rows = rows_;
            return part;
        };
        for (const ChainValue& value : bound) values_.push_back({cut(value.floats), cut(value.rounded)});
    }

    // Temporaries have these widths, from the first value that is not bound on.
    void add_temporaries(const std::vector<int64_t>& widths, int64_t total) {
        auto* memory = static_cast<float*>(temporaries.reserve(rows_ * total * int64_t{sizeof(float)}));
        for (size_t i = values_.size(); i < widths.size(); ++i) {
            const int64_t width = std::max<int64_t>(widths[i], 0);
            values_.push_back({{memory, rows_, width, width}, {}});
            memory += rows_ * width;
        }
    }

    void run(const ChainProduct& step) const {
        const RowAdapters adapters = ids_ ? RowAdapters{step.lora, ids_} : RowAdapters{};
        const MatrixView<uint16_t>& rounded = values_[static_cast<size_t>(step.target)].rounded;
        if (rounded.data != nullptr) return linear(readable(at(step.source)), *step.weights, adapters, rounded);
        linear(readable(at(step.source)), *step.weights, step.activation, readable(at(step.residual)), adapters,
               at(step.target));
    }
    void run(const ChainMlp& step) const {
        mlp(readable(at(step.source)), step.weights, ids_, readable(at(step.residual)), at(step.target));
    }
    void run(const ChainNorm& step) const {
        HeadsView<const float> residual;
        if (step.residual >= 0) residual = groups_of<const float>(at(step.residual), step);
        layer_norm({groups_of<const float>(at(step.source), step), residual, step.weight, step.bias, step.eps,
                    step.is_centred, groups_of<float>(at(step.target), step)});
    }

    void run(const ChainAdd& step) const {
        const MatrixView<float> source = at(step.source), residual = at(step.residual), target = at(step.target);
        const int64_t rows_per_task = std::max<int64_t>(1, kValuesPerTask / std::max<int64_t>(1, source.cols));
        parallel_for((rows_ + rows_per_task - 1) / rows_per_task, [&](int64_t task) {
            const int64_t last = std::min(rows_, (task + 1) * rows_per_task);
            for (int64_t row = task * rows_per_task; row < last; ++row) {
                const float *a = source.row(row), *b = residual.row(row);
                float* sum = target.row(row);
                for (int64_t i = 0; i < source.cols; ++i) sum[i] = a[i] + b[i];
            }
        });
    }

private:
    MatrixView<float> at(int value) const {
        return value < 0 ? MatrixView<float>{} : values_[static_cast<size_t>(value)].floats;
    }

    int64_t rows_;
    VectorView<const int32_t> ids_;
    std::vector<ChainValue> values_;
};

void RowChain::run_rows(const std::vector<ChainValue>& bound, const VectorView<const int32_t>& lora_ids,
                        int64_t first_row, int64_t last_row) const {
    Rows rows(bound, lora_ids, first_row, last_row);
    rows.add_temporaries(widths_, temporary_width_);
    for (const ChainStep& step : steps_) std::visit([&](const auto& kind) { rows.run(kind); }, step);
}

}  // namespace longspan
