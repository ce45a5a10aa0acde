// PackedQueries: the query tokens as the kernels read them, converted once a call. For dispatch.cpp.
#pragma once

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include "core/parallel.h"
#include "maxsim/maxsim.h"

namespace longspan {

// Whole queries whose tokens lie in lanes one after the other, so that they meet each document together.
struct QueryGroup {
    int64_t first_query, last_query;
    int64_t first_token, num_tokens;
    int64_t first_vector, num_vectors;  // registers of query tokens
};

class PackedQueries {
public:
    static constexpr int64_t kOneQueryEach = -1;

    // Groups of queries with at most `group_tokens` tokens together; a longer query is a group alone.
    PackedQueries(const MaxsimInputs& inputs, Unit unit, int64_t lanes, int64_t group_tokens)
        : inputs_(inputs), unit_(unit), lanes_(lanes), dim_(inputs.docs.dim) {
        num_units_ = (dim_ + values_per_unit(unit) - 1) / values_per_unit(unit);
        if (unit == Unit::i16_pair) scales_.resize(static_cast<size_t>(inputs.total_q()));
        build_groups(group_tokens);
        const int64_t vectors = groups_.empty() ? 0 : groups_.back().first_vector + groups_.back().num_vectors;
        lines_.resize(static_cast<size_t>(vectors * vector_bytes() / 64 + 1));
        parallel_for(static_cast<int64_t>(groups_.size()), [&](int64_t i) { pack(groups_[static_cast<size_t>(i)]); });
    }

    Unit unit() const { return unit_; }
    int64_t lanes() const { return lanes_; }
    int64_t num_units() const { return num_units_; }
    const std::vector<QueryGroup>& groups() const { return groups_; }
    const float* scales() const { return scales_.empty() ? nullptr : scales_.data(); }  // Unit::i16_pair: of each token
    const std::byte* vectors_of(const QueryGroup& group) const {
        return lines_.data()->bytes + group.first_vector * vector_bytes();
    }

private:
    struct alignas(64) Line {
        std::byte bytes[64] = {};
    };

    int64_t vector_bytes() const { return lanes_ * num_units_ * kUnitBytes; }

    void build_groups(int64_t group_tokens) {
        const int32_t* offsets = inputs_.cu_seqlens_q.data;
        int64_t vector = 0;
        for (int64_t query = 0; query < inputs_.num_queries();) {
            QueryGroup group{query, query + 1, offsets[query], 0, vector, 0};
            while (group.last_query < inputs_.num_queries() &&
                   offsets[group.last_query + 1] - group.first_token <= group_tokens) {
                ++group.last_query;
            }
            group.num_tokens = offsets[group.last_query] - group.first_token;
            group.num_vectors = (group.num_tokens + lanes_ - 1) / lanes_;
            vector += group.num_vectors;
            query = group.last_query;
            groups_.push_back(group);
        }
    }

    void pack(const QueryGroup& group) {
        std::vector<std::byte> token_units(static_cast<size_t>(num_units_ * kUnitBytes));  // past dim they stay 0
        for (int64_t token = 0; token < group.num_tokens; ++token) {
            convert(group.first_token + token, token_units.data());
            const int64_t first = token / (2 * lanes_) * 2;  // vector of the tile
            const int64_t width = first + 1 < group.num_vectors ? 2 * lanes_ : lanes_;
            std::byte* tile = lines_.data()->bytes + (group.first_vector + first) * vector_bytes();
            for (int64_t u = 0; u < num_units_; ++u) {
                std::memcpy(tile + (u * width + token - first * lanes_) * kUnitBytes,
                            token_units.data() + u * kUnitBytes, kUnitBytes);
            }
        }
    }

    // One query token to its units.
    void convert(int64_t token, std::byte* to) {
        if (unit_ == Unit::bits) {
            std::memcpy(to, inputs_.q_codes.row(token), static_cast<size_t>(dim_ / 8));
        } else if (unit_ == Unit::i16_pair) {
            scales_[static_cast<size_t>(token)] = round_to_i16(inputs_.q.row(token), to);
        } else if (inputs_.docs.format != TokenFormat::bf16) {
            std::memcpy(to, inputs_.q.row(token), static_cast<size_t>(dim_) * sizeof(float));
        } else {
            round_to_bf16(inputs_.q.row(token), to);
        }
    }

    // To nearest, ties to even; as bf16, or as f32 where the kernel multiplies those.
    void round_to_bf16(const float* q, std::byte* to) const {
        for (int64_t d = 0; d < dim_; ++d) {
            const auto bits = std::bit_cast<uint32_t>(q[d]);
            uint32_t rounded = (bits + 0x7fffu + (bits >> 16 & 1u)) >> 16;
            if (std::isnan(q[d])) rounded = bits >> 16 | 0x40u;
            if (unit_ == Unit::f32) {
                const uint32_t wide = rounded << 16;
                std::memcpy(to + 4 * d, &wide, sizeof wide);
            } else {
                const auto narrow = static_cast<uint16_t>(rounded);
                std::memcpy(to + 2 * d, &narrow, sizeof narrow);
            }
        }
    }

    // To whole numbers; returns their scale. Codes are read least significant bit first, but written most significant
    // first: the values change places instead.
    float round_to_i16(const float* q, std::byte* to) const {
        const auto limit = static_cast<float>(query_limit(dim_, inputs_.docs.format));
        float peak = 0.0f;
        bool is_finite = true;
        for (int64_t d = 0; d < dim_; ++d) {
            is_finite = is_finite && std::isfinite(q[d]);
            peak = std::max(peak, std::fabs(q[d]));
        }
        const float scale = is_finite ? peak / limit : std::numeric_limits<float>::quiet_NaN();
        const int64_t flip = inputs_.docs.format == TokenFormat::codes ? 7 : 0;
        for (int64_t d = 0; d < dim_; ++d) {
            const double whole = scale > 0.0f ? std::nearbyint(double{q[d]} / double{scale}) : 0.0;
            const auto value = static_cast<int16_t>(std::clamp<double>(whole, -limit, limit));
            std::memcpy(to + 2 * (d ^ flip), &value, sizeof value);
        }
        return scale;
    }

    const MaxsimInputs& inputs_;
    Unit unit_;
    int64_t lanes_, dim_, num_units_ = 0;
    std::vector<QueryGroup> groups_;
    std::vector<float> scales_;
    std::vector<Line> lines_;
};

}  // namespace longspan
