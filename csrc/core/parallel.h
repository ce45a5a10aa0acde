// The one thread pool. Work is a number of independent tasks; which thread runs which task never changes a result.
#pragma once

#include <cstdint>
#include <type_traits>

namespace longspan {

// How many threads a call from this thread may use: its own limit, else the machine's (affinity and container quota
// respected). Always at least 1.
int num_threads();

// How many of them a parallel_for from here would run on: one, from inside a task.
int parallel_threads();

// Limits the calls that this thread makes from now on; 0 lifts the limit. Threads beyond the machine's are allowed.
// Returns the limit that was in force, 0 for none.
int set_num_threads(int limit);

namespace detail {
void run_tasks(int64_t tasks, void (*body)(void* context, int64_t task), void* context);
}

// Calls body(task) once for each task in [0, tasks), on num_threads() threads, and returns when all are done.
// Tasks are handed out in ascending order: put the longest first. An exception of a task is rethrown here.
// From inside a task, or while another thread holds the pool, the tasks run on the calling thread alone.
template <class Body>
void parallel_for(int64_t tasks, Body&& body) {
    using Plain = std::remove_reference_t<Body>;
    auto call = [](void* context, int64_t task) { (*static_cast<Plain*>(context))(task); };
    detail::run_tasks(tasks, call, const_cast<void*>(static_cast<const void*>(&body)));
}

// Memory that grows and is kept: no allocation in the steady state.
class Scratch {
public:
    Scratch() = default;
    Scratch(const Scratch&) = delete;
    Scratch& operator=(const Scratch&) = delete;
    ~Scratch() { release(); }

    // 64-byte aligned, at least `bytes` long; contents are undefined, and the next call may hand out the same memory.
    void* reserve(int64_t bytes);

private:
    void release();

    void* data_ = nullptr;
    int64_t capacity_ = 0;
};

// This thread's scratch memory for the inner loops of one op: `reserve` of a Scratch of its own.
void* thread_scratch(int64_t bytes);

}  // namespace longspan
