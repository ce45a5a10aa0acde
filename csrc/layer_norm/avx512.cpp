#include "core/simd_avx512.h"

#include "layer_norm/kernel.h"
