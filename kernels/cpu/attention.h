// Attention with scale 1 of LANES rows at a time: a lane is a row, so that a softmax needs no sum across lanes.
#pragma once

#include "network.h"
#include "simd.h"

namespace midspan {

// Keys or values of one head that lie together.
struct Keys {
    const float *k, *v;  // [count, head_dim]
    int64_t count;
};

// Sees of one canvas, from one row on.
struct Mask {
    const uint8_t* at;
    int64_t first, of_key;
    bool by_row;

    Floats operator()(int64_t key, Floats score) const {
        if (key < first) return score;
        const uint8_t* seen = at + (key - first) * of_key;
        // Finite, so that a row that sees nothing is no row of NaN.
        if (!by_row) return *seen ? score : all(-1e9f);
        return __builtin_convertvector(load<Bytes>(seen), Ints) != 0 ? score : all(-1e9f);
    }
};

constexpr int TOGETHER = 8;  // keys whose scores are summed side by side
constexpr int CHUNK = 16;    // numbers of a head whose values are

// Scores [count, LANES] of queries [size, LANES] with keys; returns the largest by lane, `most` or more.
inline Floats score(const float* queries, const float* keys, int64_t count, int64_t size, float* out, Floats most) {
    int64_t key = 0;
    for (; key + TOGETHER <= count; key += TOGETHER) {
        Floats sums[TOGETHER] = {};
        const float* at = keys + key * size;
        for (int64_t d = 0; d < size; ++d) {
            const Floats q = floats(queries + d * LANES);
            for (int j = 0; j < TOGETHER; ++j) sums[j] += q * at[j * size + d];
        }
        for (int j = 0; j < TOGETHER; ++j) {
            store(out + (key + j) * LANES, sums[j]);
            most = larger(most, sums[j]);
        }
    }
    for (; key < count; ++key) {
        Floats sum = all(0.0f);
        for (int64_t d = 0; d < size; ++d) sum += floats(queries + d * LANES) * keys[key * size + d];
        store(out + key * LANES, sum);
        most = larger(most, sum);
    }
    return most;
}

// Adds weights [count, LANES] times values to out [size, LANES].
inline void mix(const float* weights, const float* values, int64_t count, int64_t size, float* out) {
    for (int64_t d = 0; d < size; d += CHUNK) {
        Floats sums[CHUNK];
        for (int i = 0; i < CHUNK; ++i) sums[i] = floats(out + (d + i) * LANES);
        for (int64_t key = 0; key < count; ++key) {
            const Floats weight = floats(weights + key * LANES);
            for (int i = 0; i < CHUNK; ++i) sums[i] += weight * values[key * size + d + i];
        }
        for (int i = 0; i < CHUNK; ++i) store(out + (d + i) * LANES, sums[i]);
    }
}

// Queries [size, LANES] over keys that lie in two places -> out [size, LANES]. `scores` has room for all keys.
inline void attend(
    const float* queries, Keys before, Keys own, const Mask* mask, int64_t size, float* scores, float* out) {
    const int64_t count = before.count + own.count;
    float* mine = scores + before.count * LANES;
    Floats most = score(queries, before.k, before.count, size, scores, all(-1e30f));
    most = score(queries, own.k, own.count, size, mine, most);
    if (mask != nullptr) {
        most = all(-1e30f);
        for (int64_t key = 0; key < count; ++key) {
            const Floats seen = (*mask)(key, floats(scores + key * LANES));
            store(scores + key * LANES, seen);
            most = larger(most, seen);
        }
    }
    Floats total = all(0.0f);
    for (int64_t key = 0; key < count; ++key) {
        const Floats weight = exp(floats(scores + key * LANES) - most);
        store(scores + key * LANES, weight);
        total += weight;
    }
    for (int64_t d = 0; d < size; ++d) store(out + d * LANES, all(0.0f));
    mix(scores, before.v, before.count, size, out);
    mix(mine, own.v, own.count, size, out);
    const Floats by = 1.0f / total;
    for (int64_t d = 0; d < size; ++d) store(out + d * LANES, floats(out + d * LANES) * by);
}

}  // namespace midspan
