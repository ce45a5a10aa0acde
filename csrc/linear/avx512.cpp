#include "linear/lanes_avx512.h"

#include "linear/kernel.h"

namespace longspan::avx512 {

#include "linear/level.h"

}  // namespace longspan::avx512
