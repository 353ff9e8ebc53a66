// A random network: matrices for the reference, and the same weights packed for the kernels.
#pragma once

#include <cmath>
#include <deque>
#include <random>
#include <vector>

#include "product.h"

struct Random {
    std::mt19937 state;
    explicit Random(unsigned seed) : state(seed) {}
    double normal() { return std::normal_distribution<double>()(state); }
    int64_t below(int64_t end) { return std::uniform_int_distribution<int64_t>(0, end - 1)(state); }
    std::vector<float> normals(size_t count, double middle = 0, double spread = 1) {
        std::vector<float> out(count);
        for (float& one : out) one = middle + spread * normal();
        return out;
    }
};

// Weights [n, k] in int8, a scale a row.
struct Matrix {
    int64_t n, k;
    std::vector<int8_t> weight;
    std::vector<float> scale;

    Matrix(int64_t n, int64_t k, Random& random) : n(n), k(k), weight(n * k), scale(n) {
        // The first two rows are as large as weights can be.
        for (int64_t i = 0; i < n * k; ++i) {
            if (i < 2 * k) {
                weight[i] = i < k ? 127 : -127;
            } else {
                weight[i] = std::max(-127.0, std::min(127.0, std::round(40 * random.normal())));
            }
        }
        for (float& one : scale) one = (1 + 0.2 * random.normal()) / (40 * 127 * std::sqrt(double(k)));
    }
};

// Interleaves two matrices [n, k] so that half of every panel is of each; as native.py's `beside`.
inline Matrix beside(const Matrix& gate, const Matrix& up) {
    Matrix out = gate;
    out.n = 2 * gate.n, out.weight.clear(), out.scale.clear();
    const int64_t half = midspan::PANEL / 2, k = gate.k;
    for (int64_t first = 0; first < gate.n; first += half) {
        for (const Matrix* from : {&gate, &up}) {
            out.weight.insert(out.weight.end(), &from->weight[first * k], &from->weight[first * k] + half * k);
            out.scale.insert(out.scale.end(), &from->scale[first], &from->scale[first] + half);
        }
    }
    return out;
}

// The memory that a Product points to; as native.py's Packed.
struct Packed {
    std::vector<int8_t> weight;
    std::vector<float> scale;
    std::vector<int32_t> start;
    Product product;

    explicit Packed(const Matrix& m) : weight(m.n * m.k), scale(m.scale), start(m.n) {
        using namespace midspan;
        int8_t* to = weight.data();
        for (int64_t panel = 0; panel < m.n / PANEL; ++panel) {
            for (int64_t i = 0; i < m.k; i += 4) {
                for (int64_t column = 0; column < PANEL; ++column) {
                    for (int64_t j = 0; j < 4; ++j) *to++ = m.weight[(panel * PANEL + column) * m.k + i + j];
                }
            }
        }
        for (int64_t row = 0; row < m.n; ++row) {
            for (int64_t i = 0; i < m.k; ++i) start[row] -= 128 * m.weight[row * m.k + i];
        }
        product = {weight.data(), scale.data(), start.data(), nullptr, m.n, m.k};
    }
};

struct LayerWeights {
    Matrix qkv, out, gates, ups, dense_down, expert_down;
    std::vector<float> q_norm, k_norm, after_attention, after_dense, after_expert, after_both, scalars;
};

struct Sizes {
    int64_t hidden = 128, heads = 4, head_dim = 32, dense = 192, expert = 64, vocabulary = 320, layers = 2;
};

// A network each of whose layers is a kind of its own.
class RandomNetwork {
public:
    Sizes sizes;
    std::vector<LayerWeights> layers;
    Matrix condition_gate, condition_up, condition_down, head;
    std::vector<float> norm, embeddings;

    RandomNetwork(const Sizes& s, Random& random)
        : sizes(s), condition_gate(s.dense, s.hidden, random), condition_up(s.dense, s.hidden, random),
          condition_down(s.hidden, s.dense, random), head(s.vocabulary, s.hidden, random),
          norm(random.normals(s.hidden, 1, 0.2)), embeddings(random.normals(s.vocabulary * s.hidden)) {
        const int64_t heads = s.heads * s.head_dim, inner = s.dense + s.expert;
        for (int64_t i = 0; i < s.layers; ++i) {
            layers.push_back(
                {{3 * heads, s.hidden, random}, {s.hidden, heads, random}, {inner, s.hidden, random},
                 {inner, s.hidden, random}, {s.hidden, s.dense, random}, {s.hidden, s.expert, random},
                 random.normals(s.head_dim, 0.3, 0.1), random.normals(s.head_dim, 1, 0.2),
                 random.normals(s.hidden, 1, 0.2), random.normals(s.hidden, 1, 0.2), random.normals(s.hidden, 1, 0.2),
                 random.normals(s.hidden, 1, 0.2), {0.7f, 1.3f}});
        }
        fill();
    }

    RandomNetwork(const RandomNetwork&) = delete;

    Network* network() { return &network_; }

private:
    void fill() {
        const Sizes& s = sizes;
        for (size_t i = 0; i < layers.size(); ++i) {
            const LayerWeights& w = layers[i];
            packed_layers_.push_back(
                {pack(w.qkv), pack(w.out), pack(beside(w.gates, w.ups)), pack(w.dense_down), pack(w.expert_down),
                 w.q_norm.data(), w.k_norm.data(), w.after_attention.data(), w.after_dense.data(),
                 w.after_expert.data(), w.after_both.data(), w.scalars.data(), int64_t(i)});
        }
        network_ = {s.hidden, s.heads, s.head_dim, s.dense, s.expert, s.layers, 1, 1e-6f, 30.0f,
                    packed_layers_.data(), norm.data(), embeddings.data(),
                    pack(beside(condition_gate, condition_up)), pack(condition_down), pack(head)};
    }

    Product pack(const Matrix& m) {
        packed_.emplace_back(m);
        return packed_.back().product;
    }

    std::deque<Packed> packed_;
    std::vector<Layer> packed_layers_;
    Network network_;
};
