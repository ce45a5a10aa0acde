// embed: what a token starts from, out[r] = words[ids[r]] + places[positions[r] + offset] + token_type, added in this
// order in f32.
//   words (vocab_size, dim), places (num_places, dim) f32, f16 or bf16; token_type (dim,) f32; out (rows, dim) f32
// Where texts of a pair are told apart, token_types (num_types, dim) f32 stands for token_type: row types[r] is added.
// The limit is memory: bytes = rows * dim * (a table's element, for each table, and 4 of out).
#pragma once

#include <cstdint>

#include "core/tensor_view.h"
#include "linear/words.h"

namespace longspan {

// Rows of `dim` values, which may lie at any address.
struct EmbeddingTable {
    WeightFormat format = WeightFormat::f32;
    MatrixView<const uint8_t> bytes;  // (rows, dim * bytes_of(format)); data null: no table
};

struct EmbedArgs {
    EmbeddingTable words;
    VectorView<const int32_t> ids;
    EmbeddingTable places;
    VectorView<const int32_t> positions;  // (rows,); read with places
    int64_t offset;
    VectorView<const float> token_type;   // data null: none
    MatrixView<const float> token_types;  // data null: none
    VectorView<const int32_t> types;      // (rows,); read with token_types
    MatrixView<float> out;
};

// Throws std::invalid_argument on shapes that do not fit and on rows that are not in their table; then `out` may be
// partly written.
void embed(const EmbedArgs& args);

}  // namespace longspan
