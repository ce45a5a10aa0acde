// The kernel, once for every instruction set: included by portable.cpp, avx2.cpp and avx512.cpp.

#include "pool_mean/pool_mean.h"

namespace longspan::LONGSPAN_ISA {
namespace {

// Sum of rows [begin, end) in columns [column, column + lanes).
inline F32 sum_rows(const MatrixView<const float>& hidden, int64_t begin, int64_t end, int64_t column, int64_t lanes) {
    F32 total = F32::zero();
    for (int64_t block = begin; block < end; block += kPoolBlock) {
        const int64_t block_end = block + kPoolBlock < end ? block + kPoolBlock : end;
        F32 part = F32::zero();
        for (int64_t row = block; row < block_end; ++row) {
            part = part + F32::load_first(hidden.row(row) + column, lanes);
        }
        total = total + part;
    }
    return total;
}

}  // namespace

void pool_mean(const PoolMeanArgs& args, int64_t sequence, int64_t first, int64_t last) {
    const int64_t begin = args.cu_seqlens.data[sequence];
    const int64_t end = args.cu_seqlens.data[sequence + 1];
    const F32 count = F32::all(end > begin ? static_cast<float>(end - begin) : 1.0f);
    float* out = args.out.row(sequence);
    for (int64_t column = first; column < last; column += F32::kLanes) {
        const int64_t lanes = last - column < F32::kLanes ? last - column : F32::kLanes;
        (sum_rows(args.hidden, begin, end, column, lanes) / count).store_first(out + column, lanes);
    }
}

}  // namespace longspan::LONGSPAN_ISA
