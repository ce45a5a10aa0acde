// PackedLinear: the weights and bias of a linear layer in the layout of one instruction set's kernel. Owns its memory.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "core/isa.h"
#include "core/tensor_view.h"
#include "linear/linear.h"

namespace longspan {

// Which half of a gated layer's outputs goes through the activation; the other half is multiplied by it.
enum class Gate { none, first, second };

// Weights to pack: parts stacked by rows, such as the query, key and value projections of one layer.
struct LinearPart {
    MatrixView<const float> weight;  // (rows, in_features)
    VectorView<const float> bias;    // (rows,); data null: zeros
};

class PackedLinear {
public:
    // Packs for the instruction set in force. Throws std::invalid_argument on shapes that do not fit together.
    PackedLinear(const std::vector<LinearPart>& parts, Gate gate);

    Isa isa() const { return isa_; }
    Gate gate() const { return gate_; }
    int64_t in_features() const { return view_.in_features; }
    int64_t out_features() const { return view_.out_features; }  // of the output: half the rows if gated
    int64_t rows() const { return gate_ == Gate::none ? out_features() : 2 * out_features(); }
    int64_t nbytes() const { return num_floats_ * int64_t{sizeof(float)}; }
    const PackedView& view() const { return view_; }

    // The weights and the bias as they came, parts stacked. Shapes (rows(), in_features()) and (rows(),).
    void unpack(const MatrixView<float>& weight, float* bias) const;

private:
    struct FreeFloats {
        size_t alignment;
        void operator()(float* floats) const;
    };

    int64_t row_of(int64_t panel, int64_t column) const;  // of the stacked weights; -1: padding

    Isa isa_;
    Gate gate_;
    int64_t columns_;  // of a panel
    int64_t num_floats_ = 0;
    std::unique_ptr<float[], FreeFloats> floats_;
    PackedView view_;
};

}  // namespace longspan
