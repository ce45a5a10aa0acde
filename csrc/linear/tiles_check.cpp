// Whether AMX's tiles do on this machine what the kernels without them do: asked once, before they are first chosen.

#include <vector>

#include "linear/variants.h"
#include "linear/words.h"

#if LONGSPAN_X86
namespace longspan {
namespace {

// One product of 37 rows, 32 columns and 40 words of a column, of small whole numbers, so that every sum is exact.
struct Probe {
    static constexpr int64_t kRows = 37, kRoom = kRows + kRowsBehind, kColumns = avx512_bf16::kI8.columns, kWords = 48;
    std::vector<Word> staged = std::vector<Word>(kRoom * PanelShape::kStride);
    std::vector<Word> panel = std::vector<Word>(kWords * kColumns);
    std::vector<float> ones = std::vector<float>(kRoom, 1.0f), bias = std::vector<float>(kColumns);
    std::vector<int32_t> zeros = std::vector<int32_t>(kRoom), sums = std::vector<int32_t>(kColumns);

    explicit Probe(Dtype dtype) {
        uint32_t state = 1;
        const auto next = [&] {
            state = state * 1664525u + 1013904223u;
            return state >> 24;
        };
        const auto word = [&](bool is_signed) {
            Word word = 0;
            if (dtype == Dtype::i8) {
                for (int shift = 0; shift < 32; shift += 8) word |= Word{next()} << shift;
            } else {
                for (int shift = 0; shift < 32; shift += 16) {
                    const float value = static_cast<float>(next() % 16) - (is_signed ? 8.0f : 0.0f);
                    word |= Word{bf16_of(value)} << shift;
                }
            }
            return word;
        };
        for (Word& some : staged) some = word(false);
        for (int64_t i = 0; i < 40 * kColumns; ++i) panel[static_cast<size_t>(i)] = word(true);
    }

    std::vector<float> run(LinearFn* linear) {
        std::vector<float> out(kRows * kColumns);
        LinearArgs args{};
        args.x = {nullptr, kRows, 0, 0};
        args.staged = {staged.data(), kRows, ones.data(), zeros.data()};
        args.weights = {panel.data(), bias.data(), ones.data(), sums.data(), 1, 0, kWords, kColumns, false};
        args.activation = Activation::none;
        args.out = {out.data(), kRows, kColumns, kColumns};
        linear(args, {0, kRows, 0, 1});
        return out;
    }
};

}  // namespace

bool tiles_agree() {
    static const bool agree = [] {
        Probe bytes(Dtype::i8), halves(Dtype::bf16);
        return bytes.run(amx::linear_i8) == bytes.run(avx512_bf16::linear_i8) &&
               halves.run(amx::linear_bf16) == halves.run(avx512_bf16::linear_bf16);
    }();
    return agree;
}

}  // namespace longspan
#endif
