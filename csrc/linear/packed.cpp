#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <new>

#include "core/error.h"
#include "core/parallel.h"
#include "linear/packed.h"
#include "linear/variants.h"

#if defined(__linux__)
#include <sys/mman.h>
#include <unistd.h>
#endif

namespace longspan {
namespace {

constexpr size_t kLine = 64;
#if defined(__linux__)
constexpr size_t kHugePage = size_t{2} << 20;
#endif
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
        const auto& [format, weight, bias, scaling] = parts[i];
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
    float scaling;

    void load(int64_t k, int64_t count, float* to) const {
        load_weights(format, data + k * bytes_of(format), count, to);
        for (int64_t i = 0; scaling != 1.0f && i < count; ++i) to[i] *= scaling;
    }
};

std::vector<WeightRow> stacked_rows(const std::vector<LinearPart>& parts) {
    std::vector<WeightRow> rows;
    for (const auto& [format, weight, bias, scaling] : parts) {
        for (int64_t i = 0; i < weight.rows; ++i) {
            rows.push_back({format, weight.row(i), bias ? bias.data[i] : 0.0f, scaling});
        }
    }
    return rows;
}

constexpr int64_t kRun = kRotated;  // values of a row at a time: a panel's words of them fit in the L1 cache

// Values [k, k + kRun) of a row, zeros past its end; those of i8 rotated where they are a whole block.
void load_run(const WeightRow& row, int64_t in_features, int64_t k, Dtype dtype, float* values) {
    const int64_t count = std::min(kRun, in_features - k);
    row.load(k, count, values);
    std::fill(values + count, values + kRun, 0.0f);
    if (dtype == Dtype::i8 && count == kRotated) rotate_block(values);
}

// A panel that is being filled.
struct Panel {
    PanelShape shape;
    Word* packed;

    // Words of one column, from the word `first` on, of values that are divided by i8's scale.
    template <Dtype kDtype>
    void put(int64_t column, int64_t first, const float* values, int64_t words, float scale) const {
        for (int64_t i = 0; i < words; ++i) {
            packed[shape.at(first + i, column)] = word_of(kDtype, values + i * values_per_word(kDtype), scale);
        }
    }
};

// The panel of these rows, null where there is none: (words of in_features, rows).
template <Dtype kDtype>
void pack_panel(const std::vector<const WeightRow*>& rows, int64_t in_features, const Panel& panel) {
    const auto columns = static_cast<int64_t>(rows.size());
    const int64_t depth = panel.shape.words(kDtype, in_features);
    for (int64_t k = 0; k < in_features; k += kRun) {
        const int64_t first = k / values_per_word(kDtype), words = std::min(words_for(kDtype, kRun), depth - first);
        for (int64_t column = 0; column < columns; ++column) {
            float values[kRun] = {};
            const WeightRow* row = rows[static_cast<size_t>(column)];
            if (row != nullptr) load_run(*row, in_features, k, kDtype, values);
            panel.put<kDtype>(column, first, values, words, 1.0f);
        }
    }
}

// What makes the largest value 127; NaN if a value is not finite. Not below 2^-126, so that no quotient overflows.
float i8_scale(const float* values, int64_t count) {
    uint32_t peak = 0;  // the bits of floats of one sign are in the floats' own order, NaN above infinity
    for (int64_t i = 0; i < count; ++i) peak = std::max(peak, std::bit_cast<uint32_t>(values[i]) & 0x7fffffffu);
    if (peak >= 0x7f800000u) return std::numeric_limits<float>::quiet_NaN();
    return std::max(std::bit_cast<float>(peak) / 127.0f, std::numeric_limits<float>::min());
}

// The same of i8, whose rows are needed whole before their scales are known; and the sums of their whole numbers.
void pack_i8_panel(const std::vector<const WeightRow*>& rows, int64_t in_features, const Panel& panel, float* scales,
                   int32_t* sums) {
    const auto columns = static_cast<int64_t>(rows.size());
    const int64_t words = panel.shape.words(Dtype::i8, in_features), runs = divide_up(in_features, kRun);
    auto* values = static_cast<float*>(thread_scratch(runs * kRun * int64_t{sizeof(float)}));
    for (int64_t column = 0; column < columns; ++column) {
        std::fill_n(values, runs * kRun, 0.0f);
        const WeightRow* row = rows[static_cast<size_t>(column)];
        for (int64_t k = 0; row != nullptr && k < in_features; k += kRun) {
            load_run(*row, in_features, k, Dtype::i8, values + k);
        }
        scales[column] = row == nullptr ? 1.0f : i8_scale(values, in_features);
        panel.put<Dtype::i8>(column, 0, values, words, scales[column]);
        sums[column] = 0;
        for (int64_t i = 0; i < words; ++i) {
            const Word word = panel.packed[panel.shape.at(i, column)];
            for (int shift = 0; shift < 32; shift += 8) sums[column] += static_cast<int8_t>(word >> shift & 0xffu);
        }
    }
}

#if defined(__linux__)
// Memory of their own, from a huge page on. In the heap, between the copies of tensors that loading makes and lets go
// of, they would leave holes that stay resident: a fifth of a model.
Words map_words(size_t bytes) {
    const auto page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
    const size_t mapped = (bytes + page - 1) / page * page, room = mapped + kHugePage;
    void* const start = mmap(nullptr, room, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (start == MAP_FAILED) throw std::bad_alloc();
    auto* const first = static_cast<std::byte*>(start);
    const size_t before = (kHugePage - reinterpret_cast<uintptr_t>(start) % kHugePage) % kHugePage;
    if (before != 0) munmap(first, before);
    munmap(first + before + mapped, kHugePage - before);
    // Whole pages only: rounding up would make memory resident that holds nothing. A refusal costs speed alone.
    madvise(first + before, mapped / kHugePage * kHugePage, MADV_HUGEPAGE);
    return {reinterpret_cast<Word*>(first + before), FreeWords{mapped}};
}
#endif

}  // namespace

void FreeWords::operator()(Word* words) const {
#if defined(__linux__)
    if (mapped != 0) {
        munmap(words, mapped);
        return;
    }
#endif
    ::operator delete(words, std::align_val_t{kLine});
}

Words allocate_words(int64_t count) {
    const auto bytes = static_cast<size_t>(count) * sizeof(Word);
#if defined(__linux__)
    if (bytes >= kHugePage) return map_words(bytes);
#endif
    return {static_cast<Word*>(::operator new(bytes, std::align_val_t{kLine})), FreeWords{0}};
}

PanelOrder PanelOrder::of(Isa isa, Dtype dtype, Gate gate, int64_t rows) {
    const LinearVariant& variant = variant_for(dtype, isa);
    return {variant.isa, dtype, gate, rows, variant.panel};
}

int64_t PanelOrder::num_panels() const {
    return gate == Gate::none ? divide_up(rows, panel.columns) : divide_up(rows / 2, panel.columns / 2);
}

int64_t PanelOrder::row_of(int64_t number, int64_t column) const {
    const int64_t outputs = out_features(), columns = panel.columns;
    if (gate == Gate::none) {
        const int64_t row = number * columns + column;
        return row < outputs ? row : -1;
    }
    const int64_t half = columns / 2;
    const bool is_gate_half = column < half;
    const int64_t output = number * half + column % half;
    if (output >= outputs) return -1;
    return is_gate_half == (gate == Gate::first) ? output : outputs + output;
}

PackedLinear::PackedLinear(const std::vector<LinearPart>& parts, Dtype dtype, Gate gate, std::optional<Isa> isa)
    : order_(PanelOrder::of(isa.value_or(active_isa()), dtype, gate, checked_rows(parts, dtype, gate))) {
    const int64_t in_features = parts[0].weight.cols, columns = order_.panel.columns;
    const int64_t depth = order_.panel.words(dtype, in_features), num_columns = order_.num_panels() * columns;
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
        std::vector<const WeightRow*> packed(static_cast<size_t>(columns));
        const int64_t first = panel * columns;
        for (int64_t column = 0; column < columns; ++column) {
            const int64_t row = order_.row_of(panel, column);
            if (row >= 0) packed[static_cast<size_t>(column)] = &rows[static_cast<size_t>(row)];
            bias[first + column] = row < 0 ? 0.0f : rows[static_cast<size_t>(row)].bias;
        }
        const Panel to{order_.panel, panels + first * depth};
        if (dtype == Dtype::f32) pack_panel<Dtype::f32>(packed, in_features, to);
        if (dtype == Dtype::bf16) pack_panel<Dtype::bf16>(packed, in_features, to);
        if (dtype == Dtype::i8) pack_i8_panel(packed, in_features, to, scales + first, sums + first);
    });
}

void PackedLinear::unpack(const MatrixView<float>& weight, float* bias) const {
    const int64_t columns = order_.panel.columns, per_word = values_per_word(order_.dtype);
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
                    const Word word = packed[order_.panel.at((first + i) / per_word, column)];
                    values[i] = value_in(order_.dtype, word, i % per_word) * scale;
                }
                if (order_.dtype == Dtype::i8 && count == kRotated) rotate_block(values);
                std::copy_n(values, count, weight.row(row) + first);
            }
        }
    }
}

}  // namespace longspan
