// The kernel, once for every instruction set: included by portable.cpp, avx2.cpp and avx512*.cpp after they have
// defined F32 and transpose(F32 (&)[F32::kLanes]). A Kind (kinds.h) says what is multiplied: q, k, v and the weights
// lie in units of four bytes, one float or two bf16.
//
// A tile is up to kTileVectors * lanes query rows of one head, one query a lane. A part's tiles go through the keys
// together, a block of kBlockKeys at a time, so that copying (and rotating) the block's rows is paid once for all.

#include <cstdint>
#include <iterator>
#include <limits>
#include <utility>

#include "attention_varlen/attention_varlen.h"
#include "core/parallel.h"

#include "attention_varlen/kinds.h"
#include "attention_varlen/load.h"
#include "attention_varlen/products.h"
#include "attention_varlen/softmax.h"
#include "attention_varlen/tile.h"

#include "attention_varlen/bounded.h"
#include "attention_varlen/norms.h"
#include "attention_varlen/whole.h"

namespace longspan::LONGSPAN_ISA {
namespace {

// The tiles that go through the keys one after the other: their state stays within the L2 cache of a server's core
// (twice as much where tiles go in pairs: cores that have f16 have 2 MB).
constexpr int64_t kStateBytes = 640 * 1024;
// Sequences with fewer keys are not worth asking how far a query reaches (reach_of).
constexpr int64_t kKeysWorthAReach = 256;
// With fewer tiles than this, keys and values are read where they lie.
constexpr int64_t kTilesWorthACopy = 3;

template <class Kind>
class PartRunner {
    static constexpr int64_t kBlockKeys = Kind::kBlockKeys;
    static_assert(kBlockKeys % 2 == 0);
    static constexpr int64_t kTogether = Kind::kTogether;
    static constexpr bool kMixesTogether = kTogether > 1;

public:
    PartRunner(const AttentionArgs& args, const AttentionPart& part) : args_(args), part_(part) {
        dim_ = args.out.head_dim;
        units_ = Kind::Scores::units(dim_);
        q_start_ = args.cu_seqlens_q.data[part.sequence];
        k_start_ = args.cu_seqlens_k.data[part.sequence];
        num_keys_ = args.cu_seqlens_k.data[part.sequence + 1] - k_start_;
        table_start_ = args.rotary_by_key ? k_start_ : 0;
        offset_ = num_keys_ - (args.cu_seqlens_q.data[part.sequence + 1] - q_start_);
        const int64_t row_tiles = (part.last_row - part.first_row + kTileRows - 1) / kTileRows;
        num_tiles_ = row_tiles * args.group();
        tile_floats_ = kTileRows * (units_ + dim_ + 2 + (Kind::kIsWhole ? dim_ + 1 : 0));
        max_tiles_ = whole_groups(least(num_tiles_, most(1, kTogether * kStateBytes / (4 * tile_floats_))));
        stages_keys_ = Kind::kIsWhole || !Kind::kIsPlain || max_tiles_ >= kTilesWorthACopy || args.cos.data != nullptr;
        stages_values_ = kMixesTogether || Kind::kPerUnit > 1 || !Kind::kIsPlain || max_tiles_ >= kTilesWorthACopy;
        stages_queries_ = Kind::kIsWhole || !Kind::kIsPlain || args.cos.data != nullptr;
        has_reach_ =
            args.slopes && args.bias_table.data == nullptr && args.cos.data == nullptr && num_keys_ > kKeysWorthAReach;
        const bool sees_all =
            part_.last_row + offset_ <= num_keys_ && offset_ >= 0 && args.left >= num_keys_ && args.right >= num_keys_;
        has_bounds_ = kHasBounds<Kind> && sees_all && args.bias_table.data == nullptr && num_keys_ > kKeysWorthAReach;
        if (has_reach_ || has_bounds_) largest_key_ = largest_norm<Kind>(args.k, k_start_, num_keys_, part.kv_head);
        if (has_bounds_ && args.cos.data != nullptr) largest_turn_ = largest_turn(args, table_start_, num_keys_);
        take_scratch();
    }

    void run() {
        fetch_next();
        const int64_t rounds = (num_tiles_ + max_tiles_ - 1) / max_tiles_;
        for (int64_t round = 0; round < rounds; ++round) {
            run_tiles(least(num_tiles_, whole_groups(num_tiles_ * round / rounds)),
                      least(num_tiles_, whole_groups(num_tiles_ * (round + 1) / rounds)));
        }
    }

private:
    // The tiles, rounded up to whole groups of those that go together.
    static int64_t whole_groups(int64_t tiles) { return (tiles + kTogether - 1) / kTogether * kTogether; }

    // Asks for the rows of the part that comes next if the sequences are short: the next key head, else the next
    // sequence. Such parts are done sooner than the memory answers, and their strided rows defeat its own look-ahead.
    // Inlined by force: GCC takes a function that only prefetches for one without effect, and drops its calls.
    [[gnu::always_inline]] void fetch_next() const {
        const bool is_last_head = part_.kv_head + 1 == args_.k.heads;
        const int64_t sequence = part_.sequence + (is_last_head ? 1 : 0);
        const int64_t head = is_last_head ? 0 : part_.kv_head + 1;
        if (sequence + 1 >= args_.cu_seqlens_k.size) return;
        const int32_t *q_rows = args_.cu_seqlens_q.data + sequence, *k_rows = args_.cu_seqlens_k.data + sequence;
        if (num_keys_ > kBlockKeys || k_rows[1] - k_rows[0] > kBlockKeys || q_rows[1] - q_rows[0] > kBlockKeys) return;
        fetch(args_.q, q_rows[0], q_rows[1], head * args_.group(), args_.group());
        fetch(args_.k, k_rows[0], k_rows[1], head, 1);
        fetch(args_.v, k_rows[0], k_rows[1], head, 1);
    }

    [[gnu::always_inline]] static void fetch(const HeadsView<const float>& view, int64_t first, int64_t last,
                                             int64_t head, int64_t heads) {
        for (int64_t row = first; row < last; ++row) {
            for (int64_t i = head; i < head + heads; ++i) fetch_row(view.at(row, i), view.head_dim);
        }
    }

    void take_scratch() {
        const int64_t rows = most(stages_keys_ ? kBlockKeys : 0, stages_queries_ ? F32::kLanes : 0);
        const auto rounded = [](int64_t floats) { return (floats + 15) / 16 * 16; };  // whole cache lines
        const int64_t sizes[] = {rounded(kBlockKeys * kTileRows),
                                 rounded(kTogether * kTileRows),
                                 rounded(kBlockKeys + 2 * kTileRows),
                                 rounded(rows * (units_ + (Kind::kIsWhole ? 2 : 0))),
                                 rounded(stages_values_ ? Kind::units(kBlockKeys) * dim_ : 0),
                                 rounded(Kind::kIsPlain ? 0 : dim_),
                                 rounded(max_tiles_ * int64_t{sizeof(TileNotes) / sizeof(float)}),
                                 rounded(Kind::kIsWhole ? kBlockKeys * dim_ : 0),
                                 rounded(Kind::kIsWhole ? dim_ : 0),
                                 rounded(Kind::kIsWhole ? (dim_ + 3) * F32::kLanes : 0),
                                 rounded(Kind::kIsWhole ? (units_ + 2) * F32::kLanes : 0),
                                 rounded(Kind::kIsWhole ? kTileRows : 0),
                                 rounded(kMixesTogether ? kBlockKeys * kTileRows : 0),
                                 rounded(kMixesTogether ? dim_ : 0)};
        int64_t floats = max_tiles_ * tile_floats_;
        for (const int64_t size : sizes) floats += size;
        float* next = static_cast<float*>(thread_scratch(floats * 4));
        float* notes = nullptr;
        float** const places[] = {&scores_,        &shrink_, &strip_,      &rows_,       &value_rows_,
                                  &turned_,        &notes,   &whole_.rows, &whole_.mean, &whole_.lanes,
                                  &whole_.columns, &shifts_, &weights_,    &value_units_};
        static_assert(std::size(places) == std::size(sizes));
        for (size_t i = 0; i < std::size(sizes); ++i) {
            *places[i] = next;
            next += sizes[i];
        }
        notes_ = reinterpret_cast<TileNotes*>(notes);
        state_ = next;
    }

    // Tile number `index` of the part, whose state is at `place`; those that share rows follow each other.
    Tile tile_at(int64_t index, int64_t place) const {
        float* const group = state_ + place / kTogether * kTogether * tile_floats_;
        const int64_t member = place % kTogether, output_floats = dim_ * kTileRows;
        Tile tile;
        tile.head = part_.kv_head * args_.group() + index % args_.group();
        tile.first_row = part_.first_row + index / args_.group() * kTileRows;
        tile.num_rows = least(kTileRows, part_.last_row - tile.first_row);
        tile.position = offset_ + tile.first_row;
        tile.first_key = most(0, tile.position - args_.left) / Kind::kPerUnit * Kind::kPerUnit;
        tile.last_key = most(tile.first_key, least(num_keys_, tile.position + tile.num_rows + args_.right));
        tile.is_bounded = notes_[place].is_bounded;
        if (const int64_t reach = notes_[place].reach; reach < num_keys_) {
            const int64_t first = most(0, tile.position - reach) / kBlockKeys * kBlockKeys;
            const int64_t last = (tile.position + tile.num_rows + reach) / kBlockKeys * kBlockKeys + kBlockKeys;
            tile.first_key = most(tile.first_key, first);
            tile.last_key = most(tile.first_key, least(tile.last_key, last));
        }
        tile.outputs = group + member * kTileRows;
        tile.output_stride = kMixesTogether ? kTogether * kTileRows : tile.vectors() * F32::kLanes;
        tile.queries = group + kTogether * output_floats + member * (tile_floats_ - output_floats);
        tile.top = tile.queries + units_ * kTileRows;
        tile.sum = tile.top + kTileRows;
        tile.scales = tile.sum + kTileRows;
        tile.floats = tile.scales + kTileRows;
        return tile;
    }

    // How far from a query keys may stand to weigh anything beside ALiBi's slope. With |<q, k>| * scale <= bound, a key
    // at distance d scores at most bound - slope * d, the query's own key at least -bound; where the difference is
    // below -87.3 the weight is 0. So blocks of keys beyond are left out, and no bit of the result changes. The bound
    // is the product of the largest norms of the tile's queries and of the sequence's keys; not finite: no limit.
    int64_t reach_of(const Tile& tile) const {
        constexpr float kNothing = 90.0f;
        const float rounding = Kind::kIsWhole ? whole_rounding(dim_) : 1.02f;  // of bf16 too
        const float slope = has_reach_ ? args_.slopes.data[tile.head] : 0.0f;
        if (!(slope > 0.0f) || tile.position < 0) return num_keys_;
        const float query = largest_norm<Kind>(args_.q, q_start_ + tile.first_row, tile.num_rows, tile.head);
        const float bound = rounding * query * largest_key_ * (args_.scale < 0.0f ? -args_.scale : args_.scale);
        const float reach = (kNothing + 2.0f * bound) / slope;
        return reach < static_cast<float>(num_keys_) ? static_cast<int64_t>(reach) + 1 : num_keys_;
    }

    void run_tiles(int64_t first, int64_t last) {
        int64_t first_key = num_keys_, last_key = 0;
        for (int64_t i = first; i < last; ++i) {
            notes_[i - first] = {num_keys_, false};
            notes_[i - first].reach = reach_of(tile_at(i, i - first));
            const Tile tile = tile_at(i, i - first);
            begin(tile);
            notes_[i - first].is_bounded = is_bounded(tile);
            first_key = least(first_key, tile.first_key);
            last_key = most(last_key, tile.last_key);
        }
        for (int64_t block = first_key / kBlockKeys * kBlockKeys; block < last_key; block += kBlockKeys) {
            const KeyRun run = Kind::kIsWhole ? read_keys(block, least(block + kBlockKeys, num_keys_))
                                              : read_keys(most(block, first_key), least(block + kBlockKeys, last_key));
            for (int64_t i = first; i < last; i += kTogether) {
                if constexpr (kMixesTogether) {
                    step_together(i, least(i + kTogether, last), i - first, run);
                } else {
                    step(tile_at(i, i - first), run);
                }
            }
        }
        for (int64_t i = first; i < last; ++i) finish(tile_at(i, i - first));
    }

    // Loads the tile's queries; nothing is seen yet.
    void begin(const Tile& tile) {
        const int64_t stride = tile.vectors() * F32::kLanes;
        for (int64_t lane = 0; lane < stride; lane += F32::kLanes) {
            const int64_t count = least(F32::kLanes, tile.num_rows - lane);
            const float* rows = args_.q.at(q_start_ + tile.first_row + lane, tile.head);
            int64_t row_stride = args_.q.row_stride;
            const Rows some{rows, row_stride, count, tile.num_rows - lane};
            const int64_t table_row = table_start_ + tile.position + lane;
            if constexpr (Kind::kIsWhole) {
                load_rows<Kind>(some, dim_, args_, table_row, whole_.rows);
                const F32 scales = whole_queries(whole_, count, dim_, stride, tile.floats + lane, tile.queries + lane);
                (scales * F32::all(args_.scale * Kind::kLogUnit)).store(tile.scales + lane);
            } else {
                if (stages_queries_) {
                    stage_rows<Kind>(some, dim_, args_, table_row, turned_, rows_);
                    rows = rows_;
                    row_stride = units_;
                }
                rows_to_lanes(rows, row_stride, count, units_, tile.queries + lane, stride);
            }
            if constexpr (kMixesTogether) {
                for (int64_t d = 0; d < dim_; ++d) F32::zero().store(tile.outputs + d * tile.output_stride + lane);
            }
            F32::all(kHidden).store(tile.top + lane);
            F32::zero().store(tile.sum + lane);
        }
    }

    // Whether the scores of a tile that has begun are within bounds.
    bool is_bounded(const Tile& tile) const {
        if (!has_bounds_ || (args_.slopes && !(args_.slopes.data[tile.head] >= 0.0f))) return false;
        constexpr float kRounding = Kind::kIsPlain ? 1.001f : 1.02f;
        const float scale = args_.scale < 0.0f ? -args_.scale : args_.scale;
        const float norm_to_bound = kRounding * largest_key_ * largest_turn_ * scale * Kind::kLogUnit;
        return are_bounded(tile.queries, units_, tile.vectors() * F32::kLanes, norm_to_bound);
    }

    KeyRun read_keys(int64_t first, int64_t last) {
        const int64_t count = last - first, following = num_keys_ - first;
        KeyRun run{first,
                   last,
                   args_.k.at(k_start_ + first, part_.kv_head),
                   args_.v.at(k_start_ + first, part_.kv_head),
                   whole_.mean,
                   args_.k.row_stride,
                   args_.v.row_stride};
        if constexpr (Kind::kIsWhole) {
            load_rows<Kind>({run.keys, run.key_stride, count, following}, dim_, args_, table_start_ + first,
                            whole_.rows);
            whole_keys(whole_, count, dim_, rows_);
            run.keys = rows_;
            run.key_stride = whole_.key_floats(dim_);
        } else if (stages_keys_) {
            stage_rows<Kind>({run.keys, run.key_stride, count, following}, dim_, args_, table_start_ + first, turned_,
                             rows_);
            run.keys = rows_;
            run.key_stride = units_;
        }
        if (stages_values_) {
            const Rows some{run.values, run.value_stride, count, following};
            if constexpr (kMixesTogether) {
                Kind::stage_values(some, dim_, whole_.rows, value_rows_, value_units_);
            } else {
                stage_values<Kind>(some, dim_, value_rows_);
            }
            run.values = value_rows_;
            run.value_stride = dim_;
        }
        return run;
    }

    void step(const Tile& tile, const KeyRun& run) {
        const KeyRun seen = seen_by(tile, run);
        if (seen.first >= seen.last) return;
        with_vectors(tile.vectors(), [&]<int kVectors>() {
            weigh_keys<kVectors>(tile, seen, shrink_, nullptr);
            const float* shrink = seen.first == tile.first_key ? nullptr : shrink_;
            mix_values<Kind, kVectors>(scores_, seen.values, seen.value_stride, Kind::units(seen.last - seen.first),
                                       dim_, shrink, tile.outputs);
        });
    }

    // The same for tiles [first, last), whose weights lie side by side. Their sums are cut at the same keys whichever
    // of them are seen: a weight of 0 changes no sum.
    void step_together(int64_t first, int64_t last, int64_t place, const KeyRun& run) {
        KeyRun seen[kTogether];
        int64_t first_key = run.last, last_key = run.first, lanes = 0;
        for (int64_t i = first; i < last; ++i) {
            const Tile tile = tile_at(i, place + i - first);
            seen[i - first] = seen_by(tile, run);
            first_key = least(first_key, seen[i - first].first);
            last_key = most(last_key, seen[i - first].last);
            lanes = (i - first) * kTileRows + tile.vectors() * F32::kLanes;
        }
        if (first_key >= last_key) return;
        first_key = run.first + (first_key - run.first) / Kind::kChain * Kind::kChain;
        for (int64_t i = first; i < last; ++i) {
            const Tile tile = tile_at(i, place + i - first);
            const KeyRun& own = seen[i - first];
            float* const weights = weights_ + (i - first) * kTileRows / kTogether;
            float* const shrink = shrink_ + (i - first) * kTileRows;
            with_vectors(tile.vectors(), [&]<int kVectors>() {
                const auto hide = [&](int64_t from, int64_t to) {
                    Kind::template hide<kVectors>(weights, from - first_key, to - first_key);
                };
                if (own.first >= own.last) {
                    for (int v = 0; v < kVectors; ++v) F32::all(1.0f).store(shrink + v * F32::kLanes);
                    return hide(first_key, last_key);
                }
                hide(first_key, own.first);
                weigh_keys<kVectors>(tile, own, shrink, weights + (own.first - first_key) * kTileRows);
                hide(own.last, last_key);
            });
        }
        const float* values = run.values + (first_key - run.first) * run.value_stride;
        with_vectors((lanes + Kind::kLanes - 1) / Kind::kLanes, [&]<int kVectors>() {
            Kind::template mix<kVectors>(weights_, values, last_key - first_key, dim_, shrink_, value_units_,
                                         tile_at(first, place).outputs);
        });
    }

    // body.template operator()<vectors>()
    template <class Body>
    static void with_vectors(int64_t vectors, Body&& body) {
        switch (vectors) {
            case 1:
                return body.template operator()<1>();
            case 2:
                return body.template operator()<2>();
            default:
                return body.template operator()<kTileVectors>();
        }
    }

    // What the tile sees of a run of keys; if nothing, an empty run.
    KeyRun seen_by(const Tile& tile, const KeyRun& run) const {
        const int64_t first = most(run.first, tile.first_key), last = least(run.last, tile.last_key);
        return {first,
                last,
                run.keys + (first - run.first) * run.key_stride,
                run.values + (first - run.first) / Kind::kPerUnit * run.value_stride,
                run.mean,
                run.key_stride,
                run.value_stride};
    }

    Bias bias_of(const Tile& tile, const KeyRun& run) {
        Bias bias{};
        bias.scale = args_.scale * Kind::kLogUnit;
        bias.distance = tile.position - run.first;
        bias.slope = args_.slopes ? args_.slopes.data[tile.head] * Kind::kLogUnit : 0.0f;
        bias.last_key = run.last - run.first - 1;
        bias.left = args_.left;
        bias.right = args_.right;
        bias.scales = tile.scales;
        bias.shifts = shifts_;
        if (args_.bias_table.data != nullptr) {
            const float* table = args_.bias_table.row(tile.head);
            const int64_t reach = args_.bias_table.cols / 2;
            const int64_t nearest = bias.distance - bias.last_key;
            const int64_t size = bias.last_key + tile.vectors() * F32::kLanes;
            for (int64_t x = 0; x < size; ++x) {
                strip_[x] = table[reach - most(-reach, least(reach, nearest + x))] * Kind::kLogUnit;
            }
            bias.strip = strip_;
        }
        return bias;
    }

    // Weights of the keys, in scores_ or `weights` (exponentiate), and what sums so far shrink by.
    template <int kVectors>
    void weigh_keys(const Tile& tile, const KeyRun& run, float* shrink, float* weights) {
        const int64_t keys = run.last - run.first, last_position = tile.position + tile.num_rows - 1;
        const bool is_masked = run.last - 1 > tile.position + args_.right || run.first < last_position - args_.left;
        const Bias bias = bias_of(tile, run);
        if constexpr (Kind::kIsWhole) score_mean<kVectors>(tile, run.mean);
        score_keys<Kind, kVectors>(tile.queries, run.keys, run.key_stride, keys, units_, scores_);
        if (tile.is_bounded) {
            if constexpr (kHasBounds<Kind>) weigh_bounded<Kind, kVectors>(scores_, keys, bias, tile.sum);
            for (int64_t i = 0; i < kVectors * F32::kLanes; ++i) shrink[i] = 1.0f;
        } else {
            weigh<Kind, kVectors>(scores_, keys, bias, is_masked, tile.top, tile.sum, shrink, weights);
        }
    }

    // What whole numbers leave to floats: scores of the mean of a block's keys.
    template <int kVectors>
    void score_mean(const Tile& tile, const float* mean) {
        const F32 scale = F32::all(args_.scale * Kind::kLogUnit);
        score_rows<Floats, 1, kVectors>(tile.floats, mean, 0, dim_, shifts_);
        for (int64_t lane = 0; lane < kVectors * F32::kLanes; lane += F32::kLanes) {
            (F32::load(shifts_ + lane) * scale).store(shifts_ + lane);
        }
    }

    // Whether the query at this position sees a key.
    bool sees_any(int64_t position) const {
        return most(0, position - args_.left) <= least(num_keys_ - 1, position + args_.right);
    }

    void finish(const Tile& tile) {
        const int64_t stride = tile.vectors() * F32::kLanes;
        const bool is_blind = tile.first_key >= tile.last_key;
        for (int64_t lane = 0; lane < stride; lane += F32::kLanes) {
            const int64_t count = least(F32::kLanes, tile.num_rows - lane);
            float* rows = args_.out.at(q_start_ + tile.first_row + lane, tile.head);
            if (!is_blind) {
                const F32 scale = F32::all(Kind::kWeightOfTop) / F32::load(tile.sum + lane);
                lanes_to_rows(
                    tile.outputs + lane, tile.output_stride, [&](F32 sum) { return sum * scale; }, count, dim_, rows,
                    args_.out.row_stride);
            }
            for (int64_t row = 0; row < count; ++row) {
                if (!is_blind && sees_any(tile.position + lane + row)) continue;
                float* out = rows + row * args_.out.row_stride;
                for (int64_t d = 0; d < dim_; ++d) out[d] = 0.0f;
            }
        }
    }

    const AttentionArgs& args_;
    const AttentionPart& part_;
    int64_t dim_, units_;  // head_dim, and its units
    int64_t q_start_, k_start_, num_keys_;
    int64_t offset_;       // position of query row 0
    int64_t table_start_;  // row of cos and sin for position 0
    int64_t num_tiles_, max_tiles_, tile_floats_;
    bool stages_queries_, stages_keys_, stages_values_, has_reach_, has_bounds_;
    float largest_key_ = 0.0f, largest_turn_ = 1.0f;
    TileNotes* notes_;  // of the tiles whose state is in memory
    float *scores_, *shrink_, *strip_, *rows_, *value_rows_, *turned_, *state_;
    WholeScratch<Kind> whole_;
    float* shifts_;                  // of whole numbers: what a tile's queries gain in this run of keys
    float *weights_, *value_units_;  // of tiles together: their weights; what scales of values multiply sums by
};

}  // namespace
}  // namespace longspan::LONGSPAN_ISA
