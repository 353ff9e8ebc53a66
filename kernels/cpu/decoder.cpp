// The stack of a llama-family decoder over a cached text: engine/llama.py's layers, rows in int8, weights in int8 or
// int4. Threads share a product's columns, as weights are too large for each thread to read all of them.
#include <algorithm>
#include <vector>

#include "attention.h"
#include "network.h"
#include "nibbles.h"

namespace midspan {
namespace {

constexpr int64_t SIDES = 2;  // registers of rows that attention takes together
constexpr int64_t BLOCK = SIDES * LANES;

Floats silu(Floats x) { return x / (exp(-x) + 1.0f); }

// One thread's own memory; it stays from call to call.
struct Own {
    std::vector<float> row, queries, scores, values;

    void fit(const Decoder& net, int64_t keys) {
        row.resize(std::max(net.hidden, net.head_dim));
        queries.resize(net.head_dim * BLOCK);
        values.resize(net.head_dim * BLOCK);
        if (scores.size() < size_t(keys * BLOCK)) scores.resize(keys * BLOCK);
    }
};

// What all threads share; it stays from call to call.
struct Shared {
    std::vector<uint8_t> bytes;
    std::vector<float> wide, narrow, mixed;

    void fit(const Decoder& net, int64_t rows) {
        const int64_t heads = net.heads * net.head_dim, widest = std::max({net.hidden, heads, net.inner});
        bytes.resize(rows * grouped_bytes(widest));
        wide.resize(rows * std::max(net.inner, heads + 2 * net.groups * net.head_dim));
        narrow.resize(rows * net.hidden);
        mixed.resize(rows * heads);
    }
};

// Every method is called by all threads of a team and shares its rows, heads or columns among them.
class Decoding {
public:
    Decoding(const Decoder& net, const Text& text, Shared& shared) : net_(net), text_(text), shared_(shared) {
        shared.fit(net, text.rows);
    }

    void run() {
#pragma omp parallel num_threads(net_.threads)
        {
            thread_local Own own;
            own.fit(net_, text_.before + text_.rows);
            for (int64_t number = text_.first; number < text_.end; ++number) {
                const Block& block = net_.block[number];
                // Of rows that nobody wants the last layer gives keys and values only.
                const int64_t begin = number + 1 == net_.layers ? text_.unread : 0;
                attention(block, number, begin, own);
                feed_forward(block, begin, own);
            }
            const int64_t normed = text_.end == net_.layers ? text_.unread : text_.rows;
#pragma omp for schedule(static)
            for (int64_t r = normed; r < text_.rows; ++r) norm(x(r), net_.norm, net_.hidden, net_.eps, x(r));
        }
    }

private:
    float* x(int64_t row) const { return text_.x + row * net_.hidden; }

    void attention(const Block& block, int64_t number, int64_t begin, Own& own) {
        quantise_normed(block.qkv, block.before_attention, 0, own);
        multiply(block.qkv, block.qkv_bias, 0, shared_.wide.data());
        turn(block, number, own);
        mix(number, begin, own);
        quantise_rows(block.out, shared_.mixed.data(), begin);
        multiply(block.out, block.out_bias, begin, shared_.narrow.data());
        add(begin);
    }

    void feed_forward(const Block& block, int64_t begin, Own& own) {
        quantise_normed(block.gate_up, block.before_mlp, begin, own);
        gate(block.gate_up, begin);
        quantise_rows(block.down, shared_.wide.data(), begin);
        multiply(block.down, nullptr, begin, shared_.narrow.data());
        add(begin);
    }

    // A row as the product takes it that comes next.
    uint8_t* bytes(int64_t row, const Product& next) const {
        return shared_.bytes.data() + row * grouped_bytes(next.k);
    }

    void quantise_normed(const Product& next, const float* scale, int64_t begin, Own& own) {
#pragma omp for schedule(static)
        for (int64_t r = begin; r < text_.rows; ++r) {
            norm(x(r), scale, net_.hidden, net_.eps, own.row.data());
            quantise_grouped(own.row.data(), next.k, bytes(r, next));
        }
    }

    void quantise_rows(const Product& next, const float* from, int64_t begin) {
#pragma omp for schedule(static)
        for (int64_t r = begin; r < text_.rows; ++r) quantise_grouped(from + r * next.k, next.k, bytes(r, next));
    }

    // The quantised rows times weights, and a bias [n] where there is one: out [rows, n].
    void multiply(const Product& p, const float* bias, int64_t begin, float* out) {
        const int64_t count = p.n / PANEL, rows = text_.rows - begin;
#pragma omp for schedule(static)
        for (int64_t one = 0; one < count; ++one) {
            panels_of(p, bytes(begin, p), rows, one, one + 1, [&](int at, int64_t panel, const Floats* values) {
                const int64_t row = begin + at, column = panel * PANEL;
                for (int c = 0; c < WIDE; ++c) {
                    const Floats more = bias == nullptr ? all(0.0f) : floats(bias + column + c * LANES);
                    store(out + row * p.n + column + c * LANES, values[c] + more);
                }
            });
        }
    }

    // SwiGLU: silu of one product times another, a panel's first columns of the one and its last of the other.
    void gate(const Product& p, int64_t begin) {
        const int64_t count = p.n / PANEL, rows = text_.rows - begin;
        float* out = shared_.wide.data();
#pragma omp for schedule(static)
        for (int64_t one = 0; one < count; ++one) {
            panels_of(p, bytes(begin, p), rows, one, one + 1, [&](int at, int64_t panel, const Floats* values) {
                float* to = out + (begin + at) * net_.inner + panel * (PANEL / 2);
                for (int c = 0; c < WIDE / 2; ++c) {
                    store(to + c * LANES, silu(values[c]) * values[WIDE / 2 + c]);
                }
            });
        }
    }

    void add(int64_t begin) {
#pragma omp for schedule(static)
        for (int64_t r = begin; r < text_.rows; ++r) {
            const float* more = shared_.narrow.data() + r * net_.hidden;
            for (int64_t d = 0; d < net_.hidden; d += LANES) store(x(r) + d, floats(x(r) + d) + floats(more + d));
        }
    }

    // Norms, where a head has one, and RoPE; keys and values go behind the cache.
    void turn(const Block& block, int64_t number, Own& own) {
        const int64_t size = net_.head_dim, heads = net_.heads, groups = net_.groups, n = (heads + 2 * groups) * size;
        const float scale = 1.0f / std::sqrt(float(size));
#pragma omp for schedule(static)
        for (int64_t r = 0; r < text_.rows; ++r) {
            float* row = shared_.wide.data() + r * n;
            for (int64_t h = 0; h < heads; ++h) turn_head(row + h * size, block.q_norm, r, scale, row + h * size, own);
            for (int64_t g = 0; g < groups; ++g) {
                const int64_t to = g * text_.of_head + (text_.before + r) * size;
                turn_head(row + (heads + g) * size, block.k_norm, r, 1.0f, text_.keys[number] + to, own);
                const float* value = row + (heads + groups + g) * size;
                std::memcpy(text_.values[number] + to, value, size * sizeof(float));
            }
        }
    }

    // One head's norm, turn (halves together) and scale: x [head_dim] -> out, which may be x.
    void turn_head(const float* from, const float* by, int64_t row, float scale, float* out, Own& own) const {
        const int64_t half = net_.head_dim / 2, at = text_.positions[row] * half;
        if (by != nullptr) norm(from, by, net_.head_dim, net_.eps, own.row.data()), from = own.row.data();
        for (int64_t d = 0; d < half; d += LANES) {
            const Floats low = floats(from + d) * scale, high = floats(from + half + d) * scale;
            const Floats c = floats(text_.cos + at + d), s = floats(text_.sin + at + d);
            store(out + d, low * c - high * s);
            store(out + half + d, high * c + low * s);
        }
    }

    // Values mixed by attention in shared_.mixed [rows, heads * head_dim], from row `begin` on.
    void mix(int64_t number, int64_t begin, Own& own) {
        const int64_t blocks = (text_.rows - begin + BLOCK - 1) / BLOCK;
#pragma omp for schedule(dynamic, 1)
        for (int64_t task = 0; task < blocks * net_.heads; ++task) {
            const int64_t first = begin + task / net_.heads * BLOCK, head = task % net_.heads;
            if (text_.rows - first > LANES) {
                mix_head<SIDES>(number, first, head, own);
            } else {
                mix_head<1>(number, first, head, own);
            }
        }
    }

    // The same of one head, for as many rows as S registers hold from row `first` on.
    template <int S>
    void mix_head(int64_t number, int64_t first, int64_t head, Own& own) {
        const int64_t size = net_.head_dim, all_heads = net_.heads * size, n = all_heads + 2 * net_.groups * size;
        const int64_t count = std::min<int64_t>(S * LANES, text_.rows - first);
        float* queries = own.queries.data();
        std::fill_n(queries, size * S * LANES, 0.0f);
        for (int64_t r = 0; r < count; ++r) {
            const float* from = shared_.wide.data() + (first + r) * n + head * size;
            for (int64_t d = 0; d < size; ++d) queries[d * S * LANES + r] = from[d];
        }
        const int64_t group = head / (net_.heads / net_.groups) * text_.of_head, behind = group + text_.before * size;
        const float *keys = text_.keys[number], *values = text_.values[number];
        const Sees& sees = text_.sees;
        const Mask mask{sees.at + first * sees.of_row, sees.first, sees.of_key, sees.of_row != 0};
        // Nothing sees what is behind it.
        const int64_t seen = first + count;
        attend<S>(
            queries, {keys + group, values + group, text_.before}, {keys + behind, values + behind, seen},
            sees.at == nullptr ? nullptr : &mask, size, count, own.scores.data(), own.values.data());
        for (int64_t r = 0; r < count; ++r) {
            float* to = shared_.mixed.data() + (first + r) * all_heads + head * size;
            for (int64_t d = 0; d < size; ++d) to[d] = own.values[d * S * LANES + r];
        }
    }

    const Decoder& net_;
    const Text& text_;
    Shared& shared_;
};

}  // namespace
}  // namespace midspan

extern "C" const char* midspan_decode(const Decoder* net, const Text* text) {
    thread_local midspan::Shared shared;
    midspan::Decoding(*net, *text, shared).run();
    return nullptr;
}
