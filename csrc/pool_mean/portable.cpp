#include "core/simd_portable.h"

#include "pool_mean/kernel.h"
