// Reading floating values of any width, several at once; for .cu files.
#pragma once

#include "core/cuda_device.h"

namespace longspan::cuda {

// sizeof(T) * kCount bytes, at most 16, read at once.
template <class T, int kCount>
struct alignas(sizeof(T) * kCount) Pack {
    T values[kCount];
};

// A pack that is read once, and need not stay in the caches.
template <class T, int kCount>
__device__ inline Pack<T, kCount> load_once(const T* from) {
    if constexpr (sizeof(T) * kCount == 16) {
        const uint4 words = __ldcs(reinterpret_cast<const uint4*>(from));
        Pack<T, kCount> pack;
        static_assert(sizeof pack == sizeof words);
        memcpy(&pack, &words, sizeof pack);
        return pack;
    } else {
        return *reinterpret_cast<const Pack<T, kCount>*>(from);
    }
}

}  // namespace longspan::cuda
