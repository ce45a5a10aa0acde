// VPOPCNTDQ counts the bits of a word in one instruction.
#define LONGSPAN_ISA avx512_vnni

#include "hamming/words_avx512.h"

namespace longspan::avx512_vnni {
namespace {

struct Counter {
    static constexpr int64_t kMaxWords = int64_t{1} << 32;  // no word count comes near

    static Words count(Words x) { return {_mm512_popcnt_epi64(x.v)}; }
    static Words total(Words counts) { return counts; }
};

}  // namespace
}  // namespace longspan::avx512_vnni

#include "hamming/kernel.h"
