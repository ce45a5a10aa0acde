#define LONGSPAN_ISA neon_i8mm
#define LONGSPAN_DOTPROD
#define LONGSPAN_I8MM

#include "maxsim/lanes_neon.h"

#include "maxsim/kernel.h"
