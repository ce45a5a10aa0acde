#include <algorithm>

#include "core/error.h"
#include "core/parallel.h"
#include "linear/packed.h"

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
    std::vector<float> scaled(static_cast<size_t>(adapters * rank * in_features));
    for (int64_t t = 0; t < adapters; ++t) {
        for (int64_t j = 0; j < rank; ++j) {
            float* to = scaled.data() + (t * rank + j) * in_features;
            const float* from = lora_a.at(t, j);
            for (int64_t k = 0; k < in_features; ++k) to[k] = scaling[static_cast<size_t>(t)] * from[k];
        }
    }
    const auto* bytes = reinterpret_cast<const std::byte*>(scaled.data());
    const MatrixView<const std::byte> view{bytes, adapters * rank, in_features, in_features * int64_t{sizeof(float)}};
    return {{{WeightFormat::f32, view, {}}}, dtype, Gate::none, order.isa};
}

}  // namespace

PackedLora::PackedLora(const HeadsView<const float>& lora_a, const HeadsView<const float>& lora_b,
                       const std::vector<float>& scaling, const PanelOrder& order)
    : order_(order),
      num_adapters_(lora_a.rows),
      rank_(lora_a.heads),
      a_(packed_a(lora_a, lora_b, scaling, order, shrink_dtype())),
      segments_(static_cast<size_t>(order.num_panels() * lora_a.rows)) {
    const int64_t columns = order.columns, num_panels = order.num_panels();
    const int64_t per_word = values_per_word(expand_dtype()), depth = words_for(expand_dtype(), rank_);
    // Word j of an adapter's B in a column.
    const auto word = [&](int64_t panel, int64_t column, int64_t adapter, int64_t j) {
        const int64_t row = order_.row_of(panel, column);
        float values[2] = {0.0f, 0.0f};
        for (int64_t i = 0; i < per_word && row >= 0 && j * per_word + i < rank_; ++i) {
            values[i] = lora_b.at(adapter, row)[j * per_word + i];
            if (values[i] == 0.0f) values[i] = 0.0f;  // -0 as well: zero words are told by their bits
        }
        return word_of(expand_dtype(), values, 1.0f);
    };
    const auto each_segment = [&](auto&& body) {
        parallel_for(num_panels, [&](int64_t panel) {
            for (int64_t t = 0; t < num_adapters_; ++t) {
                body(panel, t, segments_[static_cast<size_t>(panel * num_adapters_ + t)]);
            }
        });
    };
    each_segment([&](int64_t panel, int64_t t, LoraSegment& segment) {
        int64_t first = depth, last = 0;
        for (int64_t column = 0; column < columns; ++column) {
            for (int64_t j = 0; j < depth; ++j) {
                if (word(panel, column, t, j) == 0) continue;
                first = std::min(first, j);
                last = std::max(last, j + 1);
            }
        }
        segment = {nullptr, last > first ? first : 0, std::max<int64_t>(last - first, 0)};
    });
    for (const auto& segment : segments_) num_words_ += segment.depth * columns;
    words_ = allocate_words(std::max<int64_t>(num_words_, 1));
    Word* next = words_.get();
    for (auto& segment : segments_) {
        segment.panel = next;
        next += segment.depth * columns;
    }
    each_segment([&](int64_t panel, int64_t t, const LoraSegment& segment) {
        Word* packed = words_.get() + (segment.panel - words_.get());
        for (int64_t j = 0; j < segment.depth; ++j) {
            for (int64_t column = 0; column < columns; ++column) {
                packed[j * columns + column] = word(panel, column, t, segment.first + j);
            }
        }
    });
}

void PackedLora::unpack(const HeadsView<float>& lora_a, const HeadsView<float>& lora_b) const {
    std::vector<float> no_bias(static_cast<size_t>(a_.rows()));
    a_.unpack({lora_a.data, a_.rows(), in_features(), in_features()}, no_bias.data());
    const int64_t per_word = values_per_word(expand_dtype());
    for (int64_t t = 0; t < num_adapters_; ++t) {
        for (int64_t row = 0; row < order_.rows; ++row) std::fill_n(lora_b.at(t, row), rank_, 0.0f);
        for (int64_t panel = 0; panel < order_.num_panels(); ++panel) {
            const LoraSegment& segment = segments_[static_cast<size_t>(panel * num_adapters_ + t)];
            for (int64_t column = 0; column < order_.columns; ++column) {
                const int64_t row = order_.row_of(panel, column);
                if (row < 0) continue;
                for (int64_t i = 0; i < segment.depth * per_word; ++i) {
                    const int64_t j = segment.first * per_word + i;
                    if (j >= rank_) break;
                    const Word word = segment.panel[i / per_word * order_.columns + column];
                    lora_b.at(t, row)[j] = value_in(expand_dtype(), word, i % per_word);
                }
            }
        }
    }
}

}  // namespace longspan
