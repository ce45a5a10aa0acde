// Exceptions as C strings, for ctypes.
#pragma once

#include <exception>
#include <string>

// Null, or the words of what `body` threw, until the next call.
template <class Body>
const char* guarded(Body&& body) {
    static std::string last_error;
    try {
        body();
        return nullptr;
    } catch (const std::exception& error) {
        last_error = error.what();
        return last_error.c_str();
    }
}
