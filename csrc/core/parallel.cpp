#include "core/parallel.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <memory>
#include <mutex>
#include <new>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include "core/error.h"
#include "core/isa.h"

#if defined(__linux__)
#include <sched.h>
#endif
#if defined(__unix__) || defined(__APPLE__)
#include <pthread.h>
#endif
#if LONGSPAN_X86
#include <immintrin.h>
#endif

namespace longspan {
namespace {

constexpr int kMaxThreads = 1024;
// A worker that has just finished spins this long before it sleeps: an encoder's ops follow each other within
// microseconds, and waking a sleeping thread costs tens of them.
constexpr auto kSpin = std::chrono::microseconds(60);

void pause_briefly() {
#if LONGSPAN_X86
    _mm_pause();
#endif
}

// Cores of the affinity mask, cut by the container's CPU quota (cgroup v2) where there is one.
int machine_threads() {
    int cores = static_cast<int>(std::thread::hardware_concurrency());
#if defined(__linux__)
    cpu_set_t mask;
    if (sched_getaffinity(0, sizeof(mask), &mask) == 0) cores = CPU_COUNT(&mask);
    if (std::FILE* file = std::fopen("/sys/fs/cgroup/cpu.max", "r")) {
        long long quota = 0, period = 0;
        if (std::fscanf(file, "%lld %lld", &quota, &period) == 2 && quota > 0 && period > 0) {
            cores = std::min<long long>(cores, (quota + period - 1) / period);
        }
        std::fclose(file);
    }
#endif
    return std::clamp(cores, 1, kMaxThreads);
}

int default_threads() {
    static const int threads = machine_threads();
    return threads;
}

struct Job {
    void (*body)(void*, int64_t);
    void* context;
    int64_t tasks;
    int max_helpers;
    int joined_helpers = 0;  // guarded by the pool's mutex
    std::atomic<int64_t> next{0};
    std::mutex error_mutex;
    std::exception_ptr error;

    void work() {
        for (int64_t task = next.fetch_add(1); task < tasks; task = next.fetch_add(1)) {
            try {
                body(context, task);
            } catch (...) {
                next.store(tasks);  // hand out no more
                const std::lock_guard lock(error_mutex);
                if (!error) error = std::current_exception();
            }
        }
    }
};

class Pool {
public:
    // False if another thread's job is running.
    bool run(Job& job) {
        const std::unique_lock turn(turn_, std::try_to_lock);
        if (!turn.owns_lock()) return false;
        open(job);
        job.work();
        close();
        return true;
    }

private:
    void open(Job& job) {
        {
            const std::lock_guard lock(mutex_);
            while (workers_ < job.max_helpers && add_worker()) {
            }
            job_ = &job;
            helpers_in_ = 0;
            epoch_.fetch_add(1);
        }
        wake_.notify_all();
    }

    // False where the system grants no further thread; the job then runs on those there are.
    bool add_worker() {
        try {
            std::thread([this] { serve(); }).detach();  // lives as long as the process
        } catch (const std::system_error&) {
            return false;
        }
        ++workers_;
        return true;
    }

    // No helper can join after this; those inside are waited for.
    void close() {
        std::unique_lock lock(mutex_);
        job_ = nullptr;
        if (helpers_in_ == 0) return;
        lock.unlock();
        const auto end = std::chrono::steady_clock::now() + kSpin;
        while (helpers_in_.load() != 0 && std::chrono::steady_clock::now() < end) pause_briefly();
        lock.lock();
        done_.wait(lock, [this] { return helpers_in_.load() == 0; });
    }

    void serve() {
        uint64_t seen = 0;
        for (;;) {
            wait_for_work(seen);
            Job* job = nullptr;
            {
                const std::lock_guard lock(mutex_);
                seen = epoch_.load();
                if (job_ != nullptr && job_->joined_helpers < job_->max_helpers) {
                    ++job_->joined_helpers;
                    job = job_;
                    helpers_in_.fetch_add(1);
                }
            }
            if (job == nullptr) continue;
            job->work();
            const std::lock_guard lock(mutex_);
            if (helpers_in_.fetch_sub(1) == 1) done_.notify_all();
        }
    }

    void wait_for_work(uint64_t seen) {
        const auto end = std::chrono::steady_clock::now() + kSpin;
        while (epoch_.load() == seen && std::chrono::steady_clock::now() < end) pause_briefly();
        if (epoch_.load() != seen) return;
        std::unique_lock lock(mutex_);
        wake_.wait(lock, [&] { return epoch_.load() != seen; });
    }

    std::mutex turn_;  // held by the thread whose job runs
    std::mutex mutex_;
    std::condition_variable wake_, done_;
    Job* job_ = nullptr;
    int workers_ = 0;
    std::atomic<int> helpers_in_{0};
    std::atomic<uint64_t> epoch_{0};
};

std::atomic<Pool*> current_pool{nullptr};

// Never freed: detached workers wait in it until the process ends, and a forked child must drop its parent's.
Pool& pool() {
    Pool* found = current_pool.load();
    if (found != nullptr) return *found;
    static const bool handler = [] {
#if defined(__unix__) || defined(__APPLE__)
        pthread_atfork(nullptr, nullptr, [] { current_pool.store(nullptr); });
#endif
        return true;
    }();
    (void)handler;
    auto fresh = std::make_unique<Pool>();
    if (current_pool.compare_exchange_strong(found, fresh.get())) return *fresh.release();
    return *found;
}

thread_local int thread_limit = 0;
thread_local bool inside_task = false;

struct TaskScope {
    bool outer = inside_task;
    TaskScope() { inside_task = true; }
    ~TaskScope() { inside_task = outer; }
};

thread_local Scratch scratch;

}  // namespace

int num_threads() {
    return thread_limit > 0 ? thread_limit : default_threads();
}

int parallel_threads() {
    return inside_task ? 1 : num_threads();
}

int set_num_threads(int limit) {
    if (limit < 0 || limit > kMaxThreads) reject("num_threads must be from 0 (all) to ", kMaxThreads, ", got ", limit);
    return std::exchange(thread_limit, limit);
}

constexpr std::align_val_t kScratchAlignment{64};

void* Scratch::reserve(int64_t bytes) {
    if (bytes > capacity_) {
        release();  // before there are two of them
        data_ = ::operator new(static_cast<size_t>(bytes), kScratchAlignment);
        capacity_ = bytes;
    }
    return data_;
}

void Scratch::release() {
    if (data_ != nullptr) ::operator delete(data_, kScratchAlignment);
    data_ = nullptr;
    capacity_ = 0;
}

void* thread_scratch(int64_t bytes) {
    return scratch.reserve(bytes);
}

void detail::run_tasks(int64_t tasks, void (*body)(void*, int64_t), void* context) {
    const int64_t threads = std::min<int64_t>(parallel_threads(), tasks);
    struct Guarded {
        void (*body)(void*, int64_t);
        void* context;
    } guarded{body, context};
    if (threads > 1) {
        Job job;
        job.body = [](void* pointer, int64_t task) {
            const TaskScope scope;
            const auto* inner = static_cast<Guarded*>(pointer);
            inner->body(inner->context, task);
        };
        job.context = &guarded;
        job.tasks = tasks;
        job.max_helpers = static_cast<int>(threads) - 1;
        if (pool().run(job)) {
            if (job.error) std::rethrow_exception(job.error);
            return;
        }
    }
    const TaskScope scope;
    for (int64_t task = 0; task < tasks; ++task) body(context, task);
}

}  // namespace longspan
