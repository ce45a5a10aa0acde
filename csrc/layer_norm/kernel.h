// The kernel, once for every instruction set: included by portable.cpp, avx2.cpp and avx512.cpp.

#include <type_traits>

#include "layer_norm/layer_norm.h"

namespace longspan::LONGSPAN_ISA {
namespace {

constexpr int kParts = 4;  // of a sum: shorter chains, so less latency and a smaller error
template <int kPart>
using Part = std::integral_constant<int, kPart>;

// Calls body(part, column, lanes) over [0, dim): whole vectors, then the rest; vector v belongs to part v % kParts, a
// constant, so that the sums stay in registers.
template <class Body>
inline void for_each_vector(int64_t dim, Body&& body) {
    constexpr int64_t kLanes = F32::kLanes;
    int64_t column = 0;
    for (; column + kParts * kLanes <= dim; column += kParts * kLanes) {
        body(Part<0>{}, column, kLanes);
        body(Part<1>{}, column + kLanes, kLanes);
        body(Part<2>{}, column + 2 * kLanes, kLanes);
        body(Part<3>{}, column + 3 * kLanes, kLanes);
    }
    const auto rest = [&](auto part) {
        if (column < dim) body(part, column, dim - column < kLanes ? dim - column : kLanes);
        column += kLanes;
    };
    rest(Part<0>{});
    rest(Part<1>{});
    rest(Part<2>{});
    rest(Part<3>{});
}

// As load_first and store_first, with the short way for a whole vector.
inline F32 load(const float* from, int64_t lanes) {
    return lanes == F32::kLanes ? F32::load(from) : F32::load_first(from, lanes);
}
inline void store(F32 value, float* to, int64_t lanes) {
    if (lanes == F32::kLanes) {
        value.store(to);
    } else {
        value.store_first(to, lanes);
    }
}

// A sum of vectors, its parts joined at the end.
struct Accumulator {
    F32 parts[kParts] = {F32::zero(), F32::zero(), F32::zero(), F32::zero()};

    template <int kPart>
    void add(Part<kPart>, F32 value) {
        parts[kPart] = parts[kPart] + value;
    }
    template <int kPart>
    void add_square(Part<kPart>, F32 value) {
        parts[kPart] = fma(value, value, parts[kPart]);
    }
    float total() const { return sum((parts[0] + parts[1]) + (parts[2] + parts[3])); }
};

// out = x + residual; returns the sum of the row.
inline float add_residual(const float* x, const float* residual, int64_t dim, float* out) {
    Accumulator total;
    for_each_vector(dim, [&](auto part, int64_t i, int64_t lanes) {
        F32 z = load(x + i, lanes);
        if (residual != nullptr) z = z + load(residual + i, lanes);
        store(z, out + i, lanes);
        total.add(part, z);
    });
    return total.total();
}

inline float sum_of_squares(const float* z, float mean, int64_t dim) {
    Accumulator total;
    for_each_vector(dim, [&](auto part, int64_t i, int64_t lanes) {
        const F32 centred = load(z + i, lanes) - F32::all(mean);
        if (lanes == F32::kLanes) {
            total.add_square(part, centred);
        } else {  // lanes past the row must count as the mean, not as 0
            float rest[F32::kLanes] = {};
            centred.store_first(rest, lanes);
            total.add_square(part, F32::load(rest));
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
        for_each_vector(dim, [&](auto, int64_t at, int64_t lanes) {
            F32 y = (load(out + at, lanes) - F32::all(mean)) * scale;
            y = y * load(args.weight.data + at, lanes);
            if (args.bias) y = y + load(args.bias.data + at, lanes);
            store(y, out + at, lanes);
        });
    }
}

}  // namespace longspan::LONGSPAN_ISA
