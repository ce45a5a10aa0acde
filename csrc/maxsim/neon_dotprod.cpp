#define LONGSPAN_ISA neon_dotprod

#include "maxsim/lanes_neon.h"

#include "maxsim/kernel.h"
