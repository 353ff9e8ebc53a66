// Rows in int8 with a scale for each group of GROUPED numbers, and their products with int8 weights. A row of a language
// model has a few numbers that are far larger than all others; with one scale a row they leave the others few steps.
#pragma once

#include "product.h"

namespace midspan {

constexpr int64_t GROUPED = 32;

// A row [size]: its numbers in fours; behind them, for each group, its largest number (a float), the sum of its bytes and
// where sums of its products with int8 weights start (int32). Where `dot` takes signs apart, four numbers are their
// magnitudes, a byte of -1 for each below zero, and the signed bytes; elsewhere these alone. An instruction of unsigned
// and signed bytes takes the weights as unsigned, WEIGHTS_FROM more than they are.
#ifdef MIDSPAN_SIGNS_APART
constexpr int64_t A_FOUR = 12, SIGNED_AT = 8;
#else
constexpr int64_t A_FOUR = 4, SIGNED_AT = 0;
#endif
constexpr int32_t WEIGHTS_FROM = MIDDLE;
constexpr int64_t A_GROUP = 12;

inline int64_t grouped_bytes(int64_t size) { return size / 4 * A_FOUR + size / GROUPED * A_GROUP; }

// Four numbers from i on, a multiple of 4, in every lane.
inline Ints signed_four(const uint8_t* row, int64_t i) { return everywhere(row + i / 4 * A_FOUR + SIGNED_AT); }

// What is behind the numbers about the group that begins at `begin`.
inline const uint8_t* behind(const uint8_t* row, int64_t size, int64_t begin) {
    return row + size / 4 * A_FOUR + begin / GROUPED * A_GROUP;
}
inline Floats largest_of(const uint8_t* group) { return (Floats)everywhere(group); }
inline Ints sum_of(const uint8_t* group) { return everywhere(group + 4); }
inline Ints start_of(const uint8_t* group) { return everywhere(group + 8); }

// Stores a register of numbers, -127 to 127, at i, and returns their part of a group's start.
inline Ints put_signed(uint8_t* row, int64_t i, Ints numbers) {
#ifdef MIDSPAN_SIGNS_APART
    const Ints below = numbers < 0, magnitudes = below ? -numbers : numbers;
    const __m256i words = _mm256_packs_epi32((__m256i)magnitudes, (__m256i)below);
    const __m256i others = _mm256_packs_epi32((__m256i)numbers, (__m256i)numbers);
    const __m256i bytes = _mm256_packs_epi16(words, others);
    uint8_t* to = row + i / 4 * A_FOUR;
    store(to, _mm256_extract_epi64(bytes, 0));
    store(to + 8, _mm256_extract_epi32(bytes, 2));
    store(to + 12, _mm256_extract_epi64(bytes, 2));
    store(to + 20, _mm256_extract_epi32(bytes, 6));
    return below & magnitudes;
#else
    store(row + i, __builtin_convertvector(numbers, Bytes));
    return numbers * -WEIGHTS_FROM;
#endif
}

// Quantises x [size] into a row, each group scaled by its largest magnitude. Zeros become zeros.
inline void quantise_grouped(const float* x, int64_t size, uint8_t* row) {
    for (int64_t begin = 0; begin < size; begin += GROUPED) {
        const float top = magnitude(x + begin, GROUPED), scale = top > 0 ? STEPS / top : 0.0f;
        Ints total = all(0), start = all(0);
        for (int64_t i = begin; i < begin + GROUPED; i += LANES) {
            const Ints numbers = nearest(floats(x + i) * scale);
            start += put_signed(row, i, numbers);
            total += numbers;
        }
        uint8_t* group = row + size / 4 * A_FOUR + begin / GROUPED * A_GROUP;
        store(group, top);
        store(group + 4, int32_t(sum(total)));
        store(group + 8, int32_t(sum(start)));
    }
}

// Four numbers of a row and four weights as a product takes them, and a sum with their product.
#if defined(__AVX512VNNI__) || defined(__AVXVNNI__)
inline Ints ready(Ints w) { return w ^ all(int32_t(0x80808080u)); }
inline Four ready_four(const uint8_t* row, int64_t i) { return {signed_four(row, i)}; }
inline Ints with_weights(Ints c, Four a, Ints w) { return dot(c, Four{w}, a.bytes); }
#else
inline Ints ready(Ints w) { return w; }
#ifdef MIDSPAN_SIGNS_APART
inline Four ready_four(const uint8_t* row, int64_t i) {
    const uint8_t* at = row + i / 4 * A_FOUR;
    return {everywhere(at), everywhere(at + 4)};
}
#else
inline Four ready_four(const uint8_t* row, int64_t i) { return {signed_four(row, i)}; }
#endif
inline Ints with_weights(Ints c, Four a, Ints w) { return dot(c, a, w); }
#endif

// Products of a panel with weights in int8, see Int8 in product.h; values are the product's own. Sums of a group are
// exact; those of groups are added up in float32, in the same order for every row.
struct GroupedInt8 {
    template <int ROWS, class Out>
    [[gnu::noinline]] static void group(const Product& p, int64_t panel, const uint8_t* rows, int first, Out&& out) {
        const int64_t step = grouped_bytes(p.k);
        rows += first * step;
        Floats totals[ROWS][WIDE] = {};
        const int8_t* weight = p.weight + panel * PANEL * p.k;
        for (int64_t begin = 0; begin < p.k; begin += GROUPED) {
            Ints sums[ROWS][WIDE];
            for (int r = 0; r < ROWS; ++r) {
                const Ints start = start_of(behind(rows + r * step, p.k, begin));
                for (int c = 0; c < WIDE; ++c) sums[r][c] = start;
            }
            for (int64_t i = begin; i < begin + GROUPED; i += 4, weight += 4 * PANEL) {
                Ints w[WIDE];
                for (int c = 0; c < WIDE; ++c) w[c] = ready(load<Ints>(weight + c * 4 * LANES));
                for (int r = 0; r < ROWS; ++r) {
                    const Four a = ready_four(rows + r * step, i);
                    for (int c = 0; c < WIDE; ++c) sums[r][c] = with_weights(sums[r][c], a, w[c]);
                }
            }
            for (int r = 0; r < ROWS; ++r) {
                const Floats by = largest_of(behind(rows + r * step, p.k, begin));
                for (int c = 0; c < WIDE; ++c) totals[r][c] += __builtin_convertvector(sums[r][c], Floats) * by;
            }
        }
        for (int r = 0; r < ROWS; ++r) {
            for (int c = 0; c < WIDE; ++c) totals[r][c] *= floats(p.scale + panel * PANEL + c * LANES);
            out(first + r, panel, totals[r]);
        }
    }
};

}  // namespace midspan
