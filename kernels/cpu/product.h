// Products of int8 rows and int8 weights, and RMS norms.
#pragma once

#include <cmath>

#include "bytes.h"
#include "network.h"

namespace midspan {

constexpr int WIDE = 4;               // registers of columns in a panel
constexpr int PANEL = WIDE * LANES;   // columns that are computed at once
constexpr int GROUP = REGISTERS == 32 ? 6 : 3;  // rows that are computed at once: as many as registers allow

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

// Products of a panel with weights in int8; nibbles.h has those in four bits.
struct Int8 {
    // ROWS rows from `first` on times a panel. Not inlined, so that all sums stay in registers.
    template <int ROWS, class Out>
    [[gnu::noinline]] static void group(const Product& p, int64_t panel, const uint8_t* rows, int first, Out&& out) {
        const int64_t step = row_bytes(p.k);
        rows += first * step;
        Ints sums[ROWS][WIDE];
        for (int c = 0; c < WIDE; ++c) {
            const Ints start = MIDDLE ? load<Ints>(p.start + panel * PANEL + c * LANES) : all(0);
            for (int r = 0; r < ROWS; ++r) sums[r][c] = start + left_out(rows + r * step, p.k);
        }
        const int8_t* weight = p.weight + panel * PANEL * p.k;
        for (int64_t i = 0; i < p.k; i += 4, weight += 4 * PANEL) {
            Ints w[WIDE];
            for (int c = 0; c < WIDE; ++c) w[c] = load<Ints>(weight + c * 4 * LANES);
            for (int r = 0; r < ROWS; ++r) {
                const Four a = four(rows + r * step, i);
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
};

// Quantised rows [count, k] times the panels `panel` to `end` - 1. Calls out(row, panel, values[WIDE]) for each; values
// are in units of the row's largest number.
template <class Kind = Int8, class Out>
inline void panels(const Product& p, const uint8_t* rows, int count, int64_t panel, int64_t end, Out&& out) {
    for (; panel < end; ++panel) {
        for (int first = 0; first < count;) {
            const int left = count - first;
            if (GROUP == 6 && (left >= 9 || left == 6)) {
                Kind::template group<6>(p, panel, rows, first, out), first += 6;
            } else if (GROUP == 6 && left == 5) {
                Kind::template group<5>(p, panel, rows, first, out), first += 5;
            } else if (GROUP == 6 && (left == 8 || left == 7 || left == 4)) {
                Kind::template group<4>(p, panel, rows, first, out), first += 4;
            } else if (left == 3 || left > 4) {
                Kind::template group<3>(p, panel, rows, first, out), first += 3;
            } else if (left >= 2) {
                Kind::template group<2>(p, panel, rows, first, out), first += 2;
            } else {
                Kind::template group<1>(p, panel, rows, first, out), first += 1;
            }
        }
    }
}

// Quantised rows [count, k] times all weights: out [count, n], in units of each row's largest number.
inline void product(const Product& p, const uint8_t* rows, int count, float* out) {
    panels(p, rows, count, 0, p.n / PANEL, [&](int row, int64_t panel, const Floats* values) {
        for (int c = 0; c < WIDE; ++c) store(out + row * p.n + panel * PANEL + c * LANES, values[c]);
    });
}

// Gated MLP: gelu(gate * top[row]) * up -> out [count, n / 2]. The first half of a panel's columns is gate, the second
// half up (native.py's `beside`). `top` [count] are the rows' largest numbers; `up_too` multiplies up by it as well.
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
