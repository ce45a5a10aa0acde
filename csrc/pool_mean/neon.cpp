#include "core/simd_neon.h"

#include "pool_mean/kernel.h"
