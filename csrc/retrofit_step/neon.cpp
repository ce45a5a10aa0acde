#include "core/simd_neon.h"

#include "retrofit_step/kernel.h"
