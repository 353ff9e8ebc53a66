// Products of int8 rows and weights in four bits: a weight is its nibble times the scale of its group, GROUPED numbers
// of one column, plus the group's offset. Sums of nibbles are exact; those of groups are added up in float32, in the
// same order for every row.
#pragma once

#include "product.h"

namespace midspan {

constexpr int64_t GROUPED = 32;

// A row [size] of signed bytes; behind them the sum of each group, a float, which meets the offsets.
inline int64_t signed_bytes(int64_t size) { return size + size / GROUPED * int64_t(sizeof(float)); }

// Quantises x [size] into such a row, scaled by its largest magnitude, and returns that.
inline float quantise_signed(const float* x, int64_t size, uint8_t* row) {
    const float top = magnitude(x, size), scale = top > 0 ? STEPS / top : 0.0f;
    for (int64_t begin = 0; begin < size; begin += GROUPED) {
        Ints total = all(0);
        for (int64_t i = begin; i < begin + GROUPED; i += LANES) {
            const Ints numbers = nearest(floats(x + i) * scale);
            store(row + i, __builtin_convertvector(numbers, Bytes));
            total += numbers;
        }
        store(row + size + begin / GROUPED * int64_t(sizeof(float)), float(sum(total)));
    }
    return top;
}

// Sums of one group: `with` adds the products of four nibbles, 0 to 15, and a row's four bytes in every lane; `whole`
// has them as int32.
#if defined(__AVX512VNNI__)
inline Ints with(Ints c, Ints nibbles, Ints a) {
    return (Ints)_mm512_dpbusd_epi32((__m512i)c, (__m512i)nibbles, (__m512i)a);
}
inline Ints whole(Ints c) { return c; }
#elif defined(__AVXVNNI__)
inline Ints with(Ints c, Ints nibbles, Ints a) {
    return (Ints)_mm256_dpbusd_avx_epi32((__m256i)c, (__m256i)nibbles, (__m256i)a);
}
inline Ints whole(Ints c) { return c; }
#elif defined(__AVX2__)
// Two products in 16 bits, which hold those of a whole group: 8 * 2 * 15 * 127 = 30480.
inline Ints with(Ints c, Ints nibbles, Ints a) {
    const Ints sums = (Ints)_mm256_maddubs_epi16((__m256i)nibbles, (__m256i)a);
    // In assembly for the reason that `dot` has.
    asm("vpaddw %1, %0, %0" : "+x"(c) : "x"(sums));
    return c;
}
inline Ints whole(Ints c) { return (Ints)_mm256_madd_epi16((__m256i)c, _mm256_set1_epi16(1)); }
#else
inline Ints with(Ints c, Ints nibbles, Ints a) { return dot(c, Four{a}, nibbles); }
inline Ints whole(Ints c) { return c; }
#endif

// Numbers of a register's columns in bfloat16, the upper half of a float32.
typedef uint16_t Halves __attribute__((vector_size(2 * LANES)));

inline Floats halves(const uint16_t* from) {
    return (Floats)(__builtin_convertvector(load<Halves>(from), Ints) << 16);
}

// See Int8 in product.h. Each byte of weights holds a number of one register of columns, in its low half, and one of
// the next register.
struct Int4 {
    template <int ROWS, class Out>
    [[gnu::noinline]] static void group(const Product& p, int64_t panel, const uint8_t* rows, int first, Out&& out) {
        const int64_t step = signed_bytes(p.k);
        rows += first * step;
        Floats totals[ROWS][WIDE] = {};
        const int8_t* weight = p.weight + panel * PANEL * p.k / 2;
        const uint16_t* by = p.groups + 2 * panel * PANEL * (p.k / GROUPED);
        for (int64_t begin = 0; begin < p.k; begin += GROUPED, by += 2 * PANEL) {
            Ints sums[ROWS][WIDE] = {};
            for (int64_t i = begin; i < begin + GROUPED; i += 4, weight += 2 * PANEL) {
                // Column by column, so that few registers hold weights; a row's bytes are read again for each.
                for (int c = 0; c < WIDE; ++c) {
                    const Ints both = load<Ints>(weight + c / 2 * 4 * LANES);
                    const Ints w = (c % 2 ? both >> 4 : both) & all(0x0f0f0f0f);
                    for (int r = 0; r < ROWS; ++r) sums[r][c] = with(sums[r][c], w, everywhere(rows + r * step + i));
                }
            }
            for (int r = 0; r < ROWS; ++r) {
                const int64_t at = r * step + p.k + begin / GROUPED * int64_t(sizeof(float));
                const Floats total = (Floats)everywhere(rows + at);
                for (int c = 0; c < WIDE; ++c) {
                    const Floats group = __builtin_convertvector(whole(sums[r][c]), Floats);
                    totals[r][c] += group * halves(by + c * LANES) + total * halves(by + PANEL + c * LANES);
                }
            }
        }
        for (int r = 0; r < ROWS; ++r) {
            for (int c = 0; c < WIDE; ++c) totals[r][c] *= 1.0f / STEPS;
            out(first + r, panel, totals[r]);
        }
    }
};

// A row of numbers as a product takes it: its size in memory, and how x becomes one.
inline int64_t row_bytes(const Product& p) { return p.groups == nullptr ? row_bytes(p.k) : signed_bytes(p.k); }

inline float quantise(const Product& p, const float* x, uint8_t* row) {
    return p.groups == nullptr ? quantise(x, p.k, row) : quantise_signed(x, p.k, row);
}

// See `panels`; of weights in either form.
template <class Out>
inline void panels_of(const Product& p, const uint8_t* rows, int count, int64_t panel, int64_t end, Out&& out) {
    if (p.groups == nullptr) {
        panels(p, rows, count, panel, end, out);
    } else {
        panels<Int4>(p, rows, count, panel, end, out);
    }
}

}  // namespace midspan
