// Tensors of any framework, as DLPack capsules hand them over: seen for the length of a call, never owned.
//
// The structures are DLPack's binary interface (dmlc/dlpack, major version 0, capsules named "dltensor"), as far as
// they are read here.
#pragma once

#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <cstdint>
#include <string>
#include <vector>

#include "core/error.h"

namespace longspan {

namespace py = pybind11;

namespace dlpack {

inline constexpr int32_t kCuda = 2;
enum Code : uint8_t { kInt = 0, kUint = 1, kFloat = 2, kBfloat = 4, kBool = 6 };

struct Device {
    int32_t type;
    int32_t number;
};

struct Dtype {
    uint8_t code;
    uint8_t bits;
    uint16_t lanes;
};

struct Tensor {
    void* data;
    Device device;
    int32_t ndim;
    Dtype dtype;
    int64_t* shape;
    int64_t* strides;  // null: rows lie one behind the other
    uint64_t byte_offset;
};

struct ManagedTensor {
    Tensor tensor;
    void* context;
    void (*deleter)(ManagedTensor*);
};

}  // namespace dlpack

// A tensor on a GPU that was checked: its last axis is contiguous, its values have `dtype`.
struct DeviceArray {
    unsigned char* data = nullptr;
    int device = 0;
    std::vector<int64_t> shape;
    int64_t row_stride = 0;        // values between rows; 1 for a vector
    std::vector<int64_t> strides;  // values, of all axes
    uint8_t code = 0, bits = 0;

    template <class T>
    T* as() const {
        return reinterpret_cast<T*>(data);
    }
};

// Throws std::invalid_argument unless `capsule` is a tensor of `ndim` axes on a GPU with a contiguous last axis.
inline DeviceArray device_array(const char* name, const py::capsule& capsule, int ndim) {
    if (capsule.name() == nullptr || std::string(capsule.name()) != "dltensor") {
        reject(name, " must be a DLPack capsule that nobody has taken yet");
    }
    const auto& tensor = capsule.get_pointer<dlpack::ManagedTensor>()->tensor;
    if (tensor.device.type != dlpack::kCuda) reject(name, " must be on a CUDA device");
    if (tensor.ndim != ndim) reject(name, " must have ", ndim, " axes, got ", tensor.ndim);
    if (tensor.dtype.lanes != 1) reject(name, " must have one lane a value, got ", tensor.dtype.lanes);
    DeviceArray array;
    array.data = static_cast<unsigned char*>(tensor.data) + tensor.byte_offset;
    array.device = tensor.device.number;
    array.shape.assign(tensor.shape, tensor.shape + ndim);
    array.code = tensor.dtype.code;
    array.bits = tensor.dtype.bits;
    array.strides.resize(array.shape.size());
    int64_t behind = 1;
    for (size_t axis = array.shape.size(); axis-- > 0; behind *= array.shape[axis]) {
        array.strides[axis] = tensor.strides != nullptr ? tensor.strides[axis] : behind;
    }
    const int64_t columns = array.shape.back();
    const bool has_strides = tensor.strides != nullptr;
    if (has_strides && columns > 1 && tensor.strides[ndim - 1] != 1) reject(name, " must have a contiguous last axis");
    const bool has_rows = ndim > 1 && array.shape[0] > 1;  // the stride of one row may be anything
    array.row_stride = ndim == 1 ? 1 : has_strides && has_rows ? tensor.strides[0] : columns;
    return array;
}

// The same, of a given type: code and bits as in DLPack.
inline DeviceArray device_array(const char* name, const py::capsule& capsule, int ndim, uint8_t code, uint8_t bits) {
    DeviceArray array = device_array(name, capsule, ndim);
    if (array.code != code || array.bits != bits) {
        reject(name, " must have DLPack type ", int{code}, " of ", int{bits}, " bits, got ", int{array.code}, " of ",
               int{array.bits});
    }
    return array;
}

}  // namespace longspan
