#define LONGSPAN_ISA neon_i8mm

#include "maxsim/lanes_neon.h"

#include "maxsim/kernel.h"
