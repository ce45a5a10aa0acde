// What linear needs beside F32, in plain C++: whole-number lanes, and the products of narrow values.
#pragma once

#include <cstring>

#include "core/simd_portable.h"
#include "linear/linear.h"

namespace longspan::LONGSPAN_ISA {
namespace {

struct I32 {
    uint32_t v[F32::kLanes];  // unsigned, so that no sum is undefined; int32 by meaning

    static I32 zero() { return all(0); }
    static I32 all(Word x) { return {{x, x, x, x}}; }
    static I32 load(const void* p) {
        I32 out;
        std::memcpy(out.v, p, sizeof out.v);
        return out;
    }
    void store(void* p) const { std::memcpy(p, v, sizeof v); }

    friend I32 operator+(I32 a, I32 b) {
        for (int i = 0; i < F32::kLanes; ++i) a.v[i] += b.v[i];
        return a;
    }
    friend I32 operator-(I32 a, I32 b) {
        for (int i = 0; i < F32::kLanes; ++i) a.v[i] -= b.v[i];
        return a;
    }
    friend I32 operator*(I32 a, I32 b) {
        for (int i = 0; i < F32::kLanes; ++i) a.v[i] *= b.v[i];
        return a;
    }
};
inline F32 to_float(I32 a) {
    F32 out;
    for (int i = 0; i < F32::kLanes; ++i) out.v[i] = static_cast<float>(static_cast<int32_t>(a.v[i]));
    return out;
}

#ifndef LONGSPAN_PLAYS_TILES  // lanes_played.h
// Pairs of bf16, widened to f32 as they are loaded: first the low half of each word, then the high one.
struct Bf16Product {
    static constexpr int kParts = 2;
    template <int kPart>
    static F32 load(const Word* p) {
        I32 words = I32::load(p);
        for (Word& word : words.v) word = kPart == 0 ? word << 16 : word & 0xffff0000u;
        F32 out;
        std::memcpy(&out.v, words.v, sizeof words.v);
        return out;
    }
};

// Four u8 times s8 each, one after the other.
struct Int8Product {
    static constexpr int kParts = 4;
    template <int kPart>
    static I32 load(const Word* p) {
        I32 words = I32::load(p);
        for (Word& word : words.v) word = static_cast<Word>(static_cast<int8_t>(word >> 8 * kPart & 0xffu));
        return words;
    }
    static I32 add(I32 sum, I32 x, I32 w) { return sum + x * w; }
    template <int kPart>
    static Word part(Word x) {
        return x >> 8 * kPart & 0xffu;
    }
};
#endif

// Lane i <-> lane i ^ kStep.
template <int kStep>
inline F32 exchange(F32 a) {
    F32 out;
    for (int i = 0; i < F32::kLanes; ++i) out.v[i] = a.v[i ^ kStep];
    return out;
}

// Rounds kLanes numbers, from 0 to 256, to bytes; 256 becomes 255.
inline void store_bytes(F32 a, uint8_t* to) {
    const F32 whole = min(round(a), F32::all(255.0f));
    for (int i = 0; i < F32::kLanes; ++i) to[i] = static_cast<uint8_t>(whole.v[i]);
}

}  // namespace
}  // namespace longspan::LONGSPAN_ISA
