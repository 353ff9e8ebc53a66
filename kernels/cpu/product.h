// Products of int8 rows and int8 weights, and the norms between them.
#pragma once

#include <cmath>

#include "network.h"
#include "simd.h"

namespace midspan {

constexpr int WIDE = 4;               // registers of columns in a panel
constexpr int PANEL = WIDE * LANES;   // columns that are computed at once
constexpr int GROUP = LANES == 16 ? 6 : 2;  // rows that are: as many sums as there are registers for
constexpr float STEPS = 127.0f;
constexpr int MIDDLE = 128;

// x [size] as bytes around MIDDLE, over its largest number, which is returned. A row of zeros is one of zeros.
inline float quantise(const float* x, int size, uint8_t* out) {
    Floats most = all(0.0f);
    for (int i = 0; i < size; i += LANES) {
        const Floats v = floats(x + i);
        most = larger(most, larger(v, -v));
    }
    const float top = largest(most), scale = top > 0 ? STEPS / top : 0.0f;
    for (int i = 0; i < size; i += LANES) {
        store(out + i, __builtin_convertvector(nearest(floats(x + i) * scale) + MIDDLE, Bytes));
    }
    return top;
}

// 1 over the root of the mean square of x [size].
inline float inverse_norm(const float* x, int size, float eps) {
    Floats squares = all(0.0f);
    for (int i = 0; i < size; i += LANES) squares += floats(x + i) * floats(x + i);
    return 1.0f / std::sqrt(sum(squares) / size + eps);
}

// out [size] = root-mean-square norm of x, times scale [size].
inline void norm(const float* x, const float* scale, int size, float eps, float* out) {
    const float by = inverse_norm(x, size, eps);
    for (int i = 0; i < size; i += LANES) store(out + i, floats(x + i) * by * floats(scale + i));
}

template <int ROWS, class Out>
inline void group(const Product& p, int64_t panel, const uint8_t* rows, int first, Out&& out) {
    Ints sums[ROWS][WIDE];
    for (int c = 0; c < WIDE; ++c) {
        const Ints start = load<Ints>(p.start + panel * PANEL + c * LANES);
        for (int r = 0; r < ROWS; ++r) sums[r][c] = start;
    }
    const int8_t* weight = p.weight + panel * PANEL * p.k;
    for (int64_t i = 0; i < p.k; i += 4, weight += 4 * PANEL) {
        Ints w[WIDE];
        for (int c = 0; c < WIDE; ++c) w[c] = load<Ints>(weight + c * 4 * LANES);
        for (int r = 0; r < ROWS; ++r) {
            int32_t four;
            std::memcpy(&four, rows + r * p.k + i, 4);
            const Ints a = all(four);
            for (int c = 0; c < WIDE; ++c) sums[r][c] = dot(sums[r][c], a, w[c]);
        }
    }
    for (int r = 0; r < ROWS; ++r) {
        Floats values[WIDE];
        for (int c = 0; c < WIDE; ++c) {
            const Floats scale = floats(p.scale + panel * PANEL + c * LANES);
            values[c] = __builtin_convertvector(sums[r][c], Floats) * scale;
        }
        out(first + r, panel, values);
    }
}

// Quantised rows [count, k] times the panels from `panel` to `end`: out(row, panel, values[WIDE]) for each, in units of
// the row's largest number.
template <class Out>
inline void panels(const Product& p, const uint8_t* rows, int count, int64_t panel, int64_t end, Out&& out) {
    for (; panel < end; ++panel) {
        for (int first = 0; first < count;) {
            const uint8_t* at = rows + first * p.k;
            const int left = count - first;
            if (GROUP == 6 && (left >= 9 || left == 6)) {
                group<GROUP>(p, panel, at, first, out), first += GROUP;
            } else if (GROUP == 6 && left == 5) {
                group<5>(p, panel, at, first, out), first += 5;
            } else if (GROUP == 6 && (left == 8 || left == 7 || left == 4)) {
                group<4>(p, panel, at, first, out), first += 4;
            } else if (GROUP == 6 && left == 3) {
                group<3>(p, panel, at, first, out), first += 3;
            } else if (left >= 2) {
                group<2>(p, panel, at, first, out), first += 2;
            } else {
                group<1>(p, panel, at, first, out), first += 1;
            }
        }
    }
}

// The product itself: out [count, n].
inline void product(const Product& p, const uint8_t* rows, int count, float* out) {
    panels(p, rows, count, 0, p.n / PANEL, [&](int row, int64_t panel, const Floats* values) {
        for (int c = 0; c < WIDE; ++c) store(out + row * p.n + panel * PANEL + c * LANES, values[c]);
    });
}

// gelu of one product, times the row's largest number, times another one: out [count, n / 2]. A panel's first columns
// are of the one and its last of the other. `top` [count]; `up_too` multiplies the other by it as well.
inline void gated(const Product& p, const uint8_t* rows, int count, const float* top, bool up_too, float* out) {
    panels(p, rows, count, 0, p.n / PANEL, [&](int row, int64_t panel, const Floats* values) {
        const float up = up_too ? top[row] : 1.0f;
        for (int c = 0; c < WIDE / 2; ++c) {
            const Floats value = gelu(values[c] * top[row]) * values[WIDE / 2 + c] * up;
            store(out + row * (p.n / 2) + panel * (PANEL / 2) + c * LANES, value);
        }
    });
}

}  // namespace midspan
