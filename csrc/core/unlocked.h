// Lets other Python threads run for as long as it lives.
#pragma once

#include <pybind11/pybind11.h>

#include <chrono>
#include <thread>

namespace longspan {

// As py::gil_scoped_release, but that a daemon thread which comes back while the interpreter is shutting down ends
// quietly: before CPython 3.14 asking for the lock then ends the thread from within, and unwinding through a destructor
// that may not throw aborts the process. So this one may, and a thread that sees the shutdown in time never asks.
class Unlocked {
public:
    Unlocked() : state_(PyEval_SaveThread()) {}
    Unlocked(const Unlocked&) = delete;
    Unlocked& operator=(const Unlocked&) = delete;
    ~Unlocked() noexcept(false) {
        while (is_finalizing()) std::this_thread::sleep_for(std::chrono::hours(1));  // until the process ends
        PyEval_RestoreThread(state_);
    }

private:
    static bool is_finalizing() {
#if PY_VERSION_HEX >= 0x030D0000
        return Py_IsFinalizing() != 0;
#else
        return _Py_IsFinalizing() != 0;
#endif
    }

    PyThreadState* state_;
};

}  // namespace longspan
