#include "core/simd_portable.h"

#include "span_mean/kernel.h"
