// A part of the work as kernel.h takes it: where its rows lie, how it is cut into tiles, which rows are copied first.

namespace longspan::LONGSPAN_ISA {
namespace {

// The tiles that go through the keys one after the other: their state stays within the L2 cache of a server's core
// (twice as much where tiles go in pairs: cores that have f16 have 2 MB).
constexpr int64_t kStateBytes = 640 * 1024;
// With fewer tiles than this, keys and values are read where they lie.
constexpr int64_t kTilesWorthACopy = 3;

template <class Kind>
struct PartPlan {
    const AttentionArgs& args;
    const AttentionPart& part;
    int64_t dim, units;  // head_dim, and its units
    int64_t q_start, k_start, num_keys;
    int64_t table_start;                        // row of cos and sin for position 0
    int64_t offset;                             // position of query row 0
    int64_t num_tiles, max_tiles, tile_floats;  // of the part; whose state is in memory at once; of one's state
    bool stages_queries, stages_keys, stages_values;

    PartPlan(const AttentionArgs& given, const AttentionPart& taken) : args(given), part(taken) {
        dim = args.out.head_dim;
        units = Kind::Scores::units(dim);
        q_start = args.cu_seqlens_q.data[part.sequence];
        k_start = args.cu_seqlens_k.data[part.sequence];
        num_keys = args.cu_seqlens_k.data[part.sequence + 1] - k_start;
        table_start = args.rotary_by_key ? k_start : 0;
        offset = num_keys - (args.cu_seqlens_q.data[part.sequence + 1] - q_start);
        const int64_t row_tiles = (part.last_row - part.first_row + kTileRows - 1) / kTileRows;
        num_tiles = row_tiles * args.group();
        tile_floats = kTileRows * (units + dim + 2 + (Kind::kIsWhole ? dim + 1 : 0));
        max_tiles = whole_groups(least(num_tiles, most(1, Kind::kTogether * kStateBytes / (4 * tile_floats))));
        const bool is_rotated = args.cos.data != nullptr, is_worth_a_copy = max_tiles >= kTilesWorthACopy;
        stages_keys = Kind::kIsWhole || !Kind::kIsPlain || is_worth_a_copy || is_rotated;
        stages_values = Kind::kTogether > 1 || Kind::kPerUnit > 1 || !Kind::kIsPlain || is_worth_a_copy;
        stages_queries = Kind::kIsWhole || !Kind::kIsPlain || is_rotated;
    }

    // Tiles, rounded up to whole groups of those that go together.
    static int64_t whole_groups(int64_t tiles) {
        return (tiles + Kind::kTogether - 1) / Kind::kTogether * Kind::kTogether;
    }

    // Tile number `index` of the part, which sees no further than `reach`; those that share rows follow each other.
    Tile tile(int64_t index, int64_t reach) const {
        Tile tile;
        tile.head = part.kv_head * args.group() + index % args.group();
        tile.first_row = part.first_row + index / args.group() * kTileRows;
        tile.num_rows = least(kTileRows, part.last_row - tile.first_row);
        tile.position = offset + tile.first_row;
        tile.first_key = most(0, tile.position - args.left) / Kind::kPerUnit * Kind::kPerUnit;
        tile.last_key = most(tile.first_key, least(num_keys, tile.position + tile.num_rows + args.right));
        if (reach < num_keys) {
            constexpr int64_t kBlockKeys = Kind::kBlockKeys;
            const int64_t first = most(0, tile.position - reach) / kBlockKeys * kBlockKeys;
            const int64_t last = (tile.position + tile.num_rows + reach) / kBlockKeys * kBlockKeys + kBlockKeys;
            tile.first_key = most(tile.first_key, first);
            tile.last_key = most(tile.first_key, least(tile.last_key, last));
        }
        return tile;
    }

    // Whether the query at this position sees a key.
    bool sees_any(int64_t position) const {
        return most(0, position - args.left) <= least(num_keys - 1, position + args.right);
    }

    // Whether every query sees every key.
    bool sees_all() const {
        return part.last_row + offset <= num_keys && offset >= 0 && args.left >= num_keys && args.right >= num_keys;
    }
};

}  // namespace
}  // namespace longspan::LONGSPAN_ISA
