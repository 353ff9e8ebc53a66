// Attention with scale 1. Each row has a lane, so that a softmax needs no sum across lanes. SIDES registers of rows are
// computed at once, so that each number of a key or value is read once for all of them.
#pragma once

#include "network.h"
#include "simd.h"

namespace midspan {

// Contiguous keys and values of one head.
struct Keys {
    const float *k, *v;  // [count, head_dim]
    int64_t count;
};

// The mask of one canvas (Sees in network.h), from one row on.
struct Mask {
    const uint8_t* at;
    int64_t first, of_key;
    bool by_row;

    Floats operator()(int64_t key, int64_t row, Floats score) const {
        if (key < first) return score;
        const uint8_t* seen = at + (key - first) * of_key;
        // Finite, so that a row that sees no key does not become NaN.
        if (!by_row) return *seen ? score : all(-1e9f);
        return __builtin_convertvector(load<Bytes>(seen + row), Ints) != 0 ? score : all(-1e9f);
    }
};

constexpr int FEW = LANES == 4 ? 2 : 6;  // up to so many rows mix_few is faster than a register of rows
constexpr int TOGETHER = REGISTERS == 32 ? 8 : 4;  // keys, or numbers of a head, that are summed at once

// Scores [count, SIDES, LANES] of queries [size, SIDES, LANES] with `COUNT` keys.
template <int SIDES, int COUNT>
inline void score(const float* queries, const float* keys, int64_t size, float* out) {
    Floats sums[COUNT][SIDES] = {};
    for (int64_t d = 0; d < size; ++d) {
        Floats q[SIDES];
        for (int s = 0; s < SIDES; ++s) q[s] = floats(queries + (d * SIDES + s) * LANES);
        for (int j = 0; j < COUNT; ++j) {
            for (int s = 0; s < SIDES; ++s) sums[j][s] += q[s] * keys[j * size + d];
        }
    }
    for (int j = 0; j < COUNT; ++j) {
        for (int s = 0; s < SIDES; ++s) store(out + (j * SIDES + s) * LANES, sums[j][s]);
    }
}

template <int SIDES>
inline void scores(const float* queries, const float* keys, int64_t count, int64_t size, float* out) {
    int64_t key = 0;
    for (; key + TOGETHER <= count; key += TOGETHER) {
        score<SIDES, TOGETHER>(queries, keys + key * size, size, out + key * SIDES * LANES);
    }
    for (; key < count; ++key) score<SIDES, 1>(queries, keys + key * size, size, out + key * SIDES * LANES);
}

// Adds weights [count, SIDES, LANES] times values to out [size, SIDES, LANES].
template <int SIDES>
inline void mix(const float* weights, const float* values, int64_t count, int64_t size, float* out) {
    for (int64_t d = 0; d < size; d += TOGETHER) {
        Floats sums[TOGETHER][SIDES];
        std::memcpy(sums, out + d * SIDES * LANES, sizeof sums);
        for (int64_t key = 0; key < count; ++key) {
            Floats weight[SIDES];
            for (int s = 0; s < SIDES; ++s) weight[s] = floats(weights + (key * SIDES + s) * LANES);
            for (int i = 0; i < TOGETHER; ++i) {
                for (int s = 0; s < SIDES; ++s) sums[i][s] += weight[s] * values[key * size + d + i];
            }
        }
        std::memcpy(out + d * SIDES * LANES, sums, sizeof sums);
    }
}

// The same for the first ROWS lanes of one register only: registers hold numbers of a value instead of rows, which is
// less work for few rows. Both add key after key, so the sums are equal to the bit.
template <int ROWS>
inline void mix_few(const float* weights, const float* values, int64_t count, int64_t size, float* out) {
    constexpr int ACROSS = 2;
    for (int64_t d = 0; d < size; d += ACROSS * LANES) {
        Floats sums[ROWS][ACROSS];
        for (int r = 0; r < ROWS; ++r) {
            for (int i = 0; i < ACROSS * LANES; ++i) sums[r][i / LANES][i % LANES] = out[(d + i) * LANES + r];
        }
        for (int64_t key = 0; key < count; ++key) {
            Floats value[ACROSS];
            for (int i = 0; i < ACROSS; ++i) value[i] = floats(values + key * size + d + i * LANES);
            for (int r = 0; r < ROWS; ++r) {
                for (int i = 0; i < ACROSS; ++i) sums[r][i] += weights[key * LANES + r] * value[i];
            }
        }
        for (int r = 0; r < ROWS; ++r) {
            for (int i = 0; i < ACROSS * LANES; ++i) out[(d + i) * LANES + r] = sums[r][i / LANES][i % LANES];
        }
    }
}

// Queries [size, SIDES, LANES] over the keys of the cache and the canvas' own -> out [size, SIDES, LANES]. `room` is
// memory for the scores of all keys [count, SIDES, LANES]. Only the first `rows` lanes of `out` are needed.
template <int SIDES>
inline void attend(
    const float* queries, Keys before, Keys own, const Mask* mask, int64_t size, int64_t rows, float* room,
    float* out) {
    constexpr int64_t STEP = SIDES * LANES;
    const int64_t count = before.count + own.count;
    scores<SIDES>(queries, before.k, before.count, size, room);
    scores<SIDES>(queries, own.k, own.count, size, room + before.count * STEP);
    std::memset(out, 0, size * STEP * sizeof(float));
    Floats total[SIDES] = {};
    for (int s = 0; s < SIDES; ++s) {
        float* mine = room + s * LANES;
        Floats most = all(-1e30f);
        for (int64_t key = 0; key < count; ++key) {
            Floats here = floats(mine + key * STEP);
            if (mask != nullptr) store(mine + key * STEP, here = (*mask)(key, s * LANES, here));
            most = larger(most, here);
        }
        for (int64_t key = 0; key < count; ++key) {
            const Floats weight = exp(floats(mine + key * STEP) - most);
            store(mine + key * STEP, weight);
            total[s] += weight;
        }
    }
    auto* const mixed = SIDES > 1 || rows > FEW ? mix<SIDES> : rows > FEW / 2 ? mix_few<FEW> : mix_few<FEW / 2>;
    mixed(room, before.v, before.count, size, out);
    mixed(room + before.count * STEP, own.v, own.count, size, out);
    for (int s = 0; s < SIDES; ++s) {
        const Floats by = 1.0f / total[s];
        for (int64_t d = 0; d < size; ++d) store(out + d * STEP + s * LANES, floats(out + d * STEP + s * LANES) * by);
    }
}

}  // namespace midspan
