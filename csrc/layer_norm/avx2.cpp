#include "core/simd_avx2.h"

#include "layer_norm/kernel.h"
