// The stack of layers over a cached prefix: engine/model.py's `run` in int8, a piece of a text or canvas at a time.
#include <algorithm>
#include <vector>

#include "attention.h"
#include "network.h"
#include "product.h"

namespace midspan {
namespace {

constexpr int64_t MOST = MIDDLE ? 48 : 32;  // rows of a piece at most: with a panel they fit the first-level cache
constexpr int64_t SIDES = 2;   // registers of rows that attention computes together
constexpr int64_t LEAST = 8;   // rows of a piece at least, for which another thread is worth waking
constexpr int64_t WEIGHTS = 8; // the cost of reading the weights, in rows

// Rows of one canvas that go through a layer together.
struct Piece {
    int64_t canvas, first, count;
};

int64_t lanes_of(int64_t rows) { return (rows + LANES - 1) / LANES; }

// The number of pieces of at most MOST rows that each canvas is cut into, so that the busiest thread ends soonest. The
// cost of a piece is its rows, plus half as much for every lane that attention uses, plus WEIGHTS.
int64_t cuts(const Read& read, int64_t threads) {
    int64_t best = 0, least = INT64_MAX;
    for (int64_t each = (read.rows + MOST - 1) / MOST; each == 1 || read.rows >= LEAST * each; ++each) {
        const int64_t rows = (read.rows + each - 1) / each, turns = (read.canvases * each + threads - 1) / threads;
        const int64_t cost = turns * (WEIGHTS + rows + lanes_of(rows) * LANES / 2);
        if (cost < least) least = cost, best = each;
    }
    return best;
}

std::vector<Piece> cut(const Read& read, int64_t threads) {
    const int64_t each = cuts(read, threads);
    std::vector<Piece> out;
    for (int64_t canvas = 0; canvas < read.canvases; ++canvas) {
        for (int64_t i = 0; i < each; ++i) {
            const int64_t first = read.rows * i / each, end = read.rows * (i + 1) / each;
            out.push_back({canvas, first, end - first});
        }
    }
    return out;
}

// A thread's own memory for one piece, kept from call to call.
struct Scratch {
    std::vector<uint8_t> bytes;
    std::vector<float> wide, narrow, other, scores, queries, values;
    float top[MOST];

    void fit(const Network& net, int64_t keys) {
        const int64_t heads = net.heads * net.head_dim, inner = net.dense + net.expert;
        const int64_t widest = std::max({3 * heads, inner, net.condition_down.k, net.hidden});
        bytes.resize(MOST * row_bytes(widest));
        wide.resize(MOST * widest);
        narrow.resize(MOST * net.hidden);
        other.resize(MOST * net.hidden);
        if (scores.size() < size_t(keys * SIDES * LANES)) scores.resize(keys * SIDES * LANES);
        queries.resize(net.head_dim * SIDES * LANES);
        values.resize(net.head_dim * SIDES * LANES);
    }
};

class Reading {
public:
    // `queries` is memory that may be kept from call to call.
    Reading(const Network& net, const Read& read, std::vector<float>& queries)
        : net_(net), read_(read), pieces_(cut(read, net.threads)), queries_(queries), x_(read.out) {
        const size_t wanted = pieces_.size() * lanes_of(MOST) * net.heads * net.head_dim * LANES;
        if (queries.size() < wanted) queries.resize(wanted);
    }

    void run() {
        const int64_t count = pieces_.size();
#pragma omp parallel num_threads(std::min(net_.threads, count))
        {
            thread_local Scratch own;
            own.fit(net_, read_.before + read_.own);
#pragma omp for schedule(static, 1)
            for (int64_t i = 0; i < count; ++i) {
                begin(i, own);
                project(i, net_.layer[0], 0, own);
            }
            for (int64_t layer = 0; layer < net_.layers; ++layer) {
                // All pieces' keys of this layer are written by now; the next layer's have other memory.
#pragma omp for schedule(static, 1)
                for (int64_t i = 0; i < count; ++i) {
                    finish(i, net_.layer[layer], layer, own);
                    if (!last(layer)) project(i, net_.layer[layer + 1], layer + 1, own);
                }
            }
        }
    }

private:
    bool last(int64_t layer) const { return layer + 1 == net_.layers; }

    float* rows(const Piece& piece) const { return x_ + (piece.canvas * read_.rows + piece.first) * net_.hidden; }

    float* queries(int64_t piece) {
        return queries_.data() + piece * lanes_of(MOST) * net_.heads * net_.head_dim * LANES;
    }

    // Embeddings of a piece, and self-conditioning with the last step's soft embeddings.
    void begin(int64_t i, Scratch& own) {
        const Piece& piece = pieces_[i];
        const int64_t size = net_.hidden, at = piece.canvas * read_.rows + piece.first;
        float* x = rows(piece);
        for (int64_t r = 0; r < piece.count; ++r) {
            std::memcpy(x + r * size, net_.embeddings + read_.ids[at + r] * size, size * sizeof(float));
        }
        if (read_.encoder) return;
        if (read_.soft != nullptr) condition(read_.soft + at * size, piece.count, x, own);
        for (int64_t r = 0; r < piece.count; ++r) norm_plain(x + r * size);
    }

    // Adds the self-conditioning of soft embeddings [count, hidden] to x.
    void condition(const float* soft, int64_t count, float* x, Scratch& own) {
        const int64_t size = net_.hidden, inner = net_.condition_down.k;
        for (int64_t r = 0; r < count; ++r) {
            float* row = own.narrow.data() + r * size;
            std::memcpy(row, soft + r * size, size * sizeof(float));
            norm_plain(row);
        }
        quantise_rows(own.narrow.data(), count, size, size, own);
        gated(net_.condition_gate_up, own.bytes.data(), count, own.top, true, own.wide.data());
        quantise_rows(own.wide.data(), count, inner, inner, own);
        product(net_.condition_down, own.bytes.data(), count, own.narrow.data());
        for (int64_t r = 0; r < count; ++r) {
            for (int64_t d = 0; d < size; d += LANES) {
                float* to = x + r * size + d;
                store(to, floats(to) + floats(own.narrow.data() + r * size + d) * own.top[r]);
            }
        }
    }

    void norm_plain(float* x) const {
        const float by = inverse_norm(x, net_.hidden, net_.eps);
        for (int64_t d = 0; d < net_.hidden; d += LANES) store(x + d, floats(x + d) * by);
    }

    // Quantises rows [count, size], `step` numbers apart, into own.bytes and own.top.
    static void quantise_rows(const float* x, int64_t count, int64_t size, int64_t step, Scratch& own) {
        for (int64_t r = 0; r < count; ++r) {
            own.top[r] = quantise(x + r * step, size, own.bytes.data() + r * row_bytes(size));
        }
    }

    // Queries, keys and values of a piece. Their norms cancel any factor of a row: input norm and scale are left out.
    void project(int64_t i, const Layer& layer, int64_t number, Scratch& own) {
        const Piece& piece = pieces_[i];
        const int64_t heads = net_.heads, size = net_.head_dim, all = 3 * heads * size;
        quantise_rows(rows(piece), piece.count, net_.hidden, net_.hidden, own);
        product(layer.qkv, own.bytes.data(), piece.count, own.wide.data());
        float* queries_here = queries(i);
        for (int64_t r = 0; r < piece.count; ++r) {
            float turned[LARGEST_HEAD];
            const int64_t row = piece.first + r, place = read_.positions[row] * (size / 2);
            const float *cos = read_.cos[layer.kind] + place, *sin = read_.sin[layer.kind] + place;
            for (int64_t h = 0; h < heads; ++h) {
                const float* of_row = own.wide.data() + r * all + h * size;
                const int64_t lane = r % LANES, to = h * read_.own_head + piece.canvas * read_.own_canvas + row * size;
                turn(of_row, layer.q_norm, cos, sin, turned);
                float* q = queries_here + (r / LANES * heads + h) * size * LANES + lane;
                for (int64_t d = 0; d < size; ++d) q[d * LANES] = turned[d];
                turn(of_row + heads * size, layer.k_norm, cos, sin, read_.own_k[number] + to);
                const float* v = of_row + 2 * heads * size;
                const float by = inverse_norm(v, size, net_.eps);
                for (int64_t d = 0; d < size; d += LANES) store(read_.own_v[number] + to + d, floats(v + d) * by);
            }
        }
    }

    // One head's norm and RoPE (split-half): x [head_dim] -> out.
    void turn(const float* x, const float* scale, const float* cos, const float* sin, float* out) const {
        const int64_t half = net_.head_dim / 2;
        const float by = inverse_norm(x, net_.head_dim, net_.eps);
        for (int64_t d = 0; d < half; d += LANES) {
            const Floats low = floats(x + d) * by * floats(scale + d);
            const Floats high = floats(x + half + d) * by * floats(scale + half + d);
            const Floats c = floats(cos + d), s = floats(sin + d);
            store(out + d, low * c - high * s);
            store(out + half + d, high * c + low * s);
        }
    }

    // Attention and the MLPs of a piece. The last layer leaves out the first `unread` rows, and the final norm follows.
    void finish(int64_t i, const Layer& layer, int64_t number, Scratch& own) {
        const Piece& piece = pieces_[i];
        const int64_t size = net_.hidden, begin = last(number) ? std::max<int64_t>(0, read_.unread - piece.first) : 0;
        if (begin >= piece.count) return;
        mix_values(i, layer, number, begin / LANES * LANES, own);
        const int64_t heads = net_.heads * net_.head_dim, count = piece.count - begin;
        quantise_rows(own.wide.data() + begin * heads, count, heads, heads, own);
        product(layer.out, own.bytes.data(), count, own.narrow.data());
        float* x = rows(piece) + begin * size;
        for (int64_t r = 0; r < count; ++r) {
            float* out = own.narrow.data() + r * size;
            norm(out, layer.after_attention, size, net_.eps, out);
            for (int64_t d = 0; d < size; d += LANES) {
                store(x + r * size + d, floats(x + r * size + d) + floats(out + d));
            }
            std::memcpy(out, x + r * size, size * sizeof(float));
            norm_plain(out);
        }
        feed_forward(layer, count, x, own);
        if (!last(number)) return;
        for (int64_t r = 0; r < count; ++r) norm(x + r * size, net_.norm, size, net_.eps, x + r * size);
    }

    // Attention of a piece, all heads: writes own.wide [count, heads * head_dim] from row `first`, a multiple of LANES.
    void mix_values(int64_t i, const Layer& layer, int64_t number, int64_t first, Scratch& own) {
        const Piece& piece = pieces_[i];
        for (; first < piece.count; first += SIDES * LANES) {
            for (int64_t h = 0; h < net_.heads; ++h) {
                if (piece.count - first > LANES) {
                    mix_head<SIDES>(i, layer, number, first, h, own);
                } else {
                    mix_head<1>(i, layer, number, first, h, own);
                }
            }
        }
    }

    // Attention of one head, for as many rows of the piece as S registers hold from row `first` on.
    template <int S>
    void mix_head(int64_t i, const Layer& layer, int64_t number, int64_t first, int64_t h, Scratch& own) {
        const Piece& piece = pieces_[i];
        const int64_t size = net_.head_dim, all = net_.heads * size;
        const Sees& sees = read_.sees[layer.kind];
        const int64_t row = piece.first + first, mine = h * read_.own_head + piece.canvas * read_.own_canvas;
        const Mask mask{
            sees.at + piece.canvas * sees.of_canvas + row * sees.of_row, sees.first, sees.of_key, sees.of_row != 0};
        // In a text (causal) a row does not see the rows behind it.
        const int64_t seen = read_.encoder ? piece.first + piece.count : read_.own;
        // Queries are stored one register of rows after another; the kernel reads S registers side by side.
        for (int64_t d = 0; d < size; ++d) {
            for (int s = 0; s < S; ++s) {
                const float* from = queries(i) + (((first / LANES + s) * net_.heads + h) * size + d) * LANES;
                store(own.queries.data() + (d * S + s) * LANES, floats(from));
            }
        }
        const int64_t count = std::min<int64_t>(S * LANES, piece.count - first);
        attend<S>(
            own.queries.data(),
            {read_.before_k[number] + h * read_.before_head, read_.before_v[number] + h * read_.before_head,
             read_.before},
            {read_.own_k[number] + mine, read_.own_v[number] + mine, seen}, sees.at == nullptr ? nullptr : &mask, size,
            count, own.scores.data(), own.values.data());
        for (int64_t r = 0; r < count; ++r) {
            float* to = own.wide.data() + (first + r) * all + h * size;
            for (int64_t d = 0; d < size; ++d) to[d] = own.values[d * S * LANES + r];
        }
    }

    // Adds the dense MLP and the expert MLP of the normed rows own.narrow to x [count, hidden].
    void feed_forward(const Layer& layer, int64_t count, float* x, Scratch& own) {
        const int64_t size = net_.hidden, inner = net_.dense + net_.expert;
        float *dense = own.narrow.data(), *expert = own.other.data();
        quantise_rows(dense, count, size, size, own);
        gated(layer.gate_up, own.bytes.data(), count, own.top, false, own.wide.data());
        quantise_rows(own.wide.data(), count, net_.dense, inner, own);
        product(layer.dense_down, own.bytes.data(), count, dense);
        quantise_rows(own.wide.data() + net_.dense, count, net_.expert, inner, own);
        product(layer.expert_down, own.bytes.data(), count, expert);
        for (int64_t r = 0; r < count; ++r, dense += size, expert += size, x += size) {
            norm(dense, layer.after_dense, size, net_.eps, dense);
            norm(expert, layer.after_expert, size, net_.eps, expert);
            for (int64_t d = 0; d < size; d += LANES) store(dense + d, floats(dense + d) + floats(expert + d));
            norm(dense, layer.after_both, size, net_.eps, dense);
            const float scalar = layer.scalars[read_.encoder];
            for (int64_t d = 0; d < size; d += LANES) store(x + d, (floats(x + d) + floats(dense + d)) * scalar);
        }
    }

    const Network& net_;
    const Read& read_;
    std::vector<Piece> pieces_;
    std::vector<float>& queries_;
    float* x_;
};

}  // namespace
}  // namespace midspan

extern "C" const char* midspan_read(const Network* net, const Read* read) {
    if (auto wrong = midspan::outside(read->ids, read->canvases * read->rows, net->head.n, "token id")) return wrong;
    thread_local std::vector<float> queries;
    midspan::Reading(*net, *read, queries).run();
    return nullptr;
}
