// What Python lays out: weights, and one reading. Every size is an int64 and every pointer is of a row-major array.
// kernels/native.py says the same of each field, and compares the two by the table in library.cpp.
//
// Functions that Python calls return NULL, or a line that says what is wrong with what they were given.
#pragma once

#include <cstdint>
#include <cstdio>

constexpr int LARGEST_HEAD = 512;  // head_dim at most

extern "C" {

// Weights [n, k] in panels (native.py packs them); `scale` [n] of each column in steps, `start` [n] takes the rows'
// middle away.
struct Product {
    const int8_t* weight;
    const float* scale;
    const int32_t* start;
    int64_t n, k;
};

struct Layer {
    Product qkv, out, gate_up, dense_down, expert_down;
    const float *q_norm, *k_norm;                                    // [head_dim]
    const float *after_attention, *after_dense, *after_expert, *after_both;  // [hidden]
    const float* scalars;                                            // [2]: of the decoder, of the encoder
    int64_t kind;
};

struct Network {
    int64_t hidden, heads, head_dim, dense, expert, layers, threads;
    float eps, softcap;
    const Layer* layer;
    const float* norm;           // [hidden]
    const float* embeddings;     // [head.n, hidden], scaled
    Product condition_gate_up, condition_down, head;
};

// Which keys a row sees: those before `first`, and of the others those with a 1 at
// at[canvas * of_canvas + (key - first) * of_key + row * of_row]. LANES bytes may be read there.
struct Sees {
    const uint8_t* at;  // NULL: all
    int64_t first, of_canvas, of_key, of_row;
};

struct Read {
    int64_t canvases, rows;
    int64_t unread;              // first rows of which only keys and values are wanted; `out` has none of them
    const int64_t* ids;          // [canvases, rows]
    const float* soft;           // [canvases, rows, hidden]; NULL: none
    int64_t encoder;             // 1: a causal reading, without self-conditioning
    const int64_t* positions;    // [rows]
    int64_t before;              // keys that all canvases share
    const float* const* before_k;  // by layer [heads, .., head_dim], `before_head` numbers apart
    const float* const* before_v;
    int64_t before_head;
    int64_t own;                 // keys of each canvas: its rows', written here, and older ones behind them
    float* const* own_k;         // by layer [heads, canvases, own, head_dim], in steps of
    float* const* own_v;
    int64_t own_head, own_canvas;
    const float* const* cos;     // by kind of layer [positions, head_dim / 2]
    const float* const* sin;
    const Sees* sees;            // by kind of layer
    float* out;                  // [canvases, rows, hidden], room for all rows
};

}

namespace midspan {

// What is wrong with ids [count] of which there are `size`; NULL where nothing is. The line lasts until the next call.
inline const char* outside(const int64_t* ids, int64_t count, int64_t size, const char* what) {
    thread_local char line[128];
    for (int64_t i = 0; i < count; ++i) {
        if (ids[i] >= 0 && ids[i] < size) continue;
        std::snprintf(line, sizeof line, "%s %lld is not one of %lld", what, (long long)ids[i], (long long)size);
        return line;
    }
    return nullptr;
}

}  // namespace midspan
