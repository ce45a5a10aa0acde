// attention_varlen on a Hopper GPU: softmax(q k^T * softmax_scale - slope * |i - j|) v within each packed sequence, as
// longspan/ops/attention_varlen.py says it, for f16 and bf16 rows with 64 or 128 values a head, without RoPE, tables
// and windows.
//   q, out (total_q, num_heads, head_dim)   k, v (total_k, num_kv_heads, head_dim)   cu_seqlens_* (num_sequences + 1)
//   slopes (num_heads,) f32 or null   lse (num_heads, total_q) f32 or null: the base-2 logarithm of each row's sum of
//   weights, +infinity where a query sees no key, as kernels/attention_varlen_backward.py reads it
// Rows and heads lie at multiples of 16 bytes, any number of them apart. Offsets stay on the GPU: nothing is waited
// for.
#pragma once

#include "core/cuda_tensor_map.h"

namespace longspan::cuda {

inline constexpr int kQueryRows = 64;                          // of a warpgroup
inline constexpr int kConsumers = 2;                           // warpgroups that multiply
inline constexpr int kTileQueries = kQueryRows * kConsumers;   // of one sequence and head
inline constexpr int kBlockKeys = 128;                         // that a tile meets at a time
inline constexpr int32_t kMostItems = (int64_t{1} << 30) - 1;  // tiles of all heads: numbers fit in 32 bits

// ---- blocks of keys as a warpgroup's queries see them ----

enum class Sight {
    whole,   // all keys, none of which needs a bias
    before,  // all keys, none behind any query: the bias is a term that rises with the key's place
    behind,  // all keys, none before any query: it falls
    edge     // keys need masks, or the distance of each pair
};

// Queries of a warpgroup, that stand at low .. low + rows - 1, beside the keys of their sequence.
struct Outlook {
    int32_t low, rows, len_k;
    bool is_causal, is_biased;

    // Keys that the last query sees, which sees most.
    __host__ __device__ int32_t seen() const {
        const int32_t through = low + rows;
        return !is_causal || through > len_k ? len_k : through > 0 ? through : 0;
    }
    __host__ __device__ Sight sight_of(int32_t block) const {
        const int32_t first = block * kBlockKeys, end = first + kBlockKeys;
        if (end > len_k || (is_causal && end > low + 1)) return Sight::edge;
        if (!is_biased) return Sight::whole;
        if (end <= low + 1) return Sight::before;
        return first >= low + rows - 1 ? Sight::behind : Sight::edge;
    }
    // Whether nothing is seen of the second half of the block's keys. So it can be in a tile's last block alone.
    __host__ __device__ bool needs_half(int32_t block) const { return seen() - block * kBlockKeys <= kBlockKeys / 2; }
};

// ---- the tiles ----

// A tile of queries. Query r of it stands at `low` + r among the sequence's keys.
struct alignas(16) Tile {
    int32_t row;         // its first query among all packed ones
    int32_t rows;        // its queries, up to kTileQueries; 0 where there is no tile
    int32_t low;         // below 0 where a sequence has more queries than keys
    int32_t start_k;     // the sequence's first key among all packed ones
    int32_t len_k;       // the sequence's keys
    int32_t num_blocks;  // of kBlockKeys keys, from the first on, that hold every key that some query sees
    int32_t head;        // filled in by who takes the tile
    int32_t unused;
};

// What a launch works through, made on the GPU by list_tiles: tiles of one head, those with most blocks first.
struct TileList {
    int32_t count;  // of `tiles`
    int32_t taken;  // items handed out, beyond one a block; an item is a tile and a head
    int32_t unused[2];
    Tile tiles[1];  // and more
};

// Slots of tiles: sequence s owns those from cu_seqlens[s] / kTileQueries + s up to that of s + 1: as many as it has
// tiles, and at most one more. So their number is known without the lengths.
__host__ __device__ inline int32_t first_slot(const int32_t* cu_seqlens, int32_t sequence) {
    return cu_seqlens[sequence] / kTileQueries + sequence;
}
__host__ __device__ constexpr int64_t num_slots(int64_t total_q, int64_t num_sequences) {
    return total_q / kTileQueries + num_sequences;
}

// The sequence whose slot it is.
__host__ __device__ inline int32_t owner_of(const int32_t* cu_seqlens, int32_t num_sequences, int32_t slot) {
    int32_t low = 0, high = num_sequences;  // low's first slot is not behind `slot`, high's is
    while (high - low > 1) {
        const int32_t middle = low + (high - low) / 2;
        if (first_slot(cu_seqlens, middle) <= slot) {
            low = middle;
        } else {
            high = middle;
        }
    }
    return low;
}

// The tile of a slot; one of no rows if the slot has none.
__host__ __device__ inline Tile tile_of(const int32_t* cu_seqlens_q, const int32_t* cu_seqlens_k, int32_t num_sequences,
                                        bool is_causal, int32_t slot) {
    const int32_t sequence = owner_of(cu_seqlens_q, num_sequences, slot);
    const int32_t first = (slot - first_slot(cu_seqlens_q, sequence)) * kTileQueries;
    const int32_t start_q = cu_seqlens_q[sequence], len_q = cu_seqlens_q[sequence + 1] - start_q;
    Tile tile{};
    if (first >= len_q) return tile;
    tile.row = start_q + first;
    tile.rows = len_q - first < kTileQueries ? len_q - first : kTileQueries;
    tile.start_k = cu_seqlens_k[sequence];
    tile.len_k = cu_seqlens_k[sequence + 1] - tile.start_k;
    tile.low = first + tile.len_k - len_q;
    const int32_t seen = Outlook{tile.low, tile.rows, tile.len_k, is_causal, false}.seen();
    tile.num_blocks = divide_up(seen, kBlockKeys);
    return tile;
}

// ---- launchers ----

struct Attention {
    PackedRows q, k, v;
    PackedRows out;
    Float dtype;
    float* lse;
    const float* slopes;
    const int32_t *cu_seqlens_q, *cu_seqlens_k;
    int64_t num_sequences;
    float softmax_scale;
    bool is_causal;
    void* workspace;  // attention_workspace bytes, 16-byte aligned, of any content
};

constexpr size_t attention_workspace(int64_t total_q, int64_t num_sequences) {
    return sizeof(TileList) + static_cast<size_t>(num_slots(total_q, num_sequences)) * sizeof(Tile);
}

// Throws std::invalid_argument where a tensor cannot be read, std::runtime_error where the GPU is no Hopper one.
void attention_varlen(const Attention& args, Stream stream);

// Fills the workspace; one block.
struct ListTiles {
    const int32_t *cu_seqlens_q, *cu_seqlens_k;
    int32_t num_sequences, num_slots;
    bool is_causal;
    TileList* list;
};
void list_tiles(const ListTiles& args, Stream stream);

}  // namespace longspan::cuda
