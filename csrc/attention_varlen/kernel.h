// The kernel, once for every instruction set: included by portable.cpp, avx2.cpp, neon.cpp and the like after they have
// defined F32 and transpose(F32 (&)[F32::kLanes]). A Kind (kinds.h) says what is multiplied: q, k, v and the weights
// lie in units of four bytes, one float or two bf16.
//
// A tile is up to kTileVectors * lanes query rows of one head, one query a lane. A part's tiles go through the keys
// together, a block of kBlockKeys at a time, so that copying (and rotating) the block's rows is paid once for all.

#include <cstdint>
#include <limits>
#include <utility>

#include "attention_varlen/attention_varlen.h"
#include "core/parallel.h"

// Kinds, tiles and what is done to rows and registers.
#include "attention_varlen/kinds.h"
#include "attention_varlen/load.h"
#include "attention_varlen/products.h"
#include "attention_varlen/softmax.h"
#include "attention_varlen/tile.h"

#include "attention_varlen/bounded.h"
#include "attention_varlen/whole.h"

// A part and what is done to its tiles.
#include "attention_varlen/part_plan.h"

#include "attention_varlen/score_bounds.h"
#include "attention_varlen/scratch.h"

#include "attention_varlen/part_rows.h"
#include "attention_varlen/tile_weights.h"

namespace longspan::LONGSPAN_ISA {
namespace {

template <class Kind>
class PartRunner {
    static constexpr int64_t kBlockKeys = Kind::kBlockKeys;
    static_assert(kBlockKeys % 2 == 0);
    static constexpr int64_t kTogether = Kind::kTogether;

public:
    PartRunner(const AttentionArgs& args, const AttentionPart& part)
        : plan_(args, part), bounds_(plan_), scratch_(plan_) {}

    void run() {
        fetch_next_part(plan_);
        const int64_t tiles = plan_.num_tiles, rounds = (tiles + plan_.max_tiles - 1) / plan_.max_tiles;
        for (int64_t round = 0; round < rounds; ++round) {
            run_tiles(least(tiles, plan_.whole_groups(tiles * round / rounds)),
                      least(tiles, plan_.whole_groups(tiles * (round + 1) / rounds)));
        }
    }

private:
    // Tile number `index` of the part, whose state is at `place`.
    Tile tile_at(int64_t index, int64_t place) const {
        Tile tile = plan_.tile(index, scratch_.notes[place].reach);
        scratch_.place_state(plan_, place, tile);
        return tile;
    }

    void run_tiles(int64_t first, int64_t last) {
        int64_t first_key = plan_.num_keys, last_key = 0;
        for (int64_t i = first; i < last; ++i) {
            TileNotes& notes = scratch_.notes[i - first];
            notes = {plan_.num_keys, false};
            notes.reach = bounds_.reach_of(tile_at(i, i - first));
            const Tile tile = tile_at(i, i - first);
            begin_tile(plan_, scratch_, tile);
            notes.is_bounded = bounds_.is_bounded(tile);
            first_key = least(first_key, tile.first_key);
            last_key = most(last_key, tile.last_key);
        }
        for (int64_t block = first_key / kBlockKeys * kBlockKeys; block < last_key; block += kBlockKeys) {
            // The mean of a block is of all its keys, whoever sees them.
            const int64_t from = Kind::kIsWhole ? block : most(block, first_key);
            const int64_t to = least(block + kBlockKeys, Kind::kIsWhole ? plan_.num_keys : last_key);
            const KeyRun run = read_keys(plan_, scratch_, from, to);
            for (int64_t i = first; i < last; i += kTogether) {
                if constexpr (kTogether > 1) {
                    step_together(i, least(i + kTogether, last), i - first, run);
                } else {
                    step(tile_at(i, i - first), run);
                }
            }
        }
        for (int64_t i = first; i < last; ++i) finish_tile(plan_, tile_at(i, i - first));
    }

    void step(const Tile& tile, const KeyRun& run) {
        const KeyRun seen = seen_by<Kind>(tile, run);
        if (seen.first >= seen.last) return;
        with_vectors(tile.vectors(), [&]<int kVectors>() {
            weigh_keys<Kind, kVectors>(plan_, scratch_, tile, seen, scratch_.shrink, nullptr);
            const float* shrink = seen.first == tile.first_key ? nullptr : scratch_.shrink;
            mix_values<Kind, kVectors>(scratch_.scores, seen.values, seen.value_stride,
                                       Kind::units(seen.last - seen.first), plan_.dim, shrink, tile.outputs);
        });
    }

    // The same for tiles [first, last), whose weights lie side by side. Their sums are cut at the same keys whichever
    // of them are seen: a weight of 0 changes no sum.
    void step_together(int64_t first, int64_t last, int64_t place, const KeyRun& run) {
        KeyRun seen[kTogether];
        int64_t first_key = run.last, last_key = run.first, lanes = 0;
        for (int64_t i = first; i < last; ++i) {
            const Tile tile = tile_at(i, place + i - first);
            seen[i - first] = seen_by<Kind>(tile, run);
            first_key = least(first_key, seen[i - first].first);
            last_key = most(last_key, seen[i - first].last);
            lanes = (i - first) * kTileRows + tile.vectors() * F32::kLanes;
        }
        if (first_key >= last_key) return;
        first_key = run.first + (first_key - run.first) / Kind::kChain * Kind::kChain;
        for (int64_t i = first; i < last; ++i) {
            const Tile tile = tile_at(i, place + i - first);
            const KeyRun& own = seen[i - first];
            float* const weights = scratch_.weights + (i - first) * kTileRows / kTogether;
            float* const shrink = scratch_.shrink + (i - first) * kTileRows;
            with_vectors(tile.vectors(), [&]<int kVectors>() {
                const auto hide = [&](int64_t from, int64_t to) {
                    Kind::template hide<kVectors>(weights, from - first_key, to - first_key);
                };
                if (own.first >= own.last) {
                    for (int v = 0; v < kVectors; ++v) F32::all(1.0f).store(shrink + v * F32::kLanes);
                    return hide(first_key, last_key);
                }
                hide(first_key, own.first);
                weigh_keys<Kind, kVectors>(plan_, scratch_, tile, own, shrink,
                                           weights + (own.first - first_key) * kTileRows);
                hide(own.last, last_key);
            });
        }
        const float* values = run.values + (first_key - run.first) * run.value_stride;
        with_vectors((lanes + Kind::kLanes - 1) / Kind::kLanes, [&]<int kVectors>() {
            Kind::template mix<kVectors>(scratch_.weights, values, last_key - first_key, plan_.dim, scratch_.shrink,
                                         scratch_.value_units, tile_at(first, place).outputs);
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

    const PartPlan<Kind> plan_;
    const ScoreBounds<Kind> bounds_;
    const PartScratch<Kind> scratch_;
};

}  // namespace
}  // namespace longspan::LONGSPAN_ISA
