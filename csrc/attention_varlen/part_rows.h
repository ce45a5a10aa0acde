// A part's rows on their way: a tile's queries in, a block of keys and values in, a tile's results out.

namespace longspan::LONGSPAN_ISA {
namespace {

// Rows [first, last) of `heads` heads. Inlined by force, as fetch_row().
[[gnu::always_inline]] inline void fetch_rows(const HeadsView<const float>& view, int64_t first, int64_t last,
                                              int64_t head, int64_t heads) {
    for (int64_t row = first; row < last; ++row) {
        for (int64_t i = head; i < head + heads; ++i) fetch_row(view.at(row, i), view.head_dim);
    }
}

// Asks for the rows of the part that comes next if the sequences are short: the next key head, else the next
// sequence. Such parts are done sooner than the memory answers, and their strided rows defeat its own look-ahead.
template <class Kind>
[[gnu::always_inline]] inline void fetch_next_part(const PartPlan<Kind>& plan) {
    constexpr int64_t kBlockKeys = Kind::kBlockKeys;
    const AttentionArgs& args = plan.args;
    const bool is_last_head = plan.part.kv_head + 1 == args.k.heads;
    const int64_t sequence = plan.part.sequence + (is_last_head ? 1 : 0);
    const int64_t head = is_last_head ? 0 : plan.part.kv_head + 1;
    if (sequence + 1 >= args.cu_seqlens_k.size) return;
    const int32_t *q_rows = args.cu_seqlens_q.data + sequence, *k_rows = args.cu_seqlens_k.data + sequence;
    if (plan.num_keys > kBlockKeys || k_rows[1] - k_rows[0] > kBlockKeys || q_rows[1] - q_rows[0] > kBlockKeys) return;
    fetch_rows(args.q, q_rows[0], q_rows[1], head * args.group(), args.group());
    fetch_rows(args.k, k_rows[0], k_rows[1], head, 1);
    fetch_rows(args.v, k_rows[0], k_rows[1], head, 1);
}

// Loads a tile's queries; it has seen no key yet.
template <class Kind>
void begin_tile(const PartPlan<Kind>& plan, const PartScratch<Kind>& scratch, const Tile& tile) {
    const AttentionArgs& args = plan.args;
    const int64_t stride = tile.vectors() * F32::kLanes;
    for (int64_t lane = 0; lane < stride; lane += F32::kLanes) {
        const int64_t count = least(F32::kLanes, tile.num_rows - lane);
        const float* rows = args.q.at(plan.q_start + tile.first_row + lane, tile.head);
        int64_t row_stride = args.q.row_stride;
        const Rows some{rows, row_stride, count, tile.num_rows - lane};
        const int64_t table_row = plan.table_start + tile.position + lane;
        if constexpr (Kind::kIsWhole) {
            load_rows<Kind>(some, plan.dim, args, table_row, scratch.whole.rows);
            const F32 scales =
                whole_queries(scratch.whole, count, plan.dim, stride, tile.floats + lane, tile.queries + lane);
            (scales * F32::all(args.scale * Kind::kLogUnit)).store(tile.scales + lane);
        } else {
            if (plan.stages_queries) {
                stage_rows<Kind>(some, plan.dim, args, table_row, scratch.turned, scratch.rows);
                rows = scratch.rows;
                row_stride = plan.units;
            }
            rows_to_lanes(rows, row_stride, count, plan.units, tile.queries + lane, stride);
        }
        if constexpr (Kind::kTogether > 1) {
            for (int64_t d = 0; d < plan.dim; ++d) F32::zero().store(tile.outputs + d * tile.output_stride + lane);
        }
        F32::all(kHidden).store(tile.top + lane);
        F32::zero().store(tile.sum + lane);
    }
}

// Keys [first, last) of the sequence with their values: where they lie, or staged.
template <class Kind>
KeyRun read_keys(const PartPlan<Kind>& plan, const PartScratch<Kind>& scratch, int64_t first, int64_t last) {
    const AttentionArgs& args = plan.args;
    const int64_t count = last - first, following = plan.num_keys - first;
    KeyRun run{first,
               last,
               args.k.at(plan.k_start + first, plan.part.kv_head),
               args.v.at(plan.k_start + first, plan.part.kv_head),
               scratch.whole.mean,
               args.k.row_stride,
               args.v.row_stride};
    const Rows keys{run.keys, run.key_stride, count, following}, values{run.values, run.value_stride, count, following};
    if constexpr (Kind::kIsWhole) {
        load_rows<Kind>(keys, plan.dim, args, plan.table_start + first, scratch.whole.rows);
        whole_keys(scratch.whole, count, plan.dim, scratch.rows);
        run.keys = scratch.rows;
        run.key_stride = scratch.whole.key_floats(plan.dim);
    } else if (plan.stages_keys) {
        stage_rows<Kind>(keys, plan.dim, args, plan.table_start + first, scratch.turned, scratch.rows);
        run.keys = scratch.rows;
        run.key_stride = plan.units;
    }
    if (plan.stages_values) {
        if constexpr (Kind::kTogether > 1) {
            Kind::stage_values(values, plan.dim, scratch.whole.rows, scratch.value_rows, scratch.value_units);
        } else {
            stage_values<Kind>(values, plan.dim, scratch.value_rows);
        }
        run.values = scratch.value_rows;
        run.value_stride = plan.dim;
    }
    return run;
}

// A tile's outputs over the sum of its weights, into its rows of the result; zeros where a query sees no key.
template <class Kind>
void finish_tile(const PartPlan<Kind>& plan, const Tile& tile) {
    const HeadsView<float>& out = plan.args.out;
    const int64_t stride = tile.vectors() * F32::kLanes;
    const bool is_blind = tile.first_key >= tile.last_key;
    for (int64_t lane = 0; lane < stride; lane += F32::kLanes) {
        const int64_t count = least(F32::kLanes, tile.num_rows - lane);
        float* rows = out.at(plan.q_start + tile.first_row + lane, tile.head);
        if (!is_blind) {
            const F32 scale = F32::all(Kind::kWeightOfTop) / F32::load(tile.sum + lane);
            lanes_to_rows(
                tile.outputs + lane, tile.output_stride, [&](F32 sum) { return sum * scale; }, count, plan.dim, rows,
                out.row_stride);
        }
        for (int64_t row = 0; row < count; ++row) {
            if (!is_blind && plan.sees_any(tile.position + lane + row)) continue;
            float* blind_row = rows + row * out.row_stride;
            for (int64_t d = 0; d < plan.dim; ++d) blind_row[d] = 0.0f;
        }
    }
}

}  // namespace
}  // namespace longspan::LONGSPAN_ISA
