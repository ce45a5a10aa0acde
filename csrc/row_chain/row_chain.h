// row_chain: what happens to each token by itself, between two attentions, block of rows by block of rows.
//   A chain is a list of steps on numbered values, each (rows, width) f32:
//   multiply: target = activation(source W^T + each row's adapter) + residual (linear.h)
//   mlp:      target = activation(source U^T + ...) D^T + ... + residual (linear.h)
//   norm:     target = layer_norm or rms_norm of source + residual (layer_norm.h)
//   add:      target = source + residual
// One task takes a block of rows through all steps, so that what lies between them stays in a core's L2 cache: values
// that only steps see, temporaries, never exist for all rows at once. Rows too few for that, or steps whose weights are
// too many, go through each step together, and the step's op cuts its own work.
// The ops give a row the same bits in any company, and so does a chain: those of its ops, called one after the other.
// FLOPs are the steps'. Of activations, bytes are those of the values that a call binds to memory; weights are read
// once a block of 28 to 84 rows and a thread, from the L3 cache. Where they do not fit there, that would be from
// memory: step by step, all threads read them together, once for as many blocks of 168 rows as there are threads.
#pragma once

#include <cstdint>
#include <variant>
#include <vector>

#include "core/tensor_view.h"
#include "layer_norm/layer_norm.h"
#include "linear/linear.h"
#include "linear/packed.h"

namespace longspan {

// Values 0 ... num_bound - 1 are bound by a call, those from there on are temporaries. A residual of -1 is none.
struct ChainProduct {
    int source, residual, target;
    const PackedLinear* weights;
    const PackedLora* lora;  // null: none
    Activation activation;
};
struct ChainMlp {
    int source, residual, target;
    Mlp weights;
};
struct ChainNorm {
    int source, residual, target;
    VectorView<const float> weight, bias;  // (dim,); bias: data null for none
    float eps;
    bool is_centred;                // layer_norm, else rms_norm
    int64_t first_column, columns;  // of all three values, `columns` / dim groups; the others are left alone
};
struct ChainAdd {
    int source, residual, target;
};
using ChainStep = std::variant<ChainProduct, ChainMlp, ChainNorm, ChainAdd>;

// A value that a call binds to memory: f32, or bf16, which only products write, rounding their outputs.
struct ChainValue {
    MatrixView<float> floats;      // data null: bf16
    MatrixView<uint16_t> rounded;  // data null: f32

    int64_t rows() const { return floats.data == nullptr ? rounded.rows : floats.rows; }
    int64_t cols() const { return floats.data == nullptr ? rounded.cols : floats.cols; }
};

class RowChain {
public:
    explicit RowChain(int num_bound) : num_bound_(num_bound), widths_(static_cast<size_t>(num_bound), -1) {}

    // What the step points to must outlive the chain. Throws std::invalid_argument where its widths do not fit those
    // of its values: each value's is that of the first product which names it.
    void add(const ChainProduct& step);
    void add(const ChainMlp& step);
    void add(const ChainNorm& step);
    void add(const ChainAdd& step);

    // Throws std::invalid_argument on values of other shapes than the steps say, and what the steps' ops throw. Ids are
    // read by products with adapters; data null: every row is without.
    void run(const std::vector<ChainValue>& bound, const VectorView<const int32_t>& lora_ids) const;

private:
    class Rows;

    void use(const char* step, const char* role, int value, int64_t width);
    bool takes_bf16(int value) const;
    void check(const std::vector<ChainValue>& bound, const VectorView<const int32_t>& lora_ids) const;
    void run_rows(const std::vector<ChainValue>& bound, const VectorView<const int32_t>& lora_ids, int64_t first_row,
                  int64_t last_row) const;

    int num_bound_;
    std::vector<ChainStep> steps_;
    std::vector<int64_t> widths_;  // of each value; -1: no step has said
    int64_t temporary_width_ = 0;  // of all temporaries together
    int64_t weight_bytes_ = 0;     // of all steps
};

}  // namespace longspan
