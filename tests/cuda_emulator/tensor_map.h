// The emulator's tensor maps: what the driver makes of a plan, and its rules.
#pragma once

#include <cstdint>
#include <stdexcept>
#include <string>

namespace emulator {

struct alignas(64) TensorMap {
    const unsigned char* data;
    uint64_t sizes[3];
    uint64_t strides[2];
    uint32_t box[3];
};

// As cuTensorMapEncodeTiled with 128-byte swizzling: throws where cuda.h says that the driver refuses.
template <class Plan>
TensorMap encode_tensor_map(const char* what, const Plan& plan) {
    constexpr uint64_t kMostStride = uint64_t{1} << 40, kMostSize = uint64_t{1} << 32;
    bool is_good = plan.data != nullptr && reinterpret_cast<uintptr_t>(plan.data) % 16 == 0 && plan.box[0] * 2 <= 128 &&
                   plan.box[0] * 2 % 16 == 0;
    for (const uint64_t size : plan.sizes) is_good = is_good && size >= 1 && size <= kMostSize;
    for (const uint64_t stride : plan.strides) is_good = is_good && stride % 16 == 0 && stride < kMostStride;
    for (const uint32_t side : plan.box) is_good = is_good && side >= 1 && side <= 256;
    if (!is_good) throw std::runtime_error(std::string(what) + ": cuTensorMapEncodeTiled says 1");
    TensorMap map{static_cast<const unsigned char*>(plan.data), {}, {}, {}};
    for (int axis = 0; axis < 3; ++axis) map.sizes[axis] = plan.sizes[axis], map.box[axis] = plan.box[axis];
    for (int axis = 0; axis < 2; ++axis) map.strides[axis] = plan.strides[axis];
    return map;
}

}  // namespace emulator
