#include "linear/lanes_portable.h"

#include "linear/kernel.h"

namespace longspan::portable {

#include "linear/level.h"

}  // namespace longspan::portable
