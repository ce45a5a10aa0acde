// From a finished tile's sums to outputs: bias, activation, gate, residual. For kernel.h, once an instruction set.

namespace longspan::LONGSPAN_ISA {
namespace {

template <Activation kActivation>
inline F32 activate(F32 u) {
    if constexpr (kActivation == Activation::relu) return max(F32::zero(), u);
    if constexpr (kActivation == Activation::gelu) return gelu(u);
    if constexpr (kActivation == Activation::gelu_tanh) return gelu_tanh(u);
    if constexpr (kActivation == Activation::silu) return u * sigmoid(u);
    if constexpr (kActivation == Activation::tanh) return tanh(u);
    return u;
}

inline void write(F32 y, const float* residual, float* out, int64_t lanes) {
    if (lanes >= kLanes) {
        if (residual != nullptr) y = y + F32::load(residual);
        y.store(out);
    } else if (lanes > 0) {
        if (residual != nullptr) y = y + F32::load_first(residual, lanes);
        y.store_first(out, lanes);
    }
}

// For rows from first_row on.
template <class Values, Activation kActivation>
void finish(const LinearArgs& args, const Word* sums, int64_t first_row, int64_t rows, int64_t panel) {
    const Values values(args, panel);
    const F32 low_bias = F32::load(args.weights.bias + panel * kColumns);
    const F32 high_bias = F32::load(args.weights.bias + panel * kColumns + kLanes);
    const bool is_gated = args.weights.is_gated;
    const int64_t column = panel * (is_gated ? kLanes : kColumns);
    const int64_t left = args.weights.out_features - column;
    for (int64_t r = 0; r < rows; ++r) {
        const F32 low = values.at(sums + r * kColumns, first_row + r, 0) + low_bias;
        const F32 high = values.at(sums + r * kColumns, first_row + r, 1) + high_bias;
        float* out = args.out.row(first_row + r) + column;
        const float* residual = args.residual.data == nullptr ? nullptr : args.residual.row(first_row + r) + column;
        const F32 activated = activate<kActivation>(low);
        if (is_gated) {
            write(activated * high, residual, out, left);
        } else {
            write(activated, residual, out, left);
            write(activate<kActivation>(high), residual == nullptr ? nullptr : residual + kLanes, out + kLanes,
                  left - kLanes);
        }
    }
}

using FinishFn = void(const LinearArgs&, const Word*, int64_t, int64_t, int64_t);

template <class Values>
FinishFn* finish_for(Activation activation) {
    switch (activation) {
        case Activation::none:
            return finish<Values, Activation::none>;
        case Activation::relu:
            return finish<Values, Activation::relu>;
        case Activation::gelu:
            return finish<Values, Activation::gelu>;
        case Activation::gelu_tanh:
            return finish<Values, Activation::gelu_tanh>;
        case Activation::silu:
            return finish<Values, Activation::silu>;
        case Activation::tanh:
            return finish<Values, Activation::tanh>;
    }
    return nullptr;
}

// A tile's sums to what they mean, as floats, in place: what the adapters' sums can be added to.
template <class Values>
void settle(const LinearArgs& args, Word* sums, int64_t first_row, int64_t rows, int64_t panel) {
    const Values values(args, panel);
    for (int64_t r = 0; r < rows; ++r) {
        for (int vector = 0; vector < 2; ++vector) {
            const F32 value = values.at(sums + r * kColumns, first_row + r, vector);
            value.store(reinterpret_cast<float*>(sums + r * kColumns + vector * kLanes));
        }
    }
}

}  // namespace
}  // namespace longspan::LONGSPAN_ISA
