#include <algorithm>
#include <numeric>
#include <vector>

#include "attention_varlen/attention_varlen.h"
#include "core/error.h"
#include "core/isa.h"
#include "core/parallel.h"
#include "linear/words.h"

namespace longspan {
namespace {

constexpr Variant<AttentionFn> kVariants[] = {
#if LONGSPAN_X86
    {Isa::avx512, avx512::attention_varlen},
    {Isa::avx2, avx2::attention_varlen},
#endif
#if LONGSPAN_ARM64
    {Isa::neon, neon::attention_varlen},
#endif
    {Isa::portable, portable::attention_varlen}};

constexpr Variant<AttentionFn> kBf16Variants[] = {
#if LONGSPAN_X86
    {Isa::avx512_bf16, avx512_bf16::attention_varlen_bf16},
    {Isa::avx512, avx512::attention_varlen_bf16},
    {Isa::avx2, avx2::attention_varlen_bf16},
#endif
#if LONGSPAN_ARM64
    {Isa::neon_i8mm, neon_i8mm::attention_varlen_bf16},
    {Isa::neon, neon::attention_varlen_bf16},
#endif
    {Isa::portable, portable::attention_varlen_bf16}};

// What reads bf16 as it is; null: nothing does.
constexpr Variant<AttentionFn> kStoredBf16Variants[] = {
#if LONGSPAN_X86
    {Isa::avx512_bf16, avx512_bf16::attention_varlen_stored_bf16},
#endif
#if LONGSPAN_ARM64
    {Isa::neon_i8mm, neon_i8mm::attention_varlen_stored_bf16},
#endif
    {Isa::portable, nullptr}};

// What takes q and k as whole numbers.
constexpr Variant<AttentionFn> kBytesVariants[] = {
#if LONGSPAN_X86
#if LONGSPAN_AVX512_FP16
    {Isa::avx512_fp16, avx512_fp16::attention_varlen_i8},
#endif
    {Isa::avx512_bf16, avx512_bf16::attention_varlen_i8},
    {Isa::avx512_vnni, avx512_vnni::attention_varlen_i8},
    {Isa::avx512, avx512::attention_varlen_i8},
    {Isa::avx_vnni, avx_vnni::attention_varlen_i8},
    {Isa::avx2, avx2::attention_varlen_i8},
#endif
#if LONGSPAN_ARM64
    {Isa::neon_i8mm, neon_i8mm::attention_varlen_i8},
    {Isa::neon_dotprod, neon_dotprod::attention_varlen_i8},
    {Isa::neon, neon::attention_varlen_i8},
#endif
    {Isa::portable, portable::attention_varlen_i8}};

// The same of bf16 as it is.
constexpr Variant<AttentionFn> kStoredBytesVariants[] = {
#if LONGSPAN_X86
#if LONGSPAN_AVX512_FP16
    {Isa::avx512_fp16, avx512_fp16::attention_varlen_stored_bf16_i8},
#endif
    {Isa::avx512_bf16, avx512_bf16::attention_varlen_stored_bf16_i8},
#endif
#if LONGSPAN_ARM64
    {Isa::neon_i8mm, neon_i8mm::attention_varlen_stored_bf16_i8},
#endif
    {Isa::portable, nullptr}};

void check_offsets(const char* name, const VectorView<const int32_t>& offsets, int64_t total) {
    if (offsets.size < 1 || offsets.data[0] != 0 || offsets.data[offsets.size - 1] != total) {
        reject("attention_varlen: ", name, " must go from 0 to ", total);
    }
    for (int64_t i = 1; i < offsets.size; ++i) {
        if (offsets.data[i] < offsets.data[i - 1]) reject("attention_varlen: ", name, " must not fall, it does at ", i);
    }
}

template <class T>
void check_heads(const char* name, const HeadsView<T>& view, int64_t rows, int64_t heads, int64_t head_dim) {
    if (view.rows != rows || view.heads != heads || view.head_dim != head_dim) {
        reject("attention_varlen: ", name, " must be (", rows, ", ", heads, ", ", head_dim, "), got (", view.rows, ", ",
               view.heads, ", ", view.head_dim, ")");
    }
}

void check_tables(const AttentionArgs& args) {
    const int64_t heads = args.q.heads;
    if (args.slopes && args.slopes.size != heads) {
        reject("attention_varlen: slopes must have ", heads, " values, got ", args.slopes.size);
    }
    const auto& table = args.bias_table;
    if (table.data != nullptr && (table.rows != heads || table.cols % 2 != 1)) {
        reject("attention_varlen: bias_table must be (", heads, ", odd), got (", table.rows, ", ", table.cols, ")");
    }
    if (args.cos.data == nullptr) return;
    if (args.sin.data == nullptr || args.sin.rows != args.cos.rows || args.sin.cols != args.cos.cols) {
        reject("attention_varlen: sin must have the shape of cos, (", args.cos.rows, ", ", args.cos.cols, ")");
    }
    if (2 * args.cos.cols > args.q.head_dim) {
        reject("attention_varlen: cos must have at most ", args.q.head_dim / 2, " columns, got ", args.cos.cols);
    }
    if (args.rotary_by_key && args.cos.rows != args.k.rows) {
        reject("attention_varlen: cos must have a row for each of ", args.k.rows, " keys, got ", args.cos.rows);
    }
    for (int64_t i = 0; i + 1 < args.cu_seqlens_k.size; ++i) {
        const int64_t queries = args.cu_seqlens_q.data[i + 1] - args.cu_seqlens_q.data[i];
        const int64_t keys = args.cu_seqlens_k.data[i + 1] - args.cu_seqlens_k.data[i];
        if (keys > args.cos.rows || queries > keys) {
            reject("attention_varlen: sequence ", i, " has ", queries, " queries and ", keys,
                   " keys; cos needs a row per ", "key and queries no more than keys");
        }
    }
}

void check(const AttentionArgs& args) {
    const auto& q = args.q;
    const auto& k = args.k;
    const int64_t out_dim = q.head_dim * (args.holds_bf16 ? 2 : 1);
    if (args.takes_bytes && out_dim > kMostBytes) {
        reject("attention_varlen: head_dim must be at most ", kMostBytes, " for int8, got ", out_dim);
    }
    const bool is_rounded = args.rounds_to_bf16 || args.takes_bytes;
    if (args.holds_bf16 && (!is_rounded || args.cos.data != nullptr || out_dim % 32 != 0)) {
        reject(
            "attention_varlen: bfloat16 q, k and v need dtype bfloat16 or int8, no RoPE, a head_dim that 32 divides");
    }
    if (q.heads < 1 || q.head_dim < 1) reject("attention_varlen: q must have at least one head and one value a head");
    if (k.heads < 1 || q.heads % k.heads != 0) {
        reject("attention_varlen: q's ", q.heads, " heads must be a multiple of k's ", k.heads);
    }
    check_heads("k", k, k.rows, k.heads, q.head_dim);
    check_heads("v", args.v, k.rows, k.heads, q.head_dim);
    check_heads("out", args.out, q.rows, q.heads, out_dim);
    check_offsets("cu_seqlens_q", args.cu_seqlens_q, q.rows);
    check_offsets("cu_seqlens_k", args.cu_seqlens_k, k.rows);
    if (args.cu_seqlens_q.size != args.cu_seqlens_k.size) {
        reject("attention_varlen: cu_seqlens_q and cu_seqlens_k must have one length, got ", args.cu_seqlens_q.size,
               " and ", args.cu_seqlens_k.size);
    }
    if (args.left < 0 || args.right < 0) reject("attention_varlen: left and right must not be negative");
    check_tables(args);
}

// What one thread does without a break: whole heads of whole sequences, or some rows of one head.
struct Task {
    int64_t first_sequence, last_sequence;  // places in Plan::order
    int64_t first_head, last_head;          // key heads
    int64_t first_row, last_row;            // last_row kAllRows: to the end
};
constexpr int64_t kAllRows = -1;

// Multiply-adds that are worth waking a thread for (about 5 us).
constexpr double kTaskCost = 256 * 1024;
// More tasks than threads, so that the last ones end together.
constexpr int64_t kTasksPerThread = 8;
// Fewer rows would pay the reading of the keys too often.
constexpr int64_t kLeastRows = 4 * kAttentionRows;

struct Plan {
    const AttentionArgs& args;
    std::vector<int64_t> order;  // sequences, costliest first
    std::vector<Task> tasks;

    int64_t rows_of(int64_t sequence) const {
        return args.cu_seqlens_q.data[sequence + 1] - args.cu_seqlens_q.data[sequence];
    }

    int64_t keys_of(int64_t sequence) const {
        return args.cu_seqlens_k.data[sequence + 1] - args.cu_seqlens_k.data[sequence];
    }

    // Of one key head; rows count as whole vectors, and every row and key costs something by itself.
    double cost_of(int64_t sequence) const {
        const auto rows = static_cast<double>((rows_of(sequence) + 15) / 16 * 16);
        const auto keys = static_cast<double>(keys_of(sequence));
        return rows * (keys + 32) * static_cast<double>(args.group() * args.q.head_dim);
    }

    void build() {
        const int64_t heads = args.k.heads;
        const int64_t sequences = args.cu_seqlens_q.size - 1;
        order.resize(static_cast<size_t>(sequences));
        std::iota(order.begin(), order.end(), 0);
        const auto is_costlier = [&](int64_t a, int64_t b) { return cost_of(a) > cost_of(b); };
        if (!std::is_sorted(order.begin(), order.end(), is_costlier)) {
            std::stable_sort(order.begin(), order.end(), is_costlier);
        }
        double total = 0;
        for (int64_t i = 0; i < sequences; ++i) total += cost_of(i) * static_cast<double>(heads);
        const auto most_tasks = static_cast<double>(kTasksPerThread * num_threads());
        const double target = total / std::clamp(total / kTaskCost, 1.0, most_tasks);
        for (int64_t place = 0; place < sequences;) place = add_tasks(place, target);
    }

    // Tasks for the sequence at `place` and as many following ones as fit; returns the next place.
    int64_t add_tasks(int64_t place, double target) {
        const int64_t heads = args.k.heads;
        const double cost = cost_of(order[static_cast<size_t>(place)]);
        if (cost > target) {
            add_row_tasks(place, target / cost);
            return place + 1;
        }
        if (cost * static_cast<double>(heads) > target) {
            const auto heads_per_task = std::max<int64_t>(1, static_cast<int64_t>(target / cost + 0.5));
            for (int64_t head = 0; head < heads; head += heads_per_task) {
                tasks.push_back({place, place + 1, head, std::min(heads, head + heads_per_task), 0, kAllRows});
            }
            return place + 1;
        }
        int64_t end = place;
        double sum = 0;
        do {
            sum += cost_of(order[static_cast<size_t>(end++)]) * static_cast<double>(heads);
        } while (end < static_cast<int64_t>(order.size()) && sum < target);
        tasks.push_back({place, end, 0, heads, 0, kAllRows});
        return end;
    }

    // The sequence's rows in pieces of about `share` of it each, last rows first: a causal mask makes them the longest.
    void add_row_tasks(int64_t place, double share) {
        const int64_t rows = rows_of(order[static_cast<size_t>(place)]);
        const auto wanted = static_cast<int64_t>(static_cast<double>(rows) * share);
        const int64_t step = std::max(kLeastRows, (wanted + kAttentionRows - 1) / kAttentionRows * kAttentionRows);
        for (int64_t first = (rows - 1) / step * step; first >= 0; first -= step) {
            for (int64_t head = 0; head < args.k.heads; ++head) {
                tasks.push_back({place, place + 1, head, head + 1, first, std::min(rows, first + step)});
            }
        }
    }
};

// Rows of bf16 as floats, in `memory`.
HeadsView<const float> widened(const HeadsView<const float>& rows, std::vector<float>& memory) {
    const int64_t dim = 2 * rows.head_dim;
    memory.resize(static_cast<size_t>(rows.rows * rows.heads * dim));
    float* out = memory.data();
    for (int64_t row = 0; row < rows.rows; ++row) {
        for (int64_t head = 0; head < rows.heads; ++head, out += dim) {
            const auto* const from = reinterpret_cast<const std::byte*>(rows.at(row, head));
            load_weights(WeightFormat::bf16, from, dim, out);
        }
    }
    return {memory.data(), rows.rows, rows.heads, dim, rows.heads * dim, dim};
}

// For instruction sets that read floats alone.
void attend_widened(AttentionArgs args) {
    std::vector<float> q, k, v;
    args.q = widened(args.q, q);
    args.k = widened(args.k, k);
    args.v = widened(args.v, v);
    args.holds_bf16 = false;
    attention_varlen(args);
}

// For sequences with fewer keys than kKeysWorthBytes, and for the others.
struct Kernels {
    AttentionFn *few_keys, *many_keys;
};

Kernels kernels_for(const AttentionArgs& args, Isa isa) {
    if (!args.takes_bytes) {
        AttentionFn* const run = args.holds_bf16       ? pick_variant(kStoredBf16Variants, isa).run
                                 : args.rounds_to_bf16 ? pick_variant(kBf16Variants, isa).run
                                                       : pick_variant(kVariants, isa).run;
        return {run, run};
    }
    if (args.holds_bf16) {
        return {pick_variant(kStoredBf16Variants, isa).run, pick_variant(kStoredBytesVariants, isa).run};
    }
    AttentionFn* const few =
        attention_reads_bf16() ? pick_variant(kBf16Variants, isa).run : pick_variant(kVariants, isa).run;
    return {few, pick_variant(kBytesVariants, isa).run};
}

}  // namespace

bool attention_reads_bf16() {
    return pick_variant(kStoredBf16Variants, active_isa()).run != nullptr;
}

void attention_varlen(const AttentionArgs& args) {
    check(args);
    if (args.holds_bf16 && !attention_reads_bf16()) return attend_widened(args);
    Plan plan{args, {}, {}};
    plan.build();
    const Kernels kernels = kernels_for(args, active_isa());
    parallel_for(static_cast<int64_t>(plan.tasks.size()), [&](int64_t number) {
        const Task& task = plan.tasks[static_cast<size_t>(number)];
        for (int64_t place = task.first_sequence; place < task.last_sequence; ++place) {
            const int64_t sequence = plan.order[static_cast<size_t>(place)];
            const int64_t last_row = task.last_row == kAllRows ? plan.rows_of(sequence) : task.last_row;
            if (task.first_row >= last_row) continue;
            AttentionFn* const run = plan.keys_of(sequence) >= kKeysWorthBytes ? kernels.many_keys : kernels.few_keys;
            for (int64_t head = task.first_head; head < task.last_head; ++head) {
                run(args, {sequence, head, task.first_row, last_row});
            }
        }
    });
}

}  // namespace longspan
