// The fibers of the emulator: a block's threads, changing over at barriers and warp exchanges, in an order drawn anew
// each time.
#pragma once

#include <setjmp.h>
#include <ucontext.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>
#include <deque>
#include <functional>
#include <map>
#include <random>
#include <stdexcept>
#include <string>
#include <vector>

#include "asynchronous.h"

struct dim3 {
    unsigned x = 1, y = 1, z = 1;
    dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z) {}
};

namespace emulator {

inline constexpr int kLanes = 32;
inline constexpr size_t kStackBytes = 128 * 1024;
inline constexpr int kWarpgroup = 128;
inline constexpr int kBlockBarrier = -1;
inline constexpr int kCondition = -2;       // looks again by itself
inline constexpr int kWarpgroupKinds = 64;  // exchanges from here on are of 128 threads
using Payload = std::array<uint32_t, 6>;

struct Fiber {
    ucontext_t start{};  // to begin with; from then on `place`, as changing over by contexts asks the kernel each time
    jmp_buf place;
    bool is_started = false;
    std::vector<char> stack = std::vector<char>(kStackBytes);
    bool is_done = false;
    int waits_for = 0;  // 0: can run; kBlockBarrier; kCondition; else the kind of exchange
    int exchanges = 0;
    std::deque<std::vector<Copy>> copies;       // asynchronous ones, by group; the last group is still open
    std::deque<std::vector<Product>> products;  // likewise
    bool may_multiply = false;                  // has fenced its registers since it last waited
    size_t unwaited = 0;                        // groups of products that it has not waited for, done or not
};

struct Warp {
    Payload slots[2][kLanes];  // by parity: a lane can be one exchange ahead of another at most
};

struct Machine {
    std::vector<Fiber> fibers;
    std::vector<Warp> warps;
    std::vector<int> rendezvous;             // of each warpgroup: threads that went on from exchanges
    std::map<uint32_t, Mbarrier> mbarriers;  // by shared address
    std::array<NamedBarrier, 16> named_barriers;
    std::vector<BoxCopy> copies;  // on their way
    int64_t events = 0;           // what a condition may have waited for
    uint32_t shared_start = 0;    // the address at which shared memory begins, a multiple of 16
    std::vector<unsigned char> shared;
    std::function<void()> body;
    jmp_buf scheduler;
    std::string error;
    std::mt19937 order{1};
    dim3 grid, block, block_index;
    int current = 0, num_threads = 0, multiprocessors = 3;
};

inline Machine& machine() {
    static Machine instance;
    return instance;
}

inline dim3 thread_index() {
    return dim3(static_cast<unsigned>(machine().current), 0, 0);
}

inline void yield(int waits_for) {
    Machine& m = machine();
    Fiber& fiber = m.fibers[static_cast<size_t>(m.current)];
    fiber.waits_for = waits_for;
    if (_setjmp(fiber.place) == 0) _longjmp(m.scheduler, 1);
}

[[noreturn]] inline void fail(const std::string& what) {
    machine().error = what;
    for (;;) yield(kBlockBarrier);  // the scheduler throws
}

inline void entry() {
    Machine& m = machine();
    try {
        m.body();
    } catch (const std::exception& error) {
        fail(error.what());
    }
    m.fibers[static_cast<size_t>(m.current)].is_done = true;
    _longjmp(m.scheduler, 1);
}

// Runs a fiber until it waits or is done.
inline void resume(Fiber& fiber) {
    if (_setjmp(machine().scheduler) != 0) return;
    if (fiber.is_started) _longjmp(fiber.place, 1);
    fiber.is_started = true;
    setcontext(&fiber.start);
}

// Waits until `is_met()`, which other threads' or copies' doing brings about.
template <class Condition>
void wait_until(Condition&& is_met) {
    while (!is_met()) yield(kCondition);
}

// Waits for all threads of the warpgroup. True in the first that goes on, which may act for all of them.
inline bool meet_warpgroup(int kind) {
    Machine& m = machine();
    const int warpgroup = m.current / kWarpgroup;
    yield(kWarpgroupKinds + kind);
    return m.rendezvous[static_cast<size_t>(warpgroup)]++ % kWarpgroup == 0;
}

// All lanes of the warp hand in a payload and see everybody's.
inline const Payload* exchange(int kind, Payload payload) {
    Machine& m = machine();
    const int thread = m.current;
    Fiber& fiber = m.fibers[static_cast<size_t>(thread)];
    Payload* slots = m.warps[static_cast<size_t>(thread / kLanes)].slots[fiber.exchanges++ % 2];
    slots[thread % kLanes] = std::move(payload);
    yield(kind);
    return slots;
}

// How many threads take part in what a fiber waits for; 0 for none.
inline int scope_of(int waits_for) {
    if (waits_for == kBlockBarrier) return machine().num_threads;
    if (waits_for >= kWarpgroupKinds) return kWarpgroup;
    return waits_for > 0 ? kLanes : 0;
}

// Lets go of the `count` fibers from `first` on if all of them wait for the same; says whether it did.
inline bool release(int first, int count) {
    Machine& m = machine();
    const int last = first + count;
    if (last > m.num_threads) return false;
    const int kind = m.fibers[static_cast<size_t>(first)].waits_for;
    if (scope_of(kind) != count) return false;
    for (int i = first; i < last; ++i) {
        const Fiber& fiber = m.fibers[static_cast<size_t>(i)];
        if (fiber.is_done || fiber.waits_for != kind) return false;
    }
    for (int i = first; i < last; ++i) m.fibers[static_cast<size_t>(i)].waits_for = 0;
    return true;
}

// Lets some of the boxes that are on their way arrive, in any order; late ones only if nothing else can happen.
inline bool deliver(bool is_idle) {
    Machine& m = machine();
    std::shuffle(m.copies.begin(), m.copies.end(), m.order);
    bool has_any = false;
    for (size_t i = m.copies.size(); i-- > 0;) {
        const bool is_due = is_idle ? !has_any : !m.copies[i].is_late && m.order() % 2 == 0;
        if (!is_due) continue;
        m.copies[i].arrive();
        m.copies.erase(m.copies.begin() + static_cast<std::ptrdiff_t>(i));
        has_any = true;
    }
    return has_any;
}

inline void start_block() {
    Machine& m = machine();
    m.mbarriers.clear();
    m.copies.clear();
    m.named_barriers = {};
    m.shared_start = 1024 + 16 * (m.order() % 64);
    std::fill(m.rendezvous.begin(), m.rendezvous.end(), 0);
    std::generate(m.shared.begin(), m.shared.end(), [&] { return static_cast<unsigned char>(m.order()); });
    for (int i = 0; i < m.num_threads; ++i) {
        Fiber& fiber = m.fibers[static_cast<size_t>(i)];
        fiber.is_done = fiber.is_started = false;
        fiber.waits_for = fiber.exchanges = 0;
        fiber.copies.assign(1, {});
        fiber.products.assign(1, {});
        fiber.may_multiply = false;
        fiber.unwaited = 0;
        getcontext(&fiber.start);
        fiber.start.uc_stack.ss_sp = fiber.stack.data();
        fiber.start.uc_stack.ss_size = fiber.stack.size();
        fiber.start.uc_link = nullptr;
        makecontext(&fiber.start, entry, 0);
    }
}

inline void end_block() {
    Machine& m = machine();
    if (!m.copies.empty()) throw std::runtime_error("a block ends before its tensor copies have arrived");
    for (int i = 0; i < m.num_threads; ++i) {
        const Fiber& fiber = m.fibers[static_cast<size_t>(i)];
        if (fiber.unwaited > 0 || !fiber.products.back().empty()) {
            throw std::runtime_error("a block ends before its products were waited for");
        }
    }
}

inline void run_block() {
    Machine& m = machine();
    start_block();
    std::vector<int> threads(static_cast<size_t>(m.num_threads));
    for (int i = 0; i < m.num_threads; ++i) threads[static_cast<size_t>(i)] = i;
    for (;;) {
        std::shuffle(threads.begin(), threads.end(), m.order);
        bool has_run = false, all_done = true;
        for (const int i : threads) {
            Fiber& fiber = m.fibers[static_cast<size_t>(i)];
            if (!fiber.is_done && (fiber.waits_for == 0 || fiber.waits_for == kCondition)) {
                const bool has_looked = fiber.waits_for == kCondition;
                const int64_t before = m.events;
                m.current = i;
                resume(fiber);
                if (!m.error.empty()) throw std::runtime_error(m.error);
                has_run |= !has_looked || fiber.is_done || fiber.waits_for != kCondition || m.events != before;
            }
            all_done = all_done && fiber.is_done;
        }
        if (all_done) return end_block();
        for (const int count : {kLanes, kWarpgroup, m.num_threads}) {
            for (int first = 0; first < m.num_threads; first += count) has_run |= release(first, count);
        }
        has_run |= deliver(!has_run);
        if (!m.error.empty()) throw std::runtime_error(m.error);
        if (!has_run) throw std::runtime_error("a barrier or warp exchange is not reached by all of its threads");
    }
}

template <class Args>
void run(void (*kernel)(Args), dim3 grid, int threads, size_t shared, const Args& args) {
    Machine& m = machine();
    if (threads % kLanes != 0 || threads > 1024) throw std::runtime_error("a block has whole warps, 32 at most");
    if (shared > 227 * 1024) throw std::runtime_error("a block has 227 KB of shared memory at most");
    if (grid.x == 0 || grid.y == 0 || grid.y > 65535 || grid.z != 1) throw std::runtime_error("not a grid");
    m.num_threads = threads;
    m.fibers.resize(std::max(m.fibers.size(), static_cast<size_t>(threads)));
    m.warps.resize(std::max(m.warps.size(), static_cast<size_t>(threads / kLanes)));
    m.rendezvous.resize(std::max(m.rendezvous.size(), static_cast<size_t>(threads / kWarpgroup)));
    m.grid = grid;
    m.block = dim3(static_cast<unsigned>(threads));
    m.shared = std::vector<unsigned char>(shared);  // no larger than asked for, so that sanitizers see its end
    m.error.clear();
    m.body = [&] { kernel(args); };
    for (unsigned y = 0; y < grid.y; ++y) {
        for (unsigned x = 0; x < grid.x; ++x) {
            m.block_index = dim3(x, y, 0);
            run_block();
        }
    }
}

template <class T>
Payload pack(const T& value) {
    static_assert(sizeof(T) <= sizeof(Payload));
    Payload words{};
    std::memcpy(words.data(), &value, sizeof(T));
    return words;
}

template <class T>
T unpack(const Payload& words) {
    T value;
    std::memcpy(&value, words.data(), sizeof(T));
    return value;
}

}  // namespace emulator
