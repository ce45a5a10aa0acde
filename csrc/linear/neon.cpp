#include "linear/lanes_neon.h"

#include "linear/kernel.h"

namespace longspan::neon {

#include "linear/level.h"

}  // namespace longspan::neon
