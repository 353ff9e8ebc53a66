// Products of int8 rows and weights in four bits: a weight is its nibble times the scale of its group, GROUPED numbers
// of one column, plus the group's offset, which meets the sum of the row's bytes (grouped.h). Sums of nibbles are exact;
// those of groups are added up in float32, in the same order for every row.
#pragma once

#include "grouped.h"

namespace midspan {

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

// See GroupedInt8. Each byte of weights holds a number of one register of columns, in its low half, and one of
// the next register.
struct Int4 {
    template <int ROWS, class Out>
    [[gnu::noinline]] static void group(const Product& p, int64_t panel, const uint8_t* rows, int first, Out&& out) {
        const int64_t step = grouped_bytes(p.k);
        rows += first * step;
        Floats totals[ROWS][WIDE] = {};
        const int8_t* weight = p.weight + panel * PANEL * p.k / 2;
        const uint16_t* by_column = p.groups + 2 * panel * PANEL * (p.k / GROUPED);
        for (int64_t begin = 0; begin < p.k; begin += GROUPED, by_column += 2 * PANEL) {
            Ints sums[ROWS][WIDE] = {};
            for (int64_t i = begin; i < begin + GROUPED; i += 4, weight += 2 * PANEL) {
                // Column by column, so that few registers hold weights; a row's bytes are read again for each.
                for (int c = 0; c < WIDE; ++c) {
                    const Ints both = load<Ints>(weight + c / 2 * 4 * LANES);
                    const Ints w = (c % 2 ? both >> 4 : both) & all(0x0f0f0f0f);
                    for (int r = 0; r < ROWS; ++r) sums[r][c] = with(sums[r][c], w, signed_four(rows + r * step, i));
                }
            }
            for (int r = 0; r < ROWS; ++r) {
                const uint8_t* about = behind(rows + r * step, p.k, begin);
                const Floats by = largest_of(about), total = __builtin_convertvector(sum_of(about), Floats) * by;
                for (int c = 0; c < WIDE; ++c) {
                    const Floats group = __builtin_convertvector(whole(sums[r][c]), Floats) * by;
                    totals[r][c] += group * halves(by_column + c * LANES) + total * halves(by_column + PANEL + c * LANES);
                }
            }
        }
        for (int r = 0; r < ROWS; ++r) {
            for (int c = 0; c < WIDE; ++c) totals[r][c] *= 1.0f / STEPS;
            out(first + r, panel, totals[r]);
        }
    }
};

// How a product takes its rows: grouped where its sums start at nothing, which four-bit weights always do.
inline bool takes_groups(const Product& p) { return p.start == nullptr; }

inline int64_t row_bytes(const Product& p) { return takes_groups(p) ? grouped_bytes(p.k) : row_bytes(p.k); }

// Quantises x into such a row, and returns what the product's values are in units of.
inline float quantise(const Product& p, const float* x, uint8_t* row) {
    if (!takes_groups(p)) return quantise(x, p.k, row);
    quantise_grouped(x, p.k, row);
    return 1.0f;
}

// See `panels`; of rows as the product takes them, and weights in any form.
template <class Out>
inline void panels_of(const Product& p, const uint8_t* rows, int count, int64_t panel, int64_t end, Out&& out) {
    if (p.groups != nullptr) {
        panels<Int4>(p, rows, count, panel, end, out);
    } else if (takes_groups(p)) {
        panels<GroupedInt8>(p, rows, count, panel, end, out);
    } else {
        panels(p, rows, count, panel, end, out);
    }
}

}  // namespace midspan
