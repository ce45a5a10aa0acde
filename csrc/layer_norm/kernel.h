// The kernel, once for every instruction set: included by portable.cpp, avx2.cpp and avx512.cpp.

#include "layer_norm/layer_norm.h"

namespace longspan::LONGSPAN_ISA {
namespace {

// Calls body(column, lanes) over [0, dim): whole vectors, then the rest.
template <class Body>
inline void for_each_vector(int64_t dim, Body&& body) {
    int64_t column = 0;
    for (; column + F32::kLanes <= dim; column += F32::kLanes) body(column, F32::kLanes);
    if (column < dim) body(column, dim - column);
}

// Adds up vectors in four sums that are joined at the end: shorter chains, so less latency and a smaller error.
struct Accumulator {
    F32 parts[4] = {F32::zero(), F32::zero(), F32::zero(), F32::zero()};

    static int64_t part_of(int64_t column) { return column / F32::kLanes % 4; }
    void add(int64_t column, F32 value) { parts[part_of(column)] = parts[part_of(column)] + value; }
    void add_square(int64_t column, F32 value) { parts[part_of(column)] = fma(value, value, parts[part_of(column)]); }
    float total() const { return sum((parts[0] + parts[1]) + (parts[2] + parts[3])); }
};

// out = x + residual; returns the sum of the row.
inline float add_residual(const float* x, const float* residual, int64_t dim, float* out) {
    Accumulator total;
    for_each_vector(dim, [&](int64_t i, int64_t lanes) {
        F32 z = F32::load_first(x + i, lanes);
        if (residual != nullptr) z = z + F32::load_first(residual + i, lanes);
        z.store_first(out + i, lanes);
        total.add(i, z);
    });
    return total.total();
}

inline float sum_of_squares(const float* z, float mean, int64_t dim) {
    Accumulator total;
    for_each_vector(dim, [&](int64_t i, int64_t lanes) {
        // Lanes past the row must count as the mean, not as 0.
        const F32 centred = F32::load_first(z + i, lanes) - F32::all(mean);
        if (lanes == F32::kLanes) {
            total.add_square(i, centred);
        } else {
            float rest[F32::kLanes] = {};
            centred.store_first(rest, lanes);
            total.add_square(i, F32::load(rest));
        }
    });
    return total.total();
}

}  // namespace

void layer_norm(const LayerNormArgs& args, int64_t first, int64_t last) {
    const int64_t dim = args.x.head_dim;
    const float per_dim = 1.0f / static_cast<float>(dim);
    for (int64_t i = first; i < last; ++i) {
        const int64_t row = i / args.x.heads, group = i % args.x.heads;
        const float* residual = args.residual.data == nullptr ? nullptr : args.residual.at(row, group);
        float* out = args.out.at(row, group);
        const float total = add_residual(args.x.at(row, group), residual, dim, out);
        const float mean = args.is_centred ? total * per_dim : 0.0f;
        const float variance = sum_of_squares(out, mean, dim) * per_dim;
        const F32 scale = F32::all(1.0f) / sqrt(F32::all(variance + args.eps));
        for_each_vector(dim, [&](int64_t at, int64_t lanes) {
            F32 y = (F32::load_first(out + at, lanes) - F32::all(mean)) * scale;
            y = y * F32::load_first(args.weight.data + at, lanes);
            if (args.bias) y = y + F32::load_first(args.bias.data + at, lanes);
            y.store_first(out + at, lanes);
        });
    }
}

}  // namespace longspan::LONGSPAN_ISA
