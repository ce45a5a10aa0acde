#include <algorithm>
#include <utility>

#include "core/error.h"
#include "core/parallel.h"
#include "linear/packed.h"
#include "linear/variants.h"

namespace longspan {
namespace {

void check(const HeadsView<const float>& lora_a, const HeadsView<const float>& lora_b,
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
}

// A with the scaling in it, adapters stacked by rows.
PackedLinear packed_a(const HeadsView<const float>& lora_a, const HeadsView<const float>& lora_b,
                      const std::vector<float>& scaling, const PanelOrder& order, Dtype dtype) {
    check(lora_a, lora_b, scaling, order);
    const int64_t adapters = lora_a.rows, rank = lora_a.heads, in_features = lora_a.head_dim;
    std::vector<LinearPart> parts;
    for (int64_t t = 0; t < adapters; ++t) {
        const auto* first = reinterpret_cast<const std::byte*>(lora_a.at(t, 0));
        const int64_t row_bytes = lora_a.head_stride * int64_t{sizeof(float)};
        parts.push_back(
            {WeightFormat::f32, {first, rank, in_features, row_bytes}, {}, scaling[static_cast<size_t>(t)]});
    }
    return {parts, dtype, Gate::none, order.isa};
}

// From the first value that is not zero to behind the last one; no values: {count, 0}.
std::pair<int64_t, int64_t> nonzero_range(const float* values, int64_t count) {
    int64_t first = 0, last = count;
    while (first < count && values[first] == 0.0f) ++first;
    while (last > first && values[last - 1] == 0.0f) --last;
    return {first, first < last ? last : 0};
}

}  // namespace

PackedLora::PackedLora(const HeadsView<const float>& lora_a, const HeadsView<const float>& lora_b,
                       const std::vector<float>& scaling, const PanelOrder& order)
    : order_(order),
      num_adapters_(lora_a.rows),
      rank_(lora_a.heads),
      a_(packed_a(lora_a, lora_b, scaling, order, shrink_dtype())),
      segments_(static_cast<size_t>(order.num_panels() * lora_a.rows)) {
    const PanelShape shape = expand_panel();
    const int64_t columns = shape.columns, num_panels = order.num_panels();
    const int64_t per_word = values_per_word(expand_dtype());
    // Calls body(column, row of B) for the columns of a panel that hold one.
    const auto each_column = [&](int64_t panel, int64_t adapter, auto&& body) {
        for (int64_t column = 0; column < columns; ++column) {
            const int64_t row = order_.row_of(panel, column);
            if (row >= 0) body(column, lora_b.at(adapter, row));
        }
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
        each_column(panel, t, [&](int64_t, const float* row) {
            const auto range = nonzero_range(row, rank_);
            first = std::min(first, range.first);
            last = std::max(last, range.second);
        });
        if (last == 0) return;
        segment.first = first / per_word / shape.step * shape.step;
        segment.depth = shape.words(expand_dtype(), last) - segment.first;
    });
    for (const auto& segment : segments_) num_words_ += segment.depth * columns;
    words_ = allocate_words(std::max<int64_t>(num_words_, 1));
    std::vector<Word*> panels;  // of the segments
    Word* next = words_.get();
    for (auto& segment : segments_) {
        segment.panel = next;
        panels.push_back(next);
        next += segment.depth * columns;
    }
    each_segment([&](int64_t panel, int64_t t, const LoraSegment& segment) {
        Word* const packed = panels[static_cast<size_t>(panel * num_adapters_ + t)];
        std::fill_n(packed, segment.depth * columns, Word{0});
        each_column(panel, t, [&](int64_t column, const float* row) {
            for (int64_t j = 0; j < segment.depth; ++j) {
                const int64_t from = (segment.first + j) * per_word;
                float values[2] = {from < rank_ ? row[from] : 0.0f, 0.0f};
                if (per_word == 2 && from + 1 < rank_) values[1] = row[from + 1];
                packed[shape.at(j, column)] = word_of(expand_dtype(), values, 1.0f);
            }
        });
    });
}

PanelShape PackedLora::expand_panel() const {
    return variant_for(expand_dtype(), order_.isa).panel;
}

void PackedLora::unpack(const HeadsView<float>& lora_a, const HeadsView<float>& lora_b) const {
    const PanelShape shape = expand_panel();
    std::vector<float> no_bias(static_cast<size_t>(a_.rows()));
    a_.unpack({lora_a.data, a_.rows(), in_features(), in_features()}, no_bias.data());
    const int64_t per_word = values_per_word(expand_dtype());
    for (int64_t t = 0; t < num_adapters_; ++t) {
        for (int64_t row = 0; row < order_.rows; ++row) std::fill_n(lora_b.at(t, row), rank_, 0.0f);
        for (int64_t panel = 0; panel < order_.num_panels(); ++panel) {
            const LoraSegment& segment = segments_[static_cast<size_t>(panel * num_adapters_ + t)];
            for (int64_t column = 0; column < shape.columns; ++column) {
                const int64_t row = order_.row_of(panel, column);
                if (row < 0) continue;
                for (int64_t i = 0; i < segment.depth * per_word; ++i) {
                    const int64_t j = segment.first * per_word + i;
                    if (j >= rank_) break;
                    const Word word = segment.panel[shape.at(i / per_word, column)];
                    lora_b.at(t, row)[j] = value_in(expand_dtype(), word, i % per_word);
                }
            }
        }
    }
}

}  // namespace longspan
