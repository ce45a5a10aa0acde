// A tile of query rows and a run of key rows, as kernel.h goes through them.

namespace longspan::LONGSPAN_ISA {
namespace {

constexpr int64_t kTileVectors = F32::kLanes == 4 ? 2 : 3;
constexpr int64_t kTileRows = kTileVectors * F32::kLanes;
static_assert(kAttentionRows % kTileRows == 0);

constexpr int64_t least(int64_t a, int64_t b) {
    return a < b ? a : b;
}
constexpr int64_t most(int64_t a, int64_t b) {
    return a > b ? a : b;
}

struct Tile {
    int64_t head;                 // query head
    int64_t first_row, num_rows;  // in the sequence
    int64_t position;             // of the first row
    int64_t first_key, last_key;  // [first_key, last_key): keys that any of its rows sees, from the start of a unit on
    float* queries;               // (units of head_dim, vectors * lanes), rotated
    float* outputs;               // (head_dim, output_stride): the weighted sum so far
    float *top, *sum;             // (vectors * lanes,)
    float *floats, *scales;       // of whole numbers: the queries (head_dim, vectors * lanes), and their scales
    bool is_bounded;              // its softmax needs no maximum (bounded.h)
    int64_t output_stride;        // vectors * lanes; of tiles together, whose outputs are one matrix, all their rows

    int64_t vectors() const { return (num_rows + F32::kLanes - 1) / F32::kLanes; }
};

// What is kept of a tile beside its state.
struct TileNotes {
    int64_t reach;  // ScoreBounds::reach_of()
    bool is_bounded;
};

// A run of key rows and value rows, where they lie or staged.
struct KeyRun {
    int64_t first, last;         // keys of the sequence
    const float *keys, *values;  // (keys, units of head_dim), (units of keys, head_dim)
    const float* mean;           // of whole numbers: (head_dim,)
    int64_t key_stride, value_stride;
};

}  // namespace
}  // namespace longspan::LONGSPAN_ISA
