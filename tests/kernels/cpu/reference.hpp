// The network in scalar double precision, row by row, rounded to int8 where the kernels round. It follows
// engine/model.py, with norm scales folded into the weights behind them, as in engine/backends/folding.py.
#pragma once

#include <functional>

#include "network.hpp"

namespace reference {

using Row = std::vector<double>;
using Rows = std::vector<Row>;

inline Row row_of(const float* from, int64_t size) { return Row(from, from + size); }

inline double top(const Row& x) {
    double out = 0;
    for (double one : x) out = std::max(out, std::fabs(one));
    return out;
}

// A row in int8 times a matrix, in units of the row's largest number.
inline Row product(const Matrix& m, const Row& x) {
    Row out(m.n);
    const double largest = top(x);
    std::vector<int64_t> rounded(m.k);
    for (int64_t i = 0; i < m.k; ++i) rounded[i] = largest > 0 ? std::nearbyint(x[i] * 127 / largest) : 0;
    for (int64_t row = 0; row < m.n; ++row) {
        int64_t sum = 0;
        for (int64_t i = 0; i < m.k; ++i) sum += rounded[i] * m.weight[row * m.k + i];
        out[row] = sum * double(m.scale[row]);
    }
    return out;
}

inline Row norm(Row x, const float* scale, double eps) {
    double squares = 0;
    for (double one : x) squares += one * one;
    const double by = 1 / std::sqrt(squares / x.size() + eps);
    for (size_t i = 0; i < x.size(); ++i) x[i] *= by * (scale == nullptr ? 1 : scale[i]);
    return x;
}

inline double gelu(double x) { return 0.5 * x * (1 + std::tanh(std::sqrt(2 / M_PI) * (x + 0.044715 * x * x * x))); }

// gelu(gate) * up. Gate is in true units; up only if `up_too`, else in units of the row's largest number.
inline Row gated(const Matrix& gate, const Matrix& up, const Row& x, bool up_too) {
    Row out = product(gate, x), other = product(up, x);
    const double unit = top(x);
    for (size_t i = 0; i < out.size(); ++i) out[i] = gelu(out[i] * unit) * other[i] * (up_too ? unit : 1);
    return out;
}

// Attention of one head's query to the keys and values that are `seen`.
inline Row attend(const Row& query, const Rows& keys, const Rows& values, const std::vector<bool>& seen) {
    Row weights(keys.size()), out(query.size());
    double most = -INFINITY, total = 0;
    for (size_t i = 0; i < keys.size(); ++i) {
        double score = seen[i] ? 0 : -INFINITY;
        for (size_t d = 0; seen[i] && d < query.size(); ++d) score += query[d] * keys[i][d];
        weights[i] = score, most = std::max(most, score);
    }
    for (double& one : weights) total += one = std::exp(one - most);
    for (size_t i = 0; i < keys.size(); ++i) {
        for (size_t d = 0; d < out.size(); ++d) out[d] += weights[i] / total * values[i][d];
    }
    return out;
}

// RoPE, split-half.
inline Row turn(const Row& x, const float* cos, const float* sin) {
    Row out(x.size());
    const size_t half = x.size() / 2;
    for (size_t d = 0; d < half; ++d) {
        out[d] = x[d] * cos[d] - x[half + d] * sin[d];
        out[half + d] = x[half + d] * cos[d] + x[d] * sin[d];
    }
    return out;
}

// One forward pass of one canvas; keys and values by layer and head, of the cache and of the canvas' frozen rows.
struct Reading {
    const RandomNetwork& net;
    bool encoder;
    std::vector<int64_t> ids, positions;
    Rows soft;  // empty: none
    std::vector<std::vector<Rows>> before_k, before_v, older_k, older_v;
    std::vector<const float*> cos, sin;  // by layer
    // Whether a row sees a key in a layer; the cache's keys come first, then the rows', then older ones.
    std::function<bool(int64_t layer, int64_t row, int64_t key)> sees;
    double eps = 1e-6;

    Rows run() const {
        Rows x;
        for (size_t r = 0; r < ids.size(); ++r) {
            Row row = row_of(&net.embeddings[ids[r] * net.sizes.hidden], net.sizes.hidden);
            if (!soft.empty()) condition(row, soft[r]);
            x.push_back(encoder ? row : norm(row, nullptr, eps));
        }
        for (size_t layer = 0; layer < net.layers.size(); ++layer) read(layer, x);
        for (Row& row : x) row = norm(row, net.norm.data(), eps);
        return x;
    }

private:
    void condition(Row& x, const Row& soft) const {
        const Row inner = gated(net.condition_gate, net.condition_up, norm(soft, nullptr, eps), true);
        const Row signal = product(net.condition_down, inner);
        const double unit = top(inner);
        for (size_t d = 0; d < x.size(); ++d) x[d] += signal[d] * unit;
    }

    void read(size_t number, Rows& x) const {
        const LayerWeights& w = net.layers[number];
        const int64_t heads = net.sizes.heads, size = net.sizes.head_dim, half = size / 2;
        Rows mixed(x.size(), Row(heads * size));
        Rows qkv;
        for (const Row& row : x) qkv.push_back(product(w.qkv, row));
        for (int64_t h = 0; h < heads; ++h) {
            Rows queries, keys = before_k[number][h], values = before_v[number][h];
            for (size_t r = 0; r < x.size(); ++r) {
                auto part = [&](int64_t which) {
                    const double* from = qkv[r].data() + (which * heads + h) * size;
                    return Row(from, from + size);
                };
                const float *c = cos[number] + positions[r] * half, *s = sin[number] + positions[r] * half;
                queries.push_back(turn(norm(part(0), w.q_norm.data(), eps), c, s));
                keys.push_back(turn(norm(part(1), w.k_norm.data(), eps), c, s));
                values.push_back(norm(part(2), nullptr, eps));
            }
            keys.insert(keys.end(), older_k[number][h].begin(), older_k[number][h].end());
            values.insert(values.end(), older_v[number][h].begin(), older_v[number][h].end());
            for (size_t r = 0; r < x.size(); ++r) {
                std::vector<bool> seen(keys.size());
                for (size_t key = 0; key < keys.size(); ++key) seen[key] = sees(number, r, key);
                const Row out = attend(queries[r], keys, values, seen);
                std::copy(out.begin(), out.end(), mixed[r].begin() + h * size);
            }
        }
        for (size_t r = 0; r < x.size(); ++r) feed_forward(w, mixed[r], x[r]);
    }

    void feed_forward(const LayerWeights& w, const Row& mixed, Row& x) const {
        const Row attended = norm(product(w.out, mixed), w.after_attention.data(), eps);
        for (size_t d = 0; d < x.size(); ++d) x[d] += attended[d];
        const Row inner = gated(w.gates, w.ups, norm(x, nullptr, eps), false);
        const auto middle = inner.begin() + net.sizes.dense;
        const Row dense = norm(product(w.dense_down, Row(inner.begin(), middle)), w.after_dense.data(), eps);
        Row both = norm(product(w.expert_down, Row(middle, inner.end())), w.after_expert.data(), eps);
        for (size_t d = 0; d < x.size(); ++d) both[d] += dense[d];
        both = norm(both, w.after_both.data(), eps);
        for (size_t d = 0; d < x.size(); ++d) x[d] = (x[d] + both[d]) * w.scalars[encoder];
    }
};

}  // namespace reference
