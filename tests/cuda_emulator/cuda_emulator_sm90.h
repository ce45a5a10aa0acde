// The emulator's Hopper: mbarriers, tensor copies and named barriers (core/cuda_sm90.h). Copies arrive when they like.
// Broken rules are errors: an mbarrier that was not set up or not made visible, more arrivals than it counts, a box
// that does not fit, a named barrier of two sizes, waiting for what nobody brings about.
#pragma once

namespace longspan::cuda {

inline uint32_t shared_address(const void* shared) {
    emulator::Machine& m = emulator::machine();
    return m.shared_start + static_cast<uint32_t>(static_cast<const unsigned char*>(shared) - m.shared.data());
}

// ---- mbarriers ----

inline emulator::Mbarrier& mbarrier_of(const uint64_t* barrier) {
    emulator::Machine& m = emulator::machine();
    const auto found = m.mbarriers.find(shared_address(barrier));
    if (found == m.mbarriers.end()) emulator::fail("an mbarrier that was not initialised");
    if (found->second.owner >= 0) emulator::fail("an mbarrier that was not published");
    return found->second;
}

inline void end_phase_if_complete(emulator::Mbarrier& barrier) {
    ++emulator::machine().events;
    if (barrier.pending < 0) emulator::fail("an mbarrier has more arrivals than it counts");
    if (barrier.pending > 0 || barrier.bytes != 0) return;
    ++barrier.phases;
    barrier.pending = barrier.expected;
}

inline void barrier_init(uint64_t* barrier, uint32_t arrivals) {
    emulator::Machine& m = emulator::machine();
    const uint32_t address = shared_address(barrier);
    if (address % 8 != 0 || address - m.shared_start + 8 > m.shared.size()) emulator::fail("an mbarrier out of place");
    m.mbarriers[address] = {arrivals, arrivals, 0, 0, m.current};
}
inline void publish_barriers() {
    for (auto& [address, barrier] : emulator::machine().mbarriers) {
        if (barrier.owner == emulator::machine().current) barrier.owner = -1;
    }
}
inline void barrier_expect(uint64_t* barrier, uint32_t bytes) {
    emulator::Mbarrier& state = mbarrier_of(barrier);
    state.bytes += bytes;
    --state.pending;
    end_phase_if_complete(state);
}
inline void barrier_arrive(uint64_t* barrier) {
    barrier_expect(barrier, 0);
}
inline void barrier_wait(uint64_t* barrier, uint32_t parity) {
    const emulator::Mbarrier& state = mbarrier_of(barrier);
    emulator::wait_until([&] { return state.phases % 2 != parity; });
}

// ---- bulk tensor copies ----

inline TensorMap encode_tensor_map(const char* what, const TensorMapPlan& plan) {
    return emulator::encode_tensor_map(what, plan);
}
inline void prefetch_map(const TensorMap*) {}

// The value at a place of the tensor; zero outside.
inline uint16_t value_at(const TensorMap& map, int64_t x, int64_t y, int64_t z) {
    const int64_t place[] = {x, y, z};
    for (int axis = 0; axis < 3; ++axis) {
        if (place[axis] < 0 || static_cast<uint64_t>(place[axis]) >= map.sizes[axis]) return 0;
    }
    uint16_t value;
    std::memcpy(&value,
                map.data + x * 2 + y * static_cast<int64_t>(map.strides[0]) + z * static_cast<int64_t>(map.strides[1]),
                2);
    return value;
}

inline void copy_box(void* shared, const TensorMap* map, uint64_t* barrier, int x, int y, int z) {
    emulator::Machine& m = emulator::machine();
    emulator::Mbarrier& state = mbarrier_of(barrier);
    const uint32_t start = shared_address(shared), bytes = map->box[0] * map->box[1] * map->box[2] * 2;
    if (start % 128 != 0) emulator::fail("a tensor copy to an address that is no multiple of 128");
    if (start + bytes - m.shared_start > m.shared.size()) emulator::fail("a box that shared memory has no room for");
    auto arrive = [=, &state, copy = *map] {
        emulator::Machine& machine = emulator::machine();
        uint32_t address = start;
        for (uint32_t k = 0; k < copy.box[2]; ++k) {
            for (uint32_t j = 0; j < copy.box[1]; ++j) {
                for (uint32_t i = 0; i < copy.box[0]; ++i, address += 2) {
                    const uint16_t value = value_at(copy, int64_t{x} + i, int64_t{y} + j, int64_t{z} + k);
                    std::memcpy(&machine.shared[swizzled(address) - machine.shared_start], &value, 2);
                }
            }
        }
        state.bytes -= bytes;
        end_phase_if_complete(state);
    };
    m.copies.push_back({std::move(arrive), m.order() % 2 == 0});
}
inline void publish_writes() {}

// ---- named barriers ----

// Returns how many phases had ended before.
inline uint32_t arrive_at(int barrier, int threads) {
    emulator::NamedBarrier& state = emulator::machine().named_barriers.at(static_cast<size_t>(barrier));
    if (barrier < 1) emulator::fail("named barrier 0 is that of __syncthreads");
    if (state.arrived > 0 && state.threads != threads) emulator::fail("a named barrier of two sizes");
    const uint32_t before = state.phases;
    state.threads = threads;
    ++emulator::machine().events;
    if (++state.arrived == threads) {
        state.arrived = 0;
        ++state.phases;
    }
    return before;
}
inline void named_barrier_arrive(int barrier, int threads) {
    arrive_at(barrier, threads);
}
inline void named_barrier_sync(int barrier, int threads) {
    const uint32_t before = arrive_at(barrier, threads);
    const auto& state = emulator::machine().named_barriers[static_cast<size_t>(barrier)];
    emulator::wait_until([&] { return state.phases != before; });
}

// ---- the rest ----

template <int kRegisters>
void keep_registers() {}
template <int kRegisters>
void take_registers() {}

inline int same_in_warp(int value) {
    const auto* slots = emulator::exchange(6, emulator::pack(value));
    for (int lane = 0; lane < emulator::kLanes; ++lane) {
        if (emulator::unpack<int>(slots[lane]) != value) emulator::fail("a value is not the same in all lanes");
    }
    return value;
}
inline float exp2_approx(float x) {
    return std::exp2(x);
}

// Rounded to nearest even, as the lower 16 bits.
template <class T>
uint32_t round_to(float value);
template <>
inline uint32_t round_to<Bfloat16>(float value) {
    const uint32_t bits = std::bit_cast<uint32_t>(value);
    if (std::isnan(value)) return 0x7fff;
    return (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
}
template <>
inline uint32_t round_to<Half>(float value) {
    const uint32_t sign = std::bit_cast<uint32_t>(value) >> 16 & 0x8000;
    if (std::isnan(value)) return 0x7fff;
    const float size = std::fabs(value);
    if (size >= 65520.0f) return sign | 0x7c00;
    const int exponent = std::max(-14, size > 0 ? std::ilogb(size) : -14);
    const auto steps = static_cast<uint32_t>(std::nearbyint(std::ldexp(size, 10 - exponent)));  // of 2^(exponent - 10)
    return sign | (steps + (static_cast<uint32_t>(exponent + 14) << 10));
}
template <class T>
uint32_t pack_pair(float low, float high) {
    return round_to<T>(low) | round_to<T>(high) << 16;
}

}  // namespace longspan::cuda
