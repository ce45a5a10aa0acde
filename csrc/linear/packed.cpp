#include <algorithm>
#include <cmath>
#include <limits>
#include <new>

#include "core/error.h"
#include "core/parallel.h"
#include "linear/packed.h"
#include "linear/variants.h"

#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace longspan {
namespace {

constexpr size_t kLine = 64, kHugePage = size_t{2} << 20;
// Values of k of which 255 * 127 each, the largest product of i8, sum up to less than 2^31.
constexpr int64_t kMostI8Inputs = std::numeric_limits<int32_t>::max() / (255 * 127);

constexpr int64_t divide_up(int64_t value, int64_t by) {
    return (value + by - 1) / by;
}

int64_t checked_rows(const std::vector<LinearPart>& parts, Dtype dtype, Gate gate) {
    if (parts.empty()) reject("pack_linear: weights must hold at least one matrix, got none");
    const int64_t in_features = parts[0].weight.cols;
    int64_t rows = 0;
    for (size_t i = 0; i < parts.size(); ++i) {
        const auto& [format, weight, bias] = parts[i];
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
    if (dtype == Dtype::i8 && in_features > kMostI8Inputs) {
        reject("pack_linear: int8 weights must have at most ", kMostI8Inputs,
               " columns, so that sums fit 32 bits, got ", in_features, "; pack them as bfloat16");
    }
    return rows;
}

// A row of the stacked weights, wherever it comes from.
struct WeightRow {
    WeightFormat format;
    const std::byte* data;
    float bias;

    void load(int64_t k, int64_t count, float* to) const {
        load_weights(format, data + k * bytes_of(format), count, to);
    }
};

std::vector<WeightRow> stacked_rows(const std::vector<LinearPart>& parts) {
    std::vector<WeightRow> rows;
    for (const auto& [format, weight, bias] : parts) {
        for (int64_t i = 0; i < weight.rows; ++i) rows.push_back({format, weight.row(i), bias ? bias.data[i] : 0.0f});
    }
    return rows;
}

constexpr int64_t kRun = kRotated;  // values of a row at a time: few enough lines written at once

// Values [k, k + kRun) of a row, zeros past its end; those of i8 rotated where they are a whole block.
void load_run(const WeightRow& row, int64_t in_features, int64_t k, Dtype dtype, float* values) {
    const int64_t count = std::min(kRun, in_features - k);
    row.load(k, count, values);
    std::fill(values + count, values + kRun, 0.0f);
    if (dtype == Dtype::i8 && count == kRotated) rotate_block(values);
}

// What makes the row's largest value 127; NaN if a value is not finite. Not below 2^-126, so that no quotient
// overflows.
float i8_scale(const WeightRow& row, int64_t in_features) {
    float values[kRun];
    uint32_t peak = 0;  // the bits of floats of one sign are in the floats' own order, NaN above infinity
    for (int64_t k = 0; k < in_features; k += kRun) {
        load_run(row, in_features, k, Dtype::i8, values);
        for (int64_t i = 0; i < kRun; ++i) peak = std::max(peak, std::bit_cast<uint32_t>(values[i]) & 0x7fffffffu);
    }
    if (peak >= 0x7f800000u) return std::numeric_limits<float>::quiet_NaN();
    return std::max(std::bit_cast<float>(peak) / 127.0f, std::numeric_limits<float>::min());
}

// One column of a panel: words `columns` apart from `to` on. Returns the sum of i8's whole numbers.
int32_t pack_column(const WeightRow& row, int64_t in_features, Dtype dtype, float scale, int64_t columns, Word* to) {
    const int64_t per_word = values_per_word(dtype);
    float values[kRun];
    int32_t sum = 0;
    for (int64_t k = 0; k < in_features; k += kRun) {
        load_run(row, in_features, k, dtype, values);
        const int64_t words = std::min(kRun / per_word, words_for(dtype, in_features) - k / per_word);
        for (int64_t i = 0; i < words * per_word; i += per_word) {
            const Word word = word_of(dtype, values + i, scale);
            to[(k + i) / per_word * columns] = word;
            if (dtype != Dtype::i8) continue;
            for (int shift = 0; shift < 32; shift += 8) sum += static_cast<int8_t>(word >> shift & 0xffu);
        }
    }
    return sum;
}

}  // namespace

void FreeWords::operator()(Word* words) const {
    ::operator delete(words, std::align_val_t{alignment});
}

Words allocate_words(int64_t count) {
    const auto bytes = static_cast<size_t>(count) * sizeof(Word);
    const size_t alignment = bytes >= kHugePage ? kHugePage : kLine;
    void* memory = ::operator new(bytes, std::align_val_t{alignment});
#if defined(__linux__)
    // Whole pages only: rounding up would make memory resident that holds nothing. A refusal costs speed alone.
    if (alignment == kHugePage) madvise(memory, bytes / kHugePage * kHugePage, MADV_HUGEPAGE);
#endif
    return {static_cast<Word*>(memory), FreeWords{alignment}};
}

PanelOrder PanelOrder::of(Isa isa, Dtype dtype, Gate gate, int64_t rows) {
    const LinearVariant& variant = variant_for(dtype, isa);
    return {variant.isa, dtype, gate, rows, variant.panel.columns};
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

PackedLinear::PackedLinear(const std::vector<LinearPart>& parts, Dtype dtype, Gate gate, std::optional<Isa> isa)
    : order_(PanelOrder::of(isa.value_or(active_isa()), dtype, gate, checked_rows(parts, dtype, gate))) {
    const int64_t in_features = parts[0].weight.cols, columns = order_.columns;
    const int64_t depth = words_for(dtype, in_features), num_columns = order_.num_panels() * columns;
    const bool is_i8 = dtype == Dtype::i8;
    num_words_ = num_columns * (depth + (is_i8 ? 3 : 1));
    words_ = allocate_words(num_words_);
    Word* panels = words_.get();
    auto* bias = reinterpret_cast<float*>(panels + num_columns * depth);
    float* scales = is_i8 ? bias + num_columns : nullptr;
    auto* sums = is_i8 ? reinterpret_cast<int32_t*>(scales + num_columns) : nullptr;
    view_ = {
        panels, bias, scales, sums, order_.num_panels(), in_features, depth, order_.out_features(), gate != Gate::none};

    const std::vector<WeightRow> rows = stacked_rows(parts);
    parallel_for(view_.num_panels, [&](int64_t panel) {
        for (int64_t column = 0; column < columns; ++column) {
            const int64_t at = panel * columns + column, row = order_.row_of(panel, column);
            Word* to = panels + panel * columns * depth + column;
            float scale = 1.0f;
            int32_t sum = 0;
            if (row < 0) {
                for (int64_t i = 0; i < depth; ++i) to[i * columns] = 0;
                bias[at] = 0.0f;
            } else {
                const WeightRow& source = rows[static_cast<size_t>(row)];
                if (is_i8) scale = i8_scale(source, in_features);
                sum = pack_column(source, in_features, dtype, scale, columns, to);
                bias[at] = source.bias;
            }
            if (!is_i8) continue;
            scales[at] = scale;
            sums[at] = sum;
        }
    });
}

void PackedLinear::unpack(const MatrixView<float>& weight, float* bias) const {
    const int64_t columns = order_.columns, per_word = values_per_word(order_.dtype);
    for (int64_t panel = 0; panel < view_.num_panels; ++panel) {
        const Word* packed = view_.panels + panel * columns * view_.num_words;
        for (int64_t column = 0; column < columns; ++column) {
            const int64_t row = order_.row_of(panel, column), at = panel * columns + column;
            if (row < 0) continue;
            bias[row] = view_.bias[at];
            const float scale = view_.scales == nullptr ? 1.0f : view_.scales[at];
            float values[kRun];
            for (int64_t first = 0; first < in_features(); first += kRun) {
                const int64_t count = std::min(kRun, in_features() - first);
                for (int64_t i = 0; i < count; ++i) {
                    const Word word = packed[(first + i) / per_word * columns + column];
                    values[i] = value_in(order_.dtype, word, i % per_word) * scale;
                }
                if (order_.dtype == Dtype::i8 && count == kRotated) rotate_block(values);
                std::copy_n(values, count, weight.row(row) + first);
            }
        }
    }
}

}  // namespace longspan
