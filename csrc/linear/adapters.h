// The adapters' second product, B (A x), for the rows of one task: more words of the same sums. For kernel.h, once an
// instruction set.

namespace longspan::LONGSPAN_ISA {
namespace {

// Kind is what B is multiplied in.
template <class Kind>
class OwnAdapters {
public:
    // Words that `rows` need for their shrunk values: (chunks of a K block's depth, rows, kStride).
    static int64_t words(const LoraView& lora, int64_t rows) {
        return divide_up(words_for(Kind::kDtype, lora.rank), kDepth<Kind>) * rows * kStride;
    }

    // Stages, in `staged`, what their own adapters left of the block's rows.
    OwnAdapters(const LoraView& lora, const LinearBlock& block, Word* staged)
        : lora_(lora), first_row_(block.first_row), rows_(block.last_row - block.first_row), staged_(staged) {
        constexpr int64_t kChunk = kDepth<Kind> * values_per_word(Kind::kDtype);
        for (int64_t r = 0; lora.segments != nullptr && r < rows_; ++r) {
            const int32_t id = lora.ids[first_row_ + r];
            if (id < 0) continue;
            const float* values = lora.shrunk.row(first_row_ + r) + id * lora.rank;
            for (int64_t j = 0; j < lora.rank; j += kChunk) {
                stage_words<Kind>(values + j, at_most(lora.rank - j, kChunk),
                                  staged + (j / kChunk * rows_ + r) * kStride);
            }
        }
    }

    // What all rows of a strip go on with while their sums of Base are in registers: none if their adapters differ or
    // there is none, if Base is multiplied in other words, or if the words are in two chunks.
    template <class Base>
    std::optional<Extension> extension(int64_t first_row, int64_t rows, int64_t panel) const {
        if (!std::is_same_v<Base, Kind> || lora_.segments == nullptr) return std::nullopt;
        const int32_t id = lora_.ids[first_row];
        if (id < 0 || run_of(first_row, rows) < rows) return std::nullopt;
        const LoraSegment& segment = segment_of(panel, id);
        const Extension whole = rest_of(segment, first_row, 0);
        return whole.depth == segment.depth ? std::optional(whole) : std::nullopt;
    }

    // Adds to a strip's tile what its rows' adapters say: the sums go on from where they lie, as they would have in
    // registers.
    void expand(int64_t first_row, int64_t rows, int64_t panel, Word* tile) const {
        each_chunk(first_row, rows, panel, [&](int64_t row, int64_t run, const Extension& more, bool) {
            kMultiply<Kind>.extended[run - 1](more.staged, more.panel, 0, 0, {more.panel, 0},
                                              {tile + row * kColumns, 0, true}, &more);
        });
    }

    // What its rows' adapters say, by itself; -0, which adds nothing to any number, where there is none.
    void expand_alone(int64_t first_row, int64_t rows, int64_t panel, Word* tile) const {
        constexpr Word kNothing = 0x80000000u;
        for (int64_t r = 0; r < rows; ++r) {
            const int32_t id = lora_.ids[first_row + r];
            if (id >= 0 && segment_of(panel, id).depth > 0) continue;
            for (int64_t column = 0; column < kColumns; ++column) tile[r * kColumns + column] = kNothing;
        }
        each_chunk(first_row, rows, panel, [&](int64_t row, int64_t run, const Extension& more, bool is_first) {
            kMultiply<Kind>.one[run - 1](more.staged, more.panel, 0, more.depth, {more.panel, 0},
                                         {tile + row * kColumns, 0, !is_first}, nullptr);
        });
    }

private:
    // Calls body(row, rows, words, whether they are the first) for runs of a strip's rows with the same adapter.
    template <class Body>
    void each_chunk(int64_t first_row, int64_t rows, int64_t panel, Body&& body) const {
        for (int64_t row = 0, end; row < rows; row = end) {
            end = row + run_of(first_row + row, rows - row);
            const int32_t id = lora_.ids[first_row + row];
            if (id < 0) continue;
            const LoraSegment& segment = segment_of(panel, id);
            for (int64_t done = 0; done < segment.depth;) {
                const Extension more = rest_of(segment, first_row + row, done);
                body(row, end - row, more, done == 0);
                done += more.depth;
            }
        }
    }

    const LoraSegment& segment_of(int64_t panel, int32_t id) const {
        return lora_.segments[panel * lora_.num_adapters + id];
    }

    // How many rows from this one on have its adapter.
    int64_t run_of(int64_t row, int64_t rows) const {
        const int32_t* ids = lora_.ids + row;
        int64_t end = 1;
        while (end < rows && ids[end] == ids[0]) ++end;
        return end;
    }

    // Words of a segment from `done` on, to the end of their chunk.
    Extension rest_of(const LoraSegment& segment, int64_t row, int64_t done) const {
        const int64_t j = segment.first + done, from = j % kDepth<Kind>;
        const Word* staged = staged_ + (j / kDepth<Kind> * rows_ + row - first_row_) * kStride;
        return {staged + from * Kind::kParts, segment.panel + done * kColumns,
                at_most(segment.depth - done, kDepth<Kind> - from)};
    }

    const LoraView& lora_;
    int64_t first_row_, rows_;
    Word* staged_;
};

}  // namespace
}  // namespace longspan::LONGSPAN_ISA
