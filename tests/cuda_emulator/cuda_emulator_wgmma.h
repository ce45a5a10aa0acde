// The emulator's wgmma (core/cuda_wgmma.h): operands are looked up through their descriptors, as the manual's canonical
// layouts say. A product is done somewhere between its group's end and the wait for it. Multiplying without
// start_products since the last wait is an error, and so are threads of a warpgroup that ask for different things.
#pragma once

namespace longspan::cuda {

inline emulator::Fiber& this_fiber() {
    return emulator::machine().fibers[static_cast<size_t>(emulator::machine().current)];
}

// The 16-bit value at an unswizzled address.
inline uint16_t value_at(uint32_t address) {
    emulator::Machine& m = emulator::machine();
    const uint32_t place = swizzled(address) - m.shared_start;
    if (place + 2 > m.shared.size()) emulator::fail("a product reads outside of shared memory");
    uint16_t value;
    std::memcpy(&value, m.shared.data() + place, 2);
    return value;
}

// A descriptor's fields, in bytes; only 128-byte swizzling of patterns that begin where they should.
struct Described {
    uint32_t address, across, down;

    explicit Described(uint64_t descriptor)
        : address(static_cast<uint32_t>(descriptor & 0x3fff) << 4),
          across(static_cast<uint32_t>(descriptor >> 16 & 0x3fff) << 4),
          down(static_cast<uint32_t>(descriptor >> 32 & 0x3fff) << 4) {
        if (descriptor >> 62 != 1 || (descriptor >> 49 & 7) != 0) emulator::fail("not a 128-byte swizzled descriptor");
    }
    // Canonical K-major layout ((8, m), (T, 2 k)) : ((8 T, down), (1, T)), T = 8 values.
    uint16_t along_depth(int row, int depth) const {
        const auto r = static_cast<uint32_t>(row), d = static_cast<uint32_t>(depth);
        return value_at(address + r % 8 * 128 + r / 8 * down + d * 2);
    }
    // Canonical MN-major layout ((T, 8, m), (8, k)) : ((1, T, across), (8 T, down)).
    uint16_t across_depth(int depth, int column) const {
        const auto d = static_cast<uint32_t>(depth), c = static_cast<uint32_t>(column);
        return value_at(address + c % 64 * 2 + c / 64 * across + d % 8 * 128 + d / 8 * down);
    }
};

// One product of all 128 threads, of which thread 0 of the warpgroup is `first`.
inline void multiply(const std::array<emulator::Product, kWarpgroup>& asked) {
    const emulator::Product& one = asked[0];
    const auto to_value = [&](uint16_t bits) { return one.is_half ? to_float(Half{bits}) : to_float(Bfloat16{bits}); };
    static float a[64][16], b[16][128];
    const Described right(one.b);
    for (int k = 0; k < 16; ++k) {
        for (int row = 0; row < 64 && one.operand == nullptr; ++row) {
            a[row][k] = to_value(Described(one.a).along_depth(row, k));
        }
        for (int column = 0; column < one.columns; ++column) {
            const bool is_shared = one.operand == nullptr;
            b[k][column] = to_value(is_shared ? right.along_depth(column, k) : right.across_depth(k, column));
        }
    }
    for (int thread = 0; thread < kWarpgroup && one.operand != nullptr; ++thread) {
        for (int i = 0; i < 8; ++i) {
            const uint32_t pair = asked[static_cast<size_t>(thread)].operand[i / 2];
            a[operand_row(thread, i / 2)][operand_column(thread, i / 2, i % 2)] =
                to_value(static_cast<uint16_t>(i % 2 == 0 ? pair & 0xffff : pair >> 16));
        }
    }
    for (int thread = 0; thread < kWarpgroup; ++thread) {
        float* sums = asked[static_cast<size_t>(thread)].sums;
        for (int i = 0; i < one.columns / 2; ++i) {
            float sum = one.adds ? sums[i] : 0.0f;
            const int row = sum_row(thread, i), column = sum_column(thread, i);
            for (int k = 0; k < 16; ++k) sum += a[row][k] * b[k][column];
            sums[i] = sum;
        }
    }
}

// Does the products of a warpgroup's groups but the last `pending`, for all of its threads.
inline void complete(int warpgroup, size_t pending) {
    auto* fibers = &emulator::machine().fibers[static_cast<size_t>(warpgroup * kWarpgroup)];
    while (fibers[0].products.size() > pending + 1) {
        const size_t count = fibers[0].products.front().size();
        for (size_t number = 0; number < count; ++number) {
            std::array<emulator::Product, kWarpgroup> asked;
            for (size_t thread = 0; thread < kWarpgroup; ++thread) {
                if (fibers[thread].products.front().size() != count) emulator::fail("a product is not the warpgroup's");
                asked[thread] = fibers[thread].products.front()[number];
                const emulator::Product &own = asked[thread], &first = asked[0];
                if (own.a != first.a || own.b != first.b || own.columns != first.columns || own.adds != first.adds) {
                    emulator::fail("threads of a warpgroup ask for different products");
                }
            }
            multiply(asked);
        }
        for (size_t thread = 0; thread < kWarpgroup; ++thread) fibers[thread].products.pop_front();
    }
}

inline void ask_for(const emulator::Product& product) {
    if (!this_fiber().may_multiply) emulator::fail("a product before start_products");
    this_fiber().products.back().push_back(product);
}

inline void start_products() {
    this_fiber().may_multiply = true;
}
inline void end_products() {
    emulator::Machine& m = emulator::machine();
    this_fiber().products.emplace_back();
    ++this_fiber().unwaited;
    const int warpgroup = m.current / kWarpgroup;
    if (emulator::meet_warpgroup(0) && m.order() % 2 == 0) complete(warpgroup, 0);  // at once, or as late as may be
}
template <int kPending>
void wait_for_products() {
    const int warpgroup = emulator::machine().current / kWarpgroup;
    if (emulator::meet_warpgroup(1 + kPending)) complete(warpgroup, kPending);
    this_fiber().may_multiply = false;
    this_fiber().unwaited = std::min<size_t>(this_fiber().unwaited, kPending);
}
template <class T, int kCount>
void touch(T (&)[kCount]) {}

template <class T, bool kAdds, int kCount>
void multiply_shared(float (&sums)[kCount], uint64_t a, uint64_t b) {
    ask_for({sums, nullptr, a, b, 2 * kCount, std::is_same_v<T, Half>, kAdds});
}
template <class T, int kCount>
void multiply_registers(float (&sums)[kCount], const uint32_t* a, uint64_t b) {
    ask_for({sums, a, 0, b, 2 * kCount, std::is_same_v<T, Half>, true});
}

}  // namespace longspan::cuda
