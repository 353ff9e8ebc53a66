// Activations quantised to bytes, and their dot products with int8 weights by each CPU's instructions. Sums are exact.
#pragma once

#include "simd.h"

namespace midspan {

constexpr float STEPS = 127.0f;  // the byte of a row's largest number

#if defined(__AVX512VNNI__) || defined(__AVXVNNI__)

// One instruction sums four products of an unsigned and a signed byte. Rows are therefore stored with MIDDLE added, and
// Product.start subtracts its share from the sums.
constexpr int MIDDLE = 128;

struct Four {
    Ints bytes;  // the same four bytes of a row in every lane
};

inline Ints dot(Ints c, Four a, Ints b) {
#if defined(__AVX512VNNI__)
    return (Ints)_mm512_dpbusd_epi32((__m512i)c, (__m512i)a.bytes, (__m512i)b);
#else
    return (Ints)_mm256_dpbusd_avx_epi32((__m256i)c, (__m256i)a.bytes, (__m256i)b);
#endif
}

#elif defined(__AVX2__)

// One instruction sums two products of an unsigned and a signed byte in 16 bits, which hold 2 * 127 * 128 but not
// 2 * 255 * 127. Rows are therefore stored as magnitudes, and their signs are applied to the weights.
constexpr int MIDDLE = 0;
#define MIDSPAN_SIGNS_APART

struct Four {
    Ints bytes, below;  // magnitudes; `below` has -1 in the byte of each number below zero
};

// For a number below zero the weight b becomes -b - 1 instead of -b; left_out makes up for the ones.
inline Ints dot(Ints c, Four a, Ints b) {
    const __m256i pairs = _mm256_maddubs_epi16((__m256i)a.bytes, (__m256i)(a.below ^ b));
    const Ints sums = (Ints)_mm256_madd_epi16(pairs, _mm256_set1_epi16(1));
    // In assembly, because the compiler would add after all products of a group, for which there are too few registers.
    asm("vpaddd %1, %0, %0" : "+x"(c) : "x"(sums));
    return c;
}

#else

constexpr int MIDDLE = 0;

struct Four {
    Ints bytes;
};

inline Ints dot(Ints c, Four a, Ints b) {
#if defined(__ARM_FEATURE_DOTPROD)
    return (Ints)vdotq_s32((int32x4_t)c, (int8x16_t)a.bytes, (int8x16_t)b);
#else
    const int16x8_t low = vmull_s8(vget_low_s8((int8x16_t)a.bytes), vget_low_s8((int8x16_t)b));
    const int16x8_t high = vmull_high_s8((int8x16_t)a.bytes, (int8x16_t)b);
    return c + (Ints)vpaddq_s32(vpaddlq_s16(low), vpaddlq_s16(high));
#endif
}

#endif

inline Ints everywhere(const uint8_t* four) {
    int32_t bytes;
    std::memcpy(&bytes, four, sizeof bytes);
    return all(bytes);
}

// A row of `size` numbers: `row_bytes` is its size in memory, `four` reads four numbers from i on (i a multiple of 4),
// and `left_out` is the part of a product that `dot` leaves out. `put` stores a register of numbers, -127 to 127, at i
// and returns their part of left_out; `end` stores the sum of those.
#ifdef MIDSPAN_SIGNS_APART

inline int64_t row_bytes(int64_t size) { return 2 * size + 4; }
inline Four four(const uint8_t* row, int64_t i) { return {everywhere(row + 2 * i), everywhere(row + 2 * i + 4)}; }
inline Ints left_out(const uint8_t* row, int64_t size) { return everywhere(row + 2 * size); }

inline Ints put(uint8_t* row, int64_t i, Ints numbers) {
    const Ints below = numbers < 0, bytes = below ? -numbers : numbers;
    // Packing brings the bytes of four lanes together in each half of a register.
    const __m256i words = _mm256_packs_epi32((__m256i)bytes, (__m256i)below), both = _mm256_packs_epi16(words, words);
    store(row + 2 * i, _mm256_extract_epi64(both, 0));
    store(row + 2 * i + 8, _mm256_extract_epi64(both, 2));
    return below & bytes;
}

inline void end(uint8_t* row, int64_t size, Ints left_out) { store(row + 2 * size, sum(left_out)); }

#else

inline int64_t row_bytes(int64_t size) { return size; }
inline Four four(const uint8_t* row, int64_t i) { return {everywhere(row + i)}; }
inline Ints left_out(const uint8_t*, int64_t) { return all(0); }

inline Ints put(uint8_t* row, int64_t i, Ints numbers) {
    store(row + i, __builtin_convertvector(numbers + MIDDLE, Bytes));
    return all(0);
}

inline void end(uint8_t*, int64_t, Ints) {}

#endif

// The largest magnitude of x [size].
inline float magnitude(const float* x, int64_t size) {
    Floats most = all(0.0f);
    for (int64_t i = 0; i < size; i += LANES) {
        const Floats v = floats(x + i);
        most = larger(most, larger(v, -v));
    }
    return largest(most);
}

// Quantises x [size] into a row, scaled by its largest magnitude, and returns that. Zeros become a row of zeros.
inline float quantise(const float* x, int64_t size, uint8_t* row) {
    const float top = magnitude(x, size), scale = top > 0 ? STEPS / top : 0.0f;
    Ints out = all(0);
    for (int64_t i = 0; i < size; i += LANES) out += put(row, i, nearest(floats(x + i) * scale));
    end(row, size, out);
    return top;
}

}  // namespace midspan
