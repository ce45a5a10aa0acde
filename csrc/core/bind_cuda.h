// What the bindings of the GPU's launchers share: the device in force, a stream from Python, types.
#pragma once

#include <initializer_list>

#include "core/cuda_host.h"
#include "core/dlpack.h"

namespace longspan::cuda {

// Makes a device the current one, and the one before it again in the end.
class DeviceGuard {
public:
    // Throws std::invalid_argument if the arrays lie on several devices.
    DeviceGuard(const char* op, std::initializer_list<const DeviceArray*> arrays) {
        const int device = (*arrays.begin())->device;
        for (const DeviceArray* array : arrays) {
            if (array->device != device) {
                reject(op, ": all tensors must be on one device, got cuda:", device, " and cuda:", array->device);
            }
        }
        require(cudaGetDevice(&before_), op);
        if (before_ != device) require(cudaSetDevice(device), op);
        is_changed_ = before_ != device;
    }
    ~DeviceGuard() {
        if (is_changed_) cudaSetDevice(before_);
    }
    DeviceGuard(const DeviceGuard&) = delete;
    DeviceGuard& operator=(const DeviceGuard&) = delete;

private:
    int before_ = 0;
    bool is_changed_ = false;
};

// A stream as torch gives it out: the address of a cudaStream_t.
inline Stream stream_of(uintptr_t stream) {
    return reinterpret_cast<Stream>(stream);
}

inline Float float_of(const char* name, const DeviceArray& array) {
    if (array.code == dlpack::kFloat && array.bits == 32) return Float::f32;
    if (array.code == dlpack::kFloat && array.bits == 16) return Float::f16;
    if (array.code == dlpack::kBfloat && array.bits == 16) return Float::bf16;
    reject(name, " must be float32, float16 or bfloat16");
}

inline void require_shape(const char* name, const DeviceArray& array, const std::vector<int64_t>& shape) {
    if (shape == array.shape) return;
    std::string want, got;
    for (const int64_t axis : shape) want += (want.empty() ? "" : ", ") + std::to_string(axis);
    for (const int64_t axis : array.shape) got += (got.empty() ? "" : ", ") + std::to_string(axis);
    reject(name, " must be (", want, "), got (", got, ")");
}

}  // namespace longspan::cuda
