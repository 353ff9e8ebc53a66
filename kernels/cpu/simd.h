// One register of numbers and the operations on it; as wide as the compiler's flags allow.
#pragma once

#if defined(__aarch64__)
#include <arm_neon.h>
#else
#include <immintrin.h>
#endif

#include <cstdint>
#include <cstring>

namespace midspan {

// How many numbers a register holds, and how many registers there are.
#if defined(__AVX512VNNI__)
constexpr int LANES = 16, REGISTERS = 32;
#elif defined(__AVX2__) && defined(__FMA__)
constexpr int LANES = 8, REGISTERS = 16;
#elif defined(__aarch64__)
constexpr int LANES = 4, REGISTERS = 32;
#else
#error "needs AVX2 with FMA, or 64-bit ARM: kernels/builds.py has the flags"
#endif

typedef float Floats __attribute__((vector_size(4 * LANES)));
typedef int32_t Ints __attribute__((vector_size(4 * LANES)));
typedef uint8_t Bytes __attribute__((vector_size(LANES)));

template <class V, class T>
inline V load(const T* from) {
    V out;
    std::memcpy(&out, from, sizeof out);
    return out;
}

template <class V, class T>
inline void store(T* to, V value) {
    std::memcpy(to, &value, sizeof value);
}

inline Floats floats(const float* from) { return load<Floats>(from); }
inline Floats all(float value) { return Floats{} + value; }
inline Ints all(int32_t value) { return Ints{} + value; }
inline Floats larger(Floats a, Floats b) { return a > b ? a : b; }
inline Floats smaller(Floats a, Floats b) { return a < b ? a : b; }

template <class V>
inline auto sum(V v) {
    auto out = v[0];
    for (int lane = 1; lane < LANES; ++lane) out += v[lane];
    return out;
}

inline float largest(Floats v) {
    float out = v[0];
    for (int lane = 1; lane < LANES; ++lane) out = v[lane] > out ? v[lane] : out;
    return out;
}

// Whether any lane of a comparison is true.
inline bool any(Ints v) {
#if defined(__AVX512VNNI__)
    return _mm512_test_epi32_mask((__m512i)v, (__m512i)v) != 0;
#elif defined(__AVX2__)
    return !_mm256_testz_si256((__m256i)v, (__m256i)v);
#else
    return vmaxvq_u32((uint32x4_t)v) != 0;
#endif
}

// Adding 3 * 2^22 leaves the nearest integer, halves to even, in the low bits of a float below 2^22.
constexpr float MAGIC = 12582912.0f;

inline Ints nearest(Floats x) { return (Ints)(x + MAGIC) - (Ints)all(MAGIC); }

// e^x for x up to 88, with a relative error of at most 2e-7; below -87 it is e^-87, about 0. Cephes, single/expf.c.
inline Floats exp(Floats x) {
    x = larger(smaller(x, all(88.0f)), all(-87.0f));
    const Floats n = (x * 1.44269504088896341f + MAGIC) - MAGIC;
    const Floats r = x - n * 0.693359375f + n * 2.12194440e-4f;
    Floats p = r * 1.9875691500e-4f + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * r * r + r + 1.0f;
    return (Floats)((Ints)p + (nearest(n) << 23));
}

// The tanh form of gelu, as x times a logistic function.
inline Floats gelu(Floats x) {
    const Floats twice = x * (x * x * 0.044715f + 1.0f) * 1.5957691216057308f;
    return x / (exp(-twice) + 1.0f);
}

inline Floats tanh(Floats x) { return 1.0f - 2.0f / (exp(x * 2.0f) + 1.0f); }

}  // namespace midspan
