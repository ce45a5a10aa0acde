// Norms of rows, which bound what a query's scores can be.

namespace longspan::LONGSPAN_ISA {
namespace {

// The largest norm of `count` rows of one head; NaN or infinite if a value is.
template <class Kind>
float largest_norm(const HeadsView<const float>& view, int64_t first, int64_t count, int64_t head) {
    float largest = 0.0f;
    for (int64_t row = first; row < first + count; ++row) {
        const float* values = view.at(row, head);
        F32 squares = F32::zero();
        for (int64_t d = 0; d < view.head_dim; d += F32::kLanes) {
            const F32 x = F32::load_first(values + d, least(F32::kLanes, view.head_dim - d));
            if constexpr (Kind::kIsPlain) squares = Kind::multiply_add(x, x, squares);  // in its units
            if constexpr (!Kind::kIsPlain) squares = fma(x, x, squares);
        }
        const float square = sum(squares);
        largest = square > largest || square != square ? square : largest;
    }
    return max_lane(sqrt(F32::all(largest)));
}

// By how much RoPE may lengthen a key: tables need not be of angles alone. At least 1; NaN if a value is.
inline float largest_turn(const AttentionArgs& args, int64_t table_start, int64_t num_keys) {
    F32 largest = F32::all(1.0f), poison = F32::zero();
    for (int64_t row = table_start; row < table_start + num_keys; ++row) {
        for (int64_t p = 0; p < args.cos.cols; p += F32::kLanes) {
            const int64_t count = least(F32::kLanes, args.cos.cols - p);
            const F32 c = F32::load_first(args.cos.row(row) + p, count);
            const F32 s = F32::load_first(args.sin.row(row) + p, count);
            const F32 square = fma(c, c, s * s);
            largest = max(square, largest);
            poison = fma(square, F32::zero(), poison);
        }
    }
    return max_lane(sqrt(largest)) + sum(poison);
}

}  // namespace
}  // namespace longspan::LONGSPAN_ISA
