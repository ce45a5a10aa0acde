// The floating types that kernels read, named at run time.
#pragma once

#include "core/cuda_device.h"

namespace longspan::cuda {

enum class Float { f32, f16, bf16 };

inline int bytes_of(Float dtype) {
    return dtype == Float::f32 ? 4 : 2;
}

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
