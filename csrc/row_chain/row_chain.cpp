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
constexpr int64_t kRowsPerThread = 64;

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

void RowChain::check(const std::vector<MatrixView<float>>& bound, const VectorView<const int32_t>& lora_ids) const {
    if (bound.size() != static_cast<size_t>(num_bound_)) {
        reject("row_chain: run takes ", num_bound_, " values, got ", bound.size());
    }
    for (size_t i = 0; i < bound.size(); ++i) {
        const int64_t width = widths_[i] < 0 ? bound[i].cols : widths_[i];
        if (bound[i].rows != bound[0].rows || bound[i].cols != width) {
            reject("row_chain: value ", i, " must be (", bound[0].rows, ", ", width, "), got (", bound[i].rows, ", ",
                   bound[i].cols, ")");
        }
    }
    if (lora_ids && lora_ids.size != bound[0].rows) {
        reject("row_chain: lora_ids must be (", bound[0].rows, ",), got (", lora_ids.size, ",)");
    }
}

void RowChain::run(const std::vector<MatrixView<float>>& bound, const VectorView<const int32_t>& lora_ids) const {
    check(bound, lora_ids);
    if (bound.empty()) return;
    const int64_t rows = bound[0].rows;
    if (rows < kRowsPerThread * num_threads()) return run_rows(bound, lora_ids, 0, rows);
    const std::vector<int64_t> ends = block_ends(rows);
    parallel_for(static_cast<int64_t>(ends.size()), [&](int64_t task) {
        const auto block = static_cast<size_t>(task);
        run_rows(bound, lora_ids, block == 0 ? 0 : ends[block - 1], ends[block]);
    });
}

void RowChain::run_rows(const std::vector<MatrixView<float>>& bound, const VectorView<const int32_t>& lora_ids,
                        int64_t first_row, int64_t last_row) const {
    const int64_t rows = last_row - first_row;
    std::vector<MatrixView<float>> values;
    for (const auto& whole : bound) values.push_back({whole.row(first_row), rows, whole.cols, whole.row_stride});
    auto* memory = static_cast<float*>(temporaries.reserve(rows * temporary_width_ * int64_t{sizeof(float)}));
    for (size_t i = values.size(); i < widths_.size(); ++i) {
        const int64_t width = std::max<int64_t>(widths_[i], 0);
        values.push_back({memory, rows, width, width});
        memory += rows * width;
    }
    const auto at = [&](int value) { return value < 0 ? MatrixView<float>{} : values[static_cast<size_t>(value)]; };
    const VectorView<const int32_t> ids =
        lora_ids ? VectorView<const int32_t>{lora_ids.data + first_row, rows} : lora_ids;
    for (const ChainStep& step : steps_) {
        if (const auto* product = std::get_if<ChainProduct>(&step)) {
            const bool has_lora = ids && product->lora != nullptr;
            linear(readable(at(product->source)), *product->weights, Activation::none, readable(at(product->residual)),
                   has_lora ? RowAdapters{product->lora, ids} : RowAdapters{}, at(product->target));
        } else if (const auto* pair = std::get_if<ChainMlp>(&step)) {
            mlp(readable(at(pair->source)), pair->weights, ids, readable(at(pair->residual)), at(pair->target));
        } else {
            const auto& norm = std::get<ChainNorm>(step);
            const auto residual =
                norm.residual < 0 ? HeadsView<const float>{} : groups_of<const float>(at(norm.residual), norm);
            layer_norm({groups_of<const float>(at(norm.source), norm), residual, norm.weight, norm.bias, norm.eps,
                        norm.is_centred, groups_of<float>(at(norm.target), norm)});
        }
    }
}

}  // namespace longspan
