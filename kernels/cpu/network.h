// The structures that Python fills: weights, and the arguments of one forward pass. Sizes are int64, arrays row-major.
// kernels/native.py declares the same fields and compares them with the table in library.cpp.
//
// Functions that Python calls return NULL, or one line that says what is wrong with an argument.
#pragma once

#include <cstdint>
#include <cstdio>

constexpr int LARGEST_HEAD = 512;  // head_dim at most

extern "C" {

// Weights [n, k] in panels (packed by native.py), in int8 where `groups` is NULL: `scale` [n] is then each output
// column's scale over STEPS, and `start` [n] where each column's sum starts, which cancels the MIDDLE that is added to
// rows (bytes.h); NULL where rows are grouped (grouped.h). Else in four bits; `groups` [n / PANEL, k / GROUPED, 2, PANEL]
// has scales and offsets in bfloat16 (nibbles.h).
struct Product {
    const int8_t* weight;
    const float* scale;
    const int32_t* start;
    const uint16_t* groups;
    int64_t n, k;
};

struct Layer {
    Product qkv, out, gate_up, dense_down, expert_down;
    const float *q_norm, *k_norm;                                    // [head_dim]
    const float *after_attention, *after_dense, *after_expert, *after_both;  // [hidden]
    const float* scalars;                                            // [2]: of the decoder, of the encoder
    int64_t kind;                                                    // index into Read's cos, sin and sees
};

struct Network {
    int64_t hidden, heads, head_dim, dense, expert, layers, threads;
    float eps, softcap;          // softcap of the logits; 0: none
    const Layer* layer;
    const float* norm;           // [hidden]
    const float* embeddings;     // [head.n, hidden], scaled
    Product condition_gate_up, condition_down, head;
};

// A mask. A row sees all keys before `first`, and each other key whose byte is 1:
// at[canvas * of_canvas + (key - first) * of_key + row * of_row]. LANES bytes may be read from there.
struct Sees {
    const uint8_t* at;  // NULL: all
    int64_t first, of_canvas, of_key, of_row;
};

struct Read {
    int64_t canvases, rows;
    int64_t unread;              // number of first rows that get only keys and values, and no result in `out`
    const int64_t* ids;          // [canvases, rows]
    const float* soft;           // [canvases, rows, hidden]; NULL: none
    int64_t encoder;             // 1: a causal pass, without self-conditioning
    const int64_t* positions;    // [rows]
    int64_t before;              // keys that all canvases share
    const float* const* before_k;  // by layer [heads, .., head_dim], `before_head` numbers apart
    const float* const* before_v;
    int64_t before_head;
    int64_t own;                 // keys of each canvas: its rows', which this call writes, then older ones
    float* const* own_k;         // by layer [heads, canvases, own, head_dim]; strides in numbers:
    float* const* own_v;
    int64_t own_head, own_canvas;
    const float* const* cos;     // by kind of layer [positions, head_dim / 2]
    const float* const* sin;
    const Sees* sees;            // by kind of layer
    float* out;                  // [canvases, rows, hidden], room for all rows
};

// A layer of a llama-family decoder.
struct Block {
    Product qkv, out, gate_up, down;
    const float *qkv_bias, *out_bias;  // [n]; NULL: none
    const float *q_norm, *k_norm;      // [head_dim]; NULL: none
    const float *before_attention, *before_mlp;  // [hidden]
};

struct Decoder {
    int64_t hidden, heads, groups, head_dim, inner, layers, threads;
    float eps;
    const Block* block;
    const float* norm;           // [hidden]
};

// Rows of a text behind a cache, which gets their keys and values.
struct Text {
    int64_t rows;
    int64_t unread;              // first rows of which only keys and values are wanted
    int64_t first, end;          // the layers to run; a caller may look between two calls whether to go on
    float* x;                    // [rows, hidden]: embeddings; hidden rows behind the last layer, but for the unread
    const int64_t* positions;    // [rows]
    int64_t before;              // keys that are there already
    float* const* keys;          // by layer [groups, .., head_dim], `of_head` numbers apart, with room for the rows' own
    float* const* values;
    int64_t of_head;
    const float *cos, *sin;      // [positions, head_dim / 2]
    Sees sees;
};

}

namespace midspan {

// A line that names the first of ids [count] outside 0 .. size - 1, valid until the next call; NULL if there is none.
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
