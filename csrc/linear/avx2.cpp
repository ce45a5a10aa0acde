#include "linear/lanes_avx2.h"

#include "linear/kernel.h"

namespace longspan::avx2 {

#include "linear/level.h"

}  // namespace longspan::avx2
