// attention_varlen: softmax(q k^T * scale + bias) v for each packed sequence and head, with no array of length squared.
//   q, out (total_q, num_heads, head_dim) f32; k, v (total_k, num_kv_heads, head_dim) f32; any row and head strides
//   query head h reads key head h / (num_heads / num_kv_heads)
//   query row r of a sequence stands at i = len_k - len_q + r (aligned at the end), key row j at j
//   with rotary_by_key, what stands at j is rotated by row cu_seqlens_k[sequence] + j of the tables, else by row j
//   score(i, j) = scale * <rope(q_i), rope(k_j)> - slopes[h] * |i - j| + bias_table[h][clip(j - i, -D, D) + D]
//   key j is visible from i where i - left <= j <= i + right; a row that sees no key gives zeros
// Sums and the online softmax are f32, and so are the products' operands unless they are rounded to bf16. A sequence's
// result depends on that sequence alone, bit for bit: key blocks and query tiles are cut from its own start, and every
// query sits in a lane of its own.
// FLOPs = 4 * visible pairs * head_dim per head; bytes are few beside them: the limit is the FMA rate.
// Scratch: about 800 KB a thread, whatever the length (1.5 MB for int8 at avx512_fp16).
#pragma once

#include "core/tensor_view.h"

namespace longspan {

struct AttentionArgs {
    HeadsView<const float> q;
    HeadsView<const float> k;
    HeadsView<const float> v;
    VectorView<const int32_t> cu_seqlens_q;
    VectorView<const int32_t> cu_seqlens_k;
    VectorView<const float> slopes;      // (num_heads,); data null: no ALiBi
    MatrixView<const float> cos;         // (max_position, rotary_dim / 2); data null: no RoPE
    MatrixView<const float> sin;         // as cos
    bool interleaved;                    // RoPE pairs (2 p, 2 p + 1), else (p, p + rotary_dim / 2)
    bool rotary_by_key;                  // cos and sin have a row for each key of the pack, (total_k, ...)
    MatrixView<const float> bias_table;  // (num_heads, 2 * D + 1); data null: none
    int64_t left;                        // kUnlimited: no limit
    int64_t right;
    float scale;
    HeadsView<float> out;
    bool rounds_to_bf16;  // both products take operands rounded to bf16
    // Sequences of kKeysWorthBytes keys and more: the first product takes q and k as whole numbers of eight bits
    // (whole.h), the second one f32, or bf16 or f16 where the level multiplies it. Shorter ones: both products f32, or
    // bf16 where the level multiplies that.
    bool takes_bytes;
    // q, k and v are bf16 as it is: a "float" of theirs is two neighbours, and their head_dim half of out's, which is a
    // multiple of 32. Without RoPE; rounds_to_bf16 or takes_bytes as well.
    bool holds_bf16;

    static constexpr int64_t kUnlimited = int64_t{1} << 40;

    int64_t group() const { return q.heads / k.heads; }
};

// Query rows [first_row, last_row) of one sequence, for all query heads of one key head.
struct AttentionPart {
    int64_t sequence;
    int64_t kv_head;
    int64_t first_row;  // a multiple of kAttentionRows, counted in the sequence
    int64_t last_row;   // as first_row, or the sequence's end
};

// Every instruction set's query tile divides this, so a part's border never cuts a tile.
inline constexpr int64_t kAttentionRows = 48;

// From here on whole numbers gain more than making them costs. Counts of keys alone decide, so a query's bits do not
// depend on which other queries are there.
inline constexpr int64_t kKeysWorthBytes = 256;

// A whole number has at most seven bits and a sign, and floats hold sums of so many products of two.
inline constexpr int64_t kMostBytes = 1024;

using AttentionFn = void(const AttentionArgs&, const AttentionPart&);

namespace portable {
AttentionFn attention_varlen, attention_varlen_bf16, attention_varlen_i8;
}
namespace avx2 {
AttentionFn attention_varlen, attention_varlen_bf16, attention_varlen_i8;
}
namespace avx_vnni {
AttentionFn attention_varlen_i8;
}
namespace avx512 {
AttentionFn attention_varlen, attention_varlen_bf16, attention_varlen_i8;
}
namespace avx512_vnni {
AttentionFn attention_varlen_i8;
}
namespace avx512_bf16 {
AttentionFn attention_varlen_bf16, attention_varlen_stored_bf16, attention_varlen_i8, attention_varlen_stored_bf16_i8;
}

namespace avx512_fp16 {
AttentionFn attention_varlen_i8, attention_varlen_stored_bf16_i8;
}

namespace neon {
AttentionFn attention_varlen, attention_varlen_bf16, attention_varlen_i8;
}
namespace neon_dotprod {
AttentionFn attention_varlen_i8;
}
namespace neon_i8mm {
AttentionFn attention_varlen_bf16, attention_varlen_stored_bf16, attention_varlen_i8, attention_varlen_stored_bf16_i8;
}

// Whether the level in force reads q, k and v in bf16 as they are; others widen them first.
bool attention_reads_bf16();

// Throws std::invalid_argument on shapes and offsets that do not fit.
void attention_varlen(const AttentionArgs& args);

}  // namespace longspan
