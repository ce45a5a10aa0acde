// Rows in, rows out: RoPE as rows load, query rows into lanes, results out of lanes.

namespace longspan::LONGSPAN_ISA {
namespace {

constexpr int64_t kLineFloats = 16;
// Rows that are asked for before they are read: the machine does not look ahead across the rows of other heads.
constexpr int64_t kRowsAhead = 16;

[[gnu::always_inline]] inline void prefetch(const float* place) {
#if defined(__GNUC__)
    __builtin_prefetch(place);
#else
    (void)place;
#endif
}

// Rows to stage: `count` of them now, `following` (count or more) before long.
struct Rows {
    const float* data;
    int64_t stride, count, following;
};

// row -> out (dim values), rotated by angles whose cosines and sines are given (half of each); values past 2 * half
// pass through.
inline void rotate_row(const float* row, const float* cos, const float* sin, int64_t half, bool interleaved,
                       int64_t dim, float* out) {
    if (interleaved) {
        for (int64_t p = 0; p < half; ++p) {
            const float a = row[2 * p], b = row[2 * p + 1];
            out[2 * p] = a * cos[p] - b * sin[p];
            out[2 * p + 1] = b * cos[p] + a * sin[p];
        }
    } else {
        const auto rotate = [&](int64_t p, auto load, auto store) {
            const F32 a = load(row + p), b = load(row + half + p), c = load(cos + p), s = load(sin + p);
            store(a * c - b * s, out + p);
            store(b * c + a * s, out + half + p);
        };
        int64_t p = 0;
        for (; p + F32::kLanes <= half; p += F32::kLanes) {
            rotate(p, [](const float* x) { return F32::load(x); }, [](F32 y, float* to) { y.store(to); });
        }
        if (const int64_t rest = half - p; rest > 0) {
            rotate(
                p, [&](const float* x) { return F32::load_first(x, rest); },
                [&](F32 y, float* to) { y.store_first(to, rest); });
        }
    }
    for (int64_t d = 2 * half; d < dim; ++d) out[d] = row[d];
}

// Asks for a row. Inlined by force: GCC takes a function that only prefetches for one without effect, and drops its
// calls.
[[gnu::always_inline]] inline void fetch_row(const float* row, int64_t dim) {
    for (int64_t d = 0; d < dim; d += kLineFloats) prefetch(row + d);
}

// rows -> tight rows of units; rotated, where the tables are given, by their rows table_row, table_row + 1, ...;
// `turned` has room for a row.
template <class Kind>
void stage_rows(const Rows& rows, int64_t dim, const AttentionArgs& args, int64_t table_row, float* turned,
                float* out) {
    const int64_t units = Kind::units(dim);
    for (int64_t row = 0; row < rows.count; ++row, out += units) {
        const float* from = rows.data + row * rows.stride;
        if (row + kRowsAhead < rows.following) fetch_row(from + kRowsAhead * rows.stride, Kind::row_floats(dim));
        if (args.cos.data != nullptr) {
            float* to = Kind::kIsPlain ? out : turned;
            rotate_row(from, args.cos.row(table_row + row), args.sin.row(table_row + row), args.cos.cols,
                       args.interleaved, dim, to);
            if constexpr (Kind::kIsPlain) continue;
            from = to;
        }
        Kind::pack_row(from, dim, out);
    }
}

// Value rows -> (units of keys, dim).
template <class Kind>
void stage_values(const Rows& rows, int64_t dim, float* out) {
    for (int64_t row = 0; row < rows.count; row += Kind::kPerUnit, out += dim) {
        const float* from = rows.data + row * rows.stride;
        for (int64_t i = kRowsAhead; i < kRowsAhead + Kind::kPerUnit; ++i) {
            if (row + i < rows.following) fetch_row(from + i * rows.stride, Kind::row_floats(dim));
        }
        if constexpr (Kind::kPerUnit == 1) {
            Kind::pack_row(from, dim, out);
        } else {
            // Beside the last one stands a row of zeros.
            Kind::join_rows(from, row + 1 == rows.count ? nullptr : from + rows.stride, dim, out);
        }
    }
}

// Rows (count <= kLanes of them) of dim units into one vector column of queries (dim, stride); the other lanes are 0.
inline void rows_to_lanes(const float* rows, int64_t row_stride, int64_t count, int64_t dim, float* queries,
                          int64_t stride) {
    for (int64_t d = 0; d < dim; d += F32::kLanes) {
        const int64_t width = dim - d < F32::kLanes ? dim - d : F32::kLanes;
        F32 square[F32::kLanes];
        if (width == F32::kLanes && count == F32::kLanes) {
#pragma GCC unroll 16
            for (int row = 0; row < F32::kLanes; ++row) square[row] = F32::load(rows + row * row_stride + d);
        } else {
            for (F32& row : square) row = F32::zero();
            for (int64_t row = 0; row < count; ++row) square[row] = F32::load_first(rows + row * row_stride + d, width);
        }
        transpose(square);
        float* out = queries + d * stride;
        if (width == F32::kLanes) {
#pragma GCC unroll 16
            for (int i = 0; i < F32::kLanes; ++i) square[i].store(out + i * stride);
        } else {
            for (int64_t i = 0; i < width; ++i) square[i].store(out + i * stride);
        }
    }
}

// One vector column of outputs (dim, stride) into `count` rows; each(lanes of a step) is what is stored.
template <class Each>
[[gnu::always_inline]] inline void lanes_to_rows(const float* outputs, int64_t stride, Each each, int64_t count,
                                                 int64_t dim, float* rows, int64_t row_stride) {
    for (int64_t d = 0; d < dim; d += F32::kLanes) {
        const int64_t width = dim - d < F32::kLanes ? dim - d : F32::kLanes;
        const float* column = outputs + d * stride;
        F32 square[F32::kLanes];
        if (width == F32::kLanes) {
#pragma GCC unroll 16
            for (int i = 0; i < F32::kLanes; ++i) square[i] = each(F32::load(column + i * stride));
        } else {
            for (F32& row : square) row = F32::zero();
            for (int64_t i = 0; i < width; ++i) square[i] = each(F32::load(column + i * stride));
        }
        transpose(square);
        if (width == F32::kLanes && count == F32::kLanes) {
#pragma GCC unroll 16
            for (int row = 0; row < F32::kLanes; ++row) square[row].store(rows + row * row_stride + d);
        } else {
            for (int64_t row = 0; row < count; ++row) square[row].store_first(rows + row * row_stride + d, width);
        }
    }
}

}  // namespace
}  // namespace longspan::LONGSPAN_ISA
