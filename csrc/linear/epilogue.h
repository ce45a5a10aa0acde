// From a finished tile's sums to outputs: bias, activation, gate, residual or staging. For kernel.h, once an
// instruction set.

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

// Where a panel's outputs go, one register of a row or two: rows of a matrix, with the residual added,
class ToMatrix {
public:
    ToMatrix(const LinearArgs& args, int64_t column)
        : args_(args), column_(column), left_(args.weights.out_features - column) {}

    void put(int64_t row, F32 y) {
        const float* residual = args_.residual.data == nullptr ? nullptr : args_.residual.row(row) + column_;
        put(y, residual, args_.out.row(row) + column_, left_);
    }
    void put(int64_t row, F32 low, F32 high) {
        put(row, low);
        const int64_t column = column_ + kLanes;
        const float* residual = args_.residual.data == nullptr ? nullptr : args_.residual.row(row) + column;
        put(high, residual, args_.out.row(row) + column, left_ - kLanes);
    }

private:
    static void put(F32 y, const float* residual, float* out, int64_t left) {
        if (left >= kLanes) {
            if (residual != nullptr) y = y + F32::load(residual);
            y.store(out);
        } else if (left > 0) {
            if (residual != nullptr) y = y + F32::load_first(residual, left);
            y.store_first(out, left);
        }
    }

    const LinearArgs& args_;
    int64_t column_, left_;
};

// or the next product's rows, as stage_rows() would make them of the matrix.
template <class Kind>
class ToStaged {
public:
    ToStaged(const LinearArgs& args, int64_t column) {
        constexpr int64_t kBlock = kDepth<Kind> * values_per_word(Kind::kDtype);
        first_ = words_of(column % kBlock);
        words_ = args.next.words + column / kBlock * args.next.rows * kStride + first_;
        left_ = args.weights.out_features - column;
    }

    void put(int64_t row, F32 y) {
        alignas(64) float values[kLanes];
        y.store(values);
        stage<kLanes>(row, values);
    }
    void put(int64_t row, F32 low, F32 high) {
        alignas(64) float values[kColumns];
        low.store(values);
        high.store(values + kLanes);
        stage<kColumns>(row, values);
    }

private:
    static constexpr int64_t words_of(int64_t values) { return values / values_per_word(Kind::kDtype) * Kind::kParts; }

    template <int64_t kCount>
    void stage(int64_t row, float* values) const {
        for (int64_t i = left_; i < kCount; ++i) values[i] = 0.0f;
        alignas(64) Word staged[words_of(kCount) + kLanes];  // some kinds write whole registers
        Kind::stage(values, kCount, staged);
        Word* const to = words_ + row * kStride;
        std::memcpy(to, staged, words_of(kCount) * sizeof(Word));
        if constexpr (Kind::kPanel.step > words_of(kCount)) {  // up to a whole step behind the last output
            if (left_ > kCount) return;
            for (int64_t i = words_of(kCount); (first_ + i) % Kind::kPanel.step != 0; ++i) to[i] = 0;
        }
    }

    int64_t first_;  // of the K block's words
    Word* words_;
    int64_t left_;  // columns from the first on that are the next product's
};

// or rows of bf16.
class ToBf16 {
public:
    ToBf16(const LinearArgs& args, int64_t column)
        : out_(args.rounded), column_(column), left_(args.weights.out_features - column) {}

    void put(int64_t row, F32 y) {
        alignas(64) float values[kLanes];
        y.store(values);
        round<kLanes>(row, values);
    }
    void put(int64_t row, F32 low, F32 high) {
        alignas(64) float values[kColumns];
        low.store(values);
        high.store(values + kLanes);
        round<kColumns>(row, values);
    }

private:
    template <int64_t kCount>
    void round(int64_t row, const float* values) const {
        alignas(64) uint16_t rounded[2 * kCount];
        if constexpr (Bf16Kind::kParts == 1) {
            alignas(64) Word words[kCount];  // pairs, in order
            Bf16Kind::stage(values, kCount, words);
            std::memcpy(rounded, words, kCount * sizeof(uint16_t));
        } else {
            for (int64_t i = 0; i < kCount; ++i) {
                Word bits;
                std::memcpy(&bits, values + i, sizeof bits);
                rounded[i] = static_cast<uint16_t>(round_to_bf16(bits) >> 16);
            }
        }
        uint16_t* const out = out_.row(row) + column_;
        if (left_ >= kCount) {
            std::memcpy(out, rounded, kCount * sizeof(uint16_t));
        } else {
            for (int64_t i = 0; i < left_; ++i) out[i] = rounded[i];
        }
    }

    MatrixView<uint16_t> out_;
    int64_t column_, left_;
};

template <Saturation kSaturation>
inline F32 saturated(F32 u) {
    if constexpr (kSaturation == Saturation::none) return u;
    const F32 once = log1p(max(F32::zero(), u));
    return kSaturation == Saturation::log1p ? once : log1p(once);
}

template <Saturation kSaturation>
void saturate_as(float* values, int64_t count) {
    for (int64_t i = 0; i < count; i += kLanes) {
        const int64_t lanes = at_most(count - i, kLanes);
        saturated<kSaturation>(F32::load_first(values + i, lanes)).store_first(values + i, lanes);
    }
}
inline void saturate_values(float* values, int64_t count, Saturation saturation) {
    if (saturation == Saturation::log1p) saturate_as<Saturation::log1p>(values, count);
    if (saturation == Saturation::log1p_twice) saturate_as<Saturation::log1p_twice>(values, count);
}

// or what is pooled over each sequence's rows: a run of them in registers, then the sequence's row of the result.
template <bool kIsSum, Saturation kSaturation>
class ToPooled {
public:
    ToPooled(const LinearArgs& args, int64_t column)
        : pooled_(args.pooled), column_(column), left_(args.weights.out_features - column) {}
    ToPooled(const ToPooled&) = delete;
    ~ToPooled() { store(); }

    void put(int64_t, F32) {}  // of gated weights, which are not pooled
    void put(int64_t row, F32 low, F32 high) {
        if (const int64_t sequence = pooled_.sequences[row]; sequence != sequence_) {
            store();
            sequence_ = sequence;
            const float* at = pooled_.out.row(sequence) + column_;
            low_ = F32::load_first(at, lanes(left_));
            high_ = F32::load_first(at + kLanes, lanes(left_ - kLanes));
        }
        low_ = joined(low_, low);
        high_ = joined(high_, high);
    }

private:
    static int64_t lanes(int64_t left) { return left < 0 ? 0 : at_most(left, kLanes); }

    static F32 joined(F32 so_far, F32 u) {
        if constexpr (kIsSum) return so_far + saturated<kSaturation>(u);
        return max(u, so_far) + (u - u);  // max alone would forget a NaN
    }

    void store() const {
        if (sequence_ < 0) return;
        float* at = pooled_.out.row(sequence_) + column_;
        low_.store_first(at, lanes(left_));
        high_.store_first(at + kLanes, lanes(left_ - kLanes));
    }

    const PooledRows& pooled_;
    int64_t column_, left_;
    int64_t sequence_ = -1;
    F32 low_ = F32::zero(), high_ = F32::zero();
};

template <class Values, class Outputs, Activation kActivation>
void finish(const LinearArgs& args, Tile tile, int64_t rows, int64_t panel) {
    const Values values(args, panel);
    const F32 low_bias = F32::load(args.weights.bias + panel * kColumns);
    const F32 high_bias = F32::load(args.weights.bias + panel * kColumns + kLanes);
    const bool is_gated = args.weights.is_gated;
    Outputs outputs(args, panel * (is_gated ? kLanes : kColumns));
    for (int64_t r = 0; r < rows; ++r) {
        const F32 low = values.at(tile, r, 0) + low_bias;
        const F32 high = values.at(tile, r, 1) + high_bias;
        const F32 activated = activate<kActivation>(low);
        if (is_gated) {
            outputs.put(tile.first_row + r, activated * high);
        } else {
            outputs.put(tile.first_row + r, activated, activate<kActivation>(high));
        }
    }
}

using FinishFn = void(const LinearArgs&, Tile, int64_t, int64_t);

template <class Values, class Outputs>
FinishFn* finish_for(Activation activation) {
    switch (activation) {
        case Activation::none:
            return finish<Values, Outputs, Activation::none>;
        case Activation::relu:
            return finish<Values, Outputs, Activation::relu>;
        case Activation::gelu:
            return finish<Values, Outputs, Activation::gelu>;
        case Activation::gelu_tanh:
            return finish<Values, Outputs, Activation::gelu_tanh>;
        case Activation::silu:
            return finish<Values, Outputs, Activation::silu>;
        case Activation::tanh:
            return finish<Values, Outputs, Activation::tanh>;
    }
    return nullptr;
}

template <class Values>
FinishFn* finish_pooled(const PooledRows& pooled) {
    if (!pooled.is_sum) return finish<Values, ToPooled<false, Saturation::none>, Activation::none>;
    switch (pooled.saturation) {
        case Saturation::none:
            return finish<Values, ToPooled<true, Saturation::none>, Activation::none>;
        case Saturation::log1p:
            return finish<Values, ToPooled<true, Saturation::log1p>, Activation::none>;
        case Saturation::log1p_twice:
            return finish<Values, ToPooled<true, Saturation::log1p_twice>, Activation::none>;
    }
    return nullptr;
}

}  // namespace
}  // namespace longspan::LONGSPAN_ISA
