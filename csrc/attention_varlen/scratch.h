// Where a part's matrices lie in the thread's scratch memory: what one run of keys needs, then the tiles' state.

namespace longspan::LONGSPAN_ISA {
namespace {

template <class Kind>
struct PartScratch {
    float* scores;      // (keys, vectors * lanes) of a tile
    float* shrink;      // (kTogether, kTileRows): what sums so far shrink by
    float* strip;       // Bias::strip
    float* rows;        // keys or queries as they are multiplied
    float* value_rows;  // (units of keys, head_dim)
    float* turned;      // a row that is rotated before it is packed
    TileNotes* notes;   // of the tiles whose state is in memory
    WholeScratch<Kind> whole;
    float* shifts;       // of whole numbers: what a tile's queries gain in this run of keys
    float* weights;      // of tiles together: their weights side by side
    float* value_units;  // of tiles together: what scales of values multiply sums by, (head_dim,)
    float* state;        // the tiles' own: place_state()

    explicit PartScratch(const PartPlan<Kind>& plan) {
        constexpr bool kIsWhole = Kind::kIsWhole, kMixesTogether = Kind::kTogether > 1;
        constexpr int64_t kBlockKeys = Kind::kBlockKeys;
        const int64_t dim = plan.dim, units = plan.units;
        const int64_t most_rows = most(plan.stages_keys ? kBlockKeys : 0, plan.stages_queries ? F32::kLanes : 0);
        float* note_floats = nullptr;
        const struct {
            float** place;
            int64_t floats;
        } matrices[] = {{&scores, kBlockKeys * kTileRows},
                        {&shrink, Kind::kTogether * kTileRows},
                        {&strip, kBlockKeys + 2 * kTileRows},
                        {&rows, most_rows * (units + (kIsWhole ? 2 : 0))},
                        {&value_rows, plan.stages_values ? Kind::units(kBlockKeys) * dim : 0},
                        {&turned, Kind::kIsPlain ? 0 : dim},
                        {&note_floats, plan.max_tiles * int64_t{sizeof(TileNotes) / sizeof(float)}},
                        {&whole.rows, kIsWhole ? kBlockKeys * dim : 0},
                        {&whole.mean, kIsWhole ? dim : 0},
                        {&whole.lanes, kIsWhole ? (dim + 3) * F32::kLanes : 0},
                        {&whole.columns, kIsWhole ? (units + 2) * F32::kLanes : 0},
                        {&shifts, kIsWhole ? kTileRows : 0},
                        {&weights, kMixesTogether ? kBlockKeys * kTileRows : 0},
                        {&value_units, kMixesTogether ? dim : 0}};
        const auto rounded = [](int64_t floats) { return (floats + 15) / 16 * 16; };  // whole cache lines
        int64_t floats = plan.max_tiles * plan.tile_floats;
        for (const auto& matrix : matrices) floats += rounded(matrix.floats);
        float* next = static_cast<float*>(thread_scratch(floats * 4));
        for (const auto& matrix : matrices) {
            *matrix.place = next;
            next += rounded(matrix.floats);
        }
        notes = reinterpret_cast<TileNotes*>(note_floats);
        state = next;
    }

    // Gives the tile the state at `place`. The outputs of tiles that go together are one matrix, ahead of their rest.
    void place_state(const PartPlan<Kind>& plan, int64_t place, Tile& tile) const {
        constexpr int64_t kTogether = Kind::kTogether;
        float* const group = state + place / kTogether * kTogether * plan.tile_floats;
        const int64_t member = place % kTogether, output_floats = plan.dim * kTileRows;
        tile.is_bounded = notes[place].is_bounded;
        tile.outputs = group + member * kTileRows;
        tile.output_stride = kTogether > 1 ? kTogether * kTileRows : tile.vectors() * F32::kLanes;
        tile.queries = group + kTogether * output_floats + member * (plan.tile_floats - output_floats);
        tile.top = tile.queries + plan.units * kTileRows;
        tile.sum = tile.top + kTileRows;
        tile.scales = tile.sum + kTileRows;
        tile.floats = tile.scales + kTileRows;
    }
};

}  // namespace
}  // namespace longspan::LONGSPAN_ISA
