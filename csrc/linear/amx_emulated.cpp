// The kernels of amx.cpp with tiles that plain C++ plays, on four lanes: for tests, on any machine.
#define LONGSPAN_ISA amx_emulated
#define LONGSPAN_HAS_TILES
#define LONGSPAN_PLAYS_TILES

#include "linear/lanes_played.h"

#include "linear/kernel.h"

namespace longspan::amx_emulated {

void linear_bf16(const LinearArgs& args, const LinearBlock& block) {
    const TilesInUse tiles(kTileConfig);
    walk<Bf16Kind>(args, block);
}
void stage_bf16(const LinearArgs& args, int64_t first_row, int64_t last_row) {
    stage_rows<Bf16Kind>(args, first_row, last_row);
}

void linear_i8(const LinearArgs& args, const LinearBlock& block) {
    const TilesInUse tiles(kTileConfig);
    walk<Int8Kind>(args, block);
}
void stage_i8(const LinearArgs& args, int64_t first_row, int64_t last_row) {
    stage_rows<Int8Kind>(args, first_row, last_row);
}

void saturate(float* values, int64_t count, Saturation saturation) {
    saturate_values(values, count, saturation);
}

}  // namespace longspan::amx_emulated
