// AMX's tiles: eight matrices of up to 16 rows of 64 bytes, and their products. Where LONGSPAN_PLAYS_TILES is defined,
// plain C++ plays them, for machines without, and traps what hardware would: a tile that is used before it is
// configured or beyond what it was configured for, and factors that do not fit. For files of one instruction set.
//
// A product adds to a tile of sums, (rows, columns) of 32 bits, words of a, (rows, words), times words of b, (words,
// columns): a word is four bytes, unsigned times signed, or two bf16. Sums of bf16 keep even and odd values apart to
// the end of the product, count numbers below 2^-126 as zeros, and round to nearest.
// Source: Intel 64 and IA-32 Architectures Software Developer's Manual, volume 2, TDPBUSD and TDPBF16PS.
#pragma once

#include <cstdint>
#include <cstring>

#ifdef LONGSPAN_PLAYS_TILES
#include <cmath>
#include <stdexcept>
#endif

#ifndef LONGSPAN_ISA
#error "define LONGSPAN_ISA, or include core/simd_<isa>.h before"
#endif

namespace longspan::LONGSPAN_ISA {

// What LDTILECFG reads.
struct alignas(64) TileConfig {
    static constexpr int kTiles = 8, kMostRows = 16, kMostBytes = 64;

    uint8_t palette = 1, start_row = 0, reserved[14] = {};
    uint16_t bytes[16] = {};  // of a row
    uint8_t rows[16] = {};

    constexpr void set(int tile, int tile_rows, int row_bytes) {
        rows[tile] = static_cast<uint8_t>(tile_rows);
        bytes[tile] = static_cast<uint16_t>(row_bytes);
    }
};
static_assert(sizeof(TileConfig) == 64);

#ifdef LONGSPAN_PLAYS_TILES

struct PlayedTiles {
    bool is_configured = false;
    TileConfig config;
    uint8_t memory[TileConfig::kTiles][TileConfig::kMostRows][TileConfig::kMostBytes];

    // The tile's rows and the bytes of each.
    void require(int tile) const {
        if (!is_configured) throw std::logic_error("a tile is used before it is configured");
        if (config.rows[tile] == 0 || config.bytes[tile] == 0) throw std::logic_error("a tile without rows is used");
    }
    void require_factors(int sums, int a, int b) const {
        for (const int tile : {sums, a, b}) require(tile);
        if (sums == a || sums == b || a == b) throw std::logic_error("a product takes three different tiles");
        if (config.rows[sums] != config.rows[a]) throw std::logic_error("a must have the rows of the sums");
        if (config.bytes[sums] != config.bytes[b]) throw std::logic_error("b must have the columns of the sums");
        if (config.bytes[a] != 4 * config.rows[b]) throw std::logic_error("b must have a row for each word of a's");
    }
    template <class T>
    T at(int tile, int row, int column) const {
        T value;
        std::memcpy(&value, memory[tile][row] + column * static_cast<int>(sizeof(T)), sizeof value);
        return value;
    }
    template <class T>
    void put(int tile, int row, int column, T value) {
        std::memcpy(memory[tile][row] + column * static_cast<int>(sizeof(T)), &value, sizeof value);
    }
};
inline thread_local PlayedTiles played;

inline void configure_tiles(const TileConfig& config) {
    if (config.palette != 1 || config.start_row != 0) throw std::logic_error("tiles are configured by palette 1");
    for (int tile = 0; tile < 16; ++tile) {
        const bool is_beyond = tile >= TileConfig::kTiles && (config.rows[tile] != 0 || config.bytes[tile] != 0);
        if (is_beyond || config.rows[tile] > TileConfig::kMostRows || config.bytes[tile] > TileConfig::kMostBytes) {
            throw std::logic_error("a tile has at most 16 rows of 64 bytes, and there are eight");
        }
        if ((config.rows[tile] == 0) != (config.bytes[tile] == 0)) {
            throw std::logic_error("a tile has both rows and bytes, or neither");
        }
    }
    played.config = config;
    std::memset(played.memory, 0, sizeof played.memory);
    played.is_configured = true;
}
inline void release_tiles() {
    played.is_configured = false;
}

template <int kTile>
inline void load_tile(const void* from, int64_t stride) {
    played.require(kTile);
    std::memset(played.memory[kTile], 0, sizeof played.memory[kTile]);
    for (int row = 0; row < played.config.rows[kTile]; ++row) {
        std::memcpy(played.memory[kTile][row], static_cast<const char*>(from) + row * stride,
                    played.config.bytes[kTile]);
    }
}
template <int kTile>
inline void store_tile(void* to, int64_t stride) {
    played.require(kTile);
    for (int row = 0; row < played.config.rows[kTile]; ++row) {
        std::memcpy(static_cast<char*>(to) + row * stride, played.memory[kTile][row], played.config.bytes[kTile]);
    }
}
template <int kTile>
inline void clear_tile() {
    played.require(kTile);
    std::memset(played.memory[kTile], 0, sizeof played.memory[kTile]);
}

template <int kSums, int kA, int kB>
inline void add_byte_products() {
    played.require_factors(kSums, kA, kB);
    const auto& config = played.config;
    for (int row = 0; row < config.rows[kSums]; ++row) {
        for (int column = 0; column < config.bytes[kSums] / 4; ++column) {
            auto sum = played.at<uint32_t>(kSums, row, column);  // which wraps, as the instruction's does
            for (int k = 0; k < config.bytes[kA]; ++k) {
                const int product = played.at<uint8_t>(kA, row, k) * played.at<int8_t>(kB, k / 4, column * 4 + k % 4);
                sum += static_cast<uint32_t>(product);
            }
            played.put(kSums, row, column, sum);
        }
    }
}

inline float without_denormals(float x) {
    return std::fabs(x) < 0x1p-126f ? std::copysign(0.0f, x) : x;
}
template <int kSums, int kA, int kB>
inline void add_bf16_products() {
    played.require_factors(kSums, kA, kB);
    const auto& config = played.config;
    const auto value = [](int tile, int row, int column) {
        const uint32_t bits = uint32_t{played.at<uint16_t>(tile, row, column)} << 16;
        float x;
        std::memcpy(&x, &bits, sizeof x);
        return without_denormals(x);
    };
    for (int row = 0; row < config.rows[kSums]; ++row) {
        for (int column = 0; column < config.bytes[kSums] / 4; ++column) {
            float parts[2] = {0.0f, 0.0f};  // of even and odd values
            for (int k = 0; k < config.bytes[kA] / 2; ++k) {
                // Products of bf16 are exact in double; so is their sum with a float, but for cases that a rounding to
                // float does not see.
                const double product = double{value(kA, row, k)} * double{value(kB, k / 2, column * 2 + k % 2)};
                parts[k % 2] = without_denormals(static_cast<float>(double{parts[k % 2]} + product));
            }
            const float both = without_denormals(parts[0] + parts[1]);
            const float before = without_denormals(played.at<float>(kSums, row, column));
            played.put(kSums, row, column, without_denormals(before + both));
        }
    }
}

#else

// Spelled out: GCC's intrinsics paste the numbers of tiles, so no template parameter can be one.
inline void configure_tiles(const TileConfig& config) {
    __asm__ volatile("ldtilecfg %0" ::"m"(config));
}
inline void release_tiles() {
    __asm__ volatile("tilerelease");
}
template <int kTile>
inline void load_tile(const void* from, int64_t stride) {
    __asm__ volatile("tileloadd (%0,%1,1), %%tmm%c2" ::"r"(from), "r"(stride), "i"(kTile) : "memory");
}
template <int kTile>
inline void store_tile(void* to, int64_t stride) {
    __asm__ volatile("tilestored %%tmm%c2, (%0,%1,1)" ::"r"(to), "r"(stride), "i"(kTile) : "memory");
}
template <int kTile>
inline void clear_tile() {
    __asm__ volatile("tilezero %%tmm%c0" ::"i"(kTile));
}
template <int kSums, int kA, int kB>
inline void add_byte_products() {
    __asm__ volatile("tdpbusd %%tmm%c2, %%tmm%c1, %%tmm%c0" ::"i"(kSums), "i"(kA), "i"(kB));
}
template <int kSums, int kA, int kB>
inline void add_bf16_products() {
    __asm__ volatile("tdpbf16ps %%tmm%c2, %%tmm%c1, %%tmm%c0" ::"i"(kSums), "i"(kA), "i"(kB));
}

#endif

// Tiles are configured while one of these lives; each thread has its own.
class TilesInUse {
public:
    explicit TilesInUse(const TileConfig& config) { configure_tiles(config); }
    ~TilesInUse() { release_tiles(); }
    TilesInUse(const TilesInUse&) = delete;
    TilesInUse& operator=(const TilesInUse&) = delete;
};

}  // namespace longspan::LONGSPAN_ISA
