#include "core/simd_neon.h"

#include "layer_norm/kernel.h"
