#include "core/simd_portable.h"

#include "retrofit_step/kernel.h"
