// PackedLinear: the weights and bias of a linear layer in the layout of one instruction set's kernel. PackedLora:
// low-rank adapters of such a layer. Both own their memory.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "core/isa.h"
#include "core/tensor_view.h"
#include "linear/linear.h"
#include "linear/words.h"

namespace longspan {

// Which half of a gated layer's outputs goes through the activation; the other half is multiplied by it.
enum class Gate { none, first, second };

// Weights to pack: parts stacked by rows, such as the query, key and value projections of one layer.
struct LinearPart {
    WeightFormat format;
    MatrixView<const std::byte> weight;  // (rows, in_features) in that format; row_stride in bytes
    VectorView<const float> bias;        // (rows,); data null: zeros
    float scaling = 1.0f;                // of the weights
};

// Which row of the weights each column of each panel holds, and in what words.
struct PanelOrder {
    Isa isa;  // of the kernel
    Dtype dtype;
    Gate gate;
    int64_t rows;  // of the weights
    PanelShape panel;

    static PanelOrder of(Isa isa, Dtype dtype, Gate gate, int64_t rows);

    int64_t out_features() const { return gate == Gate::none ? rows : rows / 2; }
    int64_t num_panels() const;
    int64_t row_of(int64_t number, int64_t column) const;  // of a panel; -1: padding
    bool operator==(const PanelOrder&) const = default;
};

struct FreeWords {
    size_t mapped;  // bytes; 0: they are of the heap
    void operator()(Word* words) const;
};
using Words = std::unique_ptr<Word[], FreeWords>;
// At a cache line's alignment; in huge pages where it pays and they are to be had.
Words allocate_words(int64_t count);

class PackedLinear {
public:
    // Packs for the instruction set in force, or for `isa`. Throws std::invalid_argument on shapes that do not fit
    // together, and on more inputs than i8 can sum.
    PackedLinear(const std::vector<LinearPart>& parts, Dtype dtype, Gate gate, std::optional<Isa> isa = std::nullopt);

    const PanelOrder& order() const { return order_; }
    Isa isa() const { return order_.isa; }
    Dtype dtype() const { return order_.dtype; }
    Gate gate() const { return order_.gate; }
    int64_t in_features() const { return view_.in_features; }
    int64_t out_features() const { return view_.out_features; }  // of the output: half the rows if gated
    int64_t rows() const { return order_.rows; }
    int64_t nbytes() const { return num_words_ * int64_t{sizeof(Word)}; }
    const PackedView& view() const { return view_; }

    // The weights as they are multiplied, rounded to their dtype, and the bias as it came, parts stacked. Shapes
    // (rows(), in_features()) and (rows(),).
    void unpack(const MatrixView<float>& weight, float* bias) const;

private:
    PanelOrder order_;
    int64_t num_words_ = 0;
    Words words_;
    PackedView view_;
};

// n adapters of one rank; those of a lower one are padded with zeros by whoever made them.
class PackedLora {
public:
    // lora_a (n, rank, in_features), lora_b (n, order.rows, rank), scaling (n,), which A takes in.
    // Throws std::invalid_argument on shapes that do not fit together.
    PackedLora(const HeadsView<const float>& lora_a, const HeadsView<const float>& lora_b,
               const std::vector<float>& scaling, const PanelOrder& order);

    const PanelOrder& order() const { return order_; }   // of the layer that they adapt
    Dtype shrink_dtype() const { return order_.dtype; }  // A's
    Dtype expand_dtype() const { return order_.dtype == Dtype::f32 ? Dtype::f32 : Dtype::bf16; }  // B's
    PanelShape expand_panel() const;
    int64_t num_adapters() const { return num_adapters_; }
    int64_t rank() const { return rank_; }
    int64_t in_features() const { return a_.in_features(); }
    int64_t nbytes() const { return a_.nbytes() + num_words_ * int64_t{sizeof(Word)}; }
    const PackedLinear& a() const { return a_; }  // (n * rank, in_features), not gated
    const LoraSegment* segments() const { return segments_.data(); }

    // What unpacks to the same adapters with a scaling of 1. Shapes as in the constructor.
    void unpack(const HeadsView<float>& lora_a, const HeadsView<float>& lora_b) const;

private:
    PanelOrder order_;
    int64_t num_adapters_;
    int64_t rank_;
    PackedLinear a_;
    std::vector<LoraSegment> segments_;  // (panels, n)
    int64_t num_words_ = 0;
    Words words_;
};

}  // namespace longspan
