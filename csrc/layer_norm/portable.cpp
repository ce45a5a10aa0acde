#include "core/simd_portable.h"

#include "layer_norm/kernel.h"
