#include "core/simd_neon.h"

#include "span_mean/kernel.h"
