#define LONGSPAN_ISA neon_dotprod
#define LONGSPAN_DOTPROD

#include "maxsim/lanes_neon.h"

#include "maxsim/kernel.h"
