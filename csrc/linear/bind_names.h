// The names that Python has for linear's choices.
#pragma once

#include <array>
#include <optional>
#include <string>
#include <utility>

#include "core/error.h"
#include "linear/linear.h"

namespace longspan {

template <class Value, size_t kCount>
using Names = std::array<std::pair<const char*, Value>, kCount>;

inline constexpr Names<Activation, 5> kActivations = {{{"relu", Activation::relu},
                                                       {"gelu", Activation::gelu},
                                                       {"gelu_tanh", Activation::gelu_tanh},
                                                       {"silu", Activation::silu},
                                                       {"tanh", Activation::tanh}}};
// The value that `name` stands for; Value::none for None.
template <class Value, size_t kCount>
inline Value value_of(const char* argument, const Names<Value, kCount>& names, const std::optional<std::string>& name) {
    if (!name) return Value::none;
    for (const auto& [known, value] : names) {
        if (*name == known) return value;
    }
    reject(argument, " is unknown: '", *name, "'");
}

inline Activation activation_of(const char* argument, const std::optional<std::string>& name) {
    return value_of(argument, kActivations, name);
}

}  // namespace longspan
