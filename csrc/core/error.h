// reject: how the core refuses bad input. The border turns std::invalid_argument into Python's ValueError.
#pragma once

#include <sstream>
#include <stdexcept>

namespace longspan {

// Throws std::invalid_argument with the parts written one after the other: reject("linear: x has ", n, " columns").
template <class... Parts>
[[noreturn]] void reject(const Parts&... parts) {
    std::ostringstream text;
    (text << ... << parts);
    throw std::invalid_argument(text.str());
}

}  // namespace longspan
