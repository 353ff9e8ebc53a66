// The tied head: logits of many rows, their log-probabilities, a denoise step's samples, and expected embeddings.
#include <algorithm>
#include <vector>

#include "network.h"
#include "nibbles.h"

namespace midspan {
namespace {

constexpr int64_t ROWS = 24;       // rows that are multiplied together, while a panel of weights is in the cache
constexpr int64_t PARTS = 8;       // parts of the columns, which threads share
constexpr int64_t BLOCK = 256;     // ids whose weights have a sum of their own, to find a sample faster
constexpr float RULED_OUT = -1e9f;  // the logit of an id that is not allowed
constexpr float NOTHING = 6e-8f;   // weights below are left out: half of float32's last bit of 1

// Threads for the head: no more than there are parts.
int64_t team(const Network& net) { return std::min(net.threads, PARTS); }

// Logits [count, V] of hidden rows, soft-capped where the network has a cap. Every thread of a team calls this.
void head(const Network& net, const float* hidden, int64_t count, uint8_t* bytes, float* top, float* logits) {
    const int64_t size = net.hidden, groups = (count + ROWS - 1) / ROWS, whole = net.head.n / PANEL;
    const int64_t step = row_bytes(net.head);
    const float cap = net.softcap;
#pragma omp for schedule(static)
    for (int64_t r = 0; r < count; ++r) {
        top[r] = quantise(net.head, hidden + r * size, bytes + r * step) / (cap > 0 ? cap : 1.0f);
    }
#pragma omp for schedule(dynamic, 1)
    for (int64_t task = 0; task < groups * PARTS; ++task) {
        const int64_t first = task / PARTS * ROWS, part = task % PARTS, rows = std::min(ROWS, count - first);
        panels_of(
            net.head, bytes + first * step, rows, whole * part / PARTS, whole * (part + 1) / PARTS,
            [&](int row, int64_t panel, const Floats* values) {
                float* to = logits + (first + row) * net.head.n + panel * PANEL;
                for (int c = 0; c < WIDE; ++c) {
                    const Floats value = values[c] * top[first + row];
                    store(to + c * LANES, cap > 0 ? tanh(value) * cap : value);
                }
            });
    }
}

float highest(const float* x, int64_t size) {
    Floats most = all(-1e30f);
    for (int64_t i = 0; i < size; i += LANES) most = larger(most, floats(x + i));
    return largest(most);
}

// log of the sum of e^x over x [size].
float log_sum(const float* x, int64_t size) {
    const float top = highest(x, size);
    Floats total = all(0.0f);
    for (int64_t i = 0; i < size; i += LANES) total += exp(floats(x + i) - top);
    return top + std::log(sum(total));
}

struct Drawn {
    float entropy;
    int64_t sample, likeliest;
};

// The first id whose cumulative weight reaches `wanted`; `blocks` are sums of BLOCK weights of x each. If rounding
// leaves no such id, the last one with a weight.
int64_t sampled(const float* x, int64_t size, const float* blocks, float wanted) {
    int64_t block = 0, last = 0;
    float before = 0;
    for (; (block + 1) * BLOCK < size && before + blocks[block] < wanted; ++block) before += blocks[block];
    for (int64_t id = block * BLOCK; id < size; ++id) {
        if (x[id] > 0) last = id;
        before += x[id];
        if (before >= wanted && x[id] > 0) return id;
    }
    return last;
}

// Samples from logits x [size] at a temperature, over ids that are `allowed` [size]. x becomes weights e^(logit - top).
Drawn draw(float* x, int64_t size, const uint8_t* allowed, float temperature, float uniform, float* blocks) {
    const float by = 1.0f / temperature;
    Floats most = all(-1e30f);
    for (int64_t i = 0; i < size; i += LANES) {
        const Ints may = __builtin_convertvector(load<Bytes>(allowed + i), Ints);
        const Floats logits = may != 0 ? floats(x + i) * by : all(RULED_OUT);
        store(x + i, logits);
        most = larger(most, logits);
    }
    const float top = largest(most);
    Drawn out{0, 0, 0};
    for (int64_t i = 0; i < size; i += LANES) {
        if (!any(floats(x + i) == top)) continue;
        while (x[i] != top) ++i;
        out.likeliest = i;
        break;
    }
    float whole = 0, weighed = 0;
    for (int64_t begin = 0; begin < size; begin += BLOCK) {
        Floats total = all(0.0f), products = all(0.0f);
        for (int64_t i = begin; i < std::min(size, begin + BLOCK); i += LANES) {
            const Floats below = floats(x + i) - top;
            // Ids that are ruled out get weight 0, and no logit enters the entropy for them.
            const Floats weight = below > -87.0f ? exp(below) : all(0.0f);
            total += weight;
            products += weight * larger(below, all(-87.0f));
            store(x + i, weight);
        }
        blocks[begin / BLOCK] = sum(total);
        whole += blocks[begin / BLOCK];
        weighed += sum(products);
    }
    out.entropy = std::max(0.0f, std::log(whole) - weighed / whole);
    out.sample = sampled(x, size, blocks, uniform * whole);
    return out;
}

struct Best {
    float value;
    int64_t id;
};

// Fills `best` with the likeliest `allowed` ids of x [size], best first. Returns the sum of e^(x - top) over all
// allowed ids.
float likeliest(const float* x, int64_t size, const uint8_t* allowed, float top, std::vector<Best>& best) {
    Floats total = all(0.0f);
    for (Best& one : best) one = {-INFINITY, 0};
    for (int64_t i = 0; i < size; i += LANES) {
        const Ints may = __builtin_convertvector(load<Bytes>(allowed + i), Ints) != 0;
        const Floats here = floats(x + i);
        total += may ? exp(here - top) : all(0.0f);
        if (best.empty() || !any(may & (here > best.back().value))) continue;
        for (int lane = 0; lane < LANES; ++lane) {
            if (!allowed[i + lane] || here[lane] <= best.back().value) continue;
            size_t place = best.size() - 1;
            for (; place > 0 && best[place - 1].value < here[lane]; --place) best[place] = best[place - 1];
            best[place] = {here[lane], i + lane};
        }
    }
    return sum(total);
}

// The expected embedding [hidden] of ids with `weights` [V]; weights below NOTHING are left out.
void expected(const Network& net, const float* weights, float* out) {
    thread_local std::vector<int32_t> ids;
    ids.clear();
    Floats total = all(0.0f);
    for (int64_t i = 0; i < net.head.n; i += LANES) {
        const Floats here = floats(weights + i);
        total += here;
        if (!any(here >= NOTHING)) continue;
        for (int lane = 0; lane < LANES; ++lane) {
            if (here[lane] >= NOTHING) ids.push_back(i + lane);
        }
    }
    const float by = 1.0f / sum(total);
    for (int64_t d = 0; d < net.hidden; d += PANEL) {
        Floats sums[WIDE] = {};
        for (const int32_t id : ids) {
            const float* embedding = net.embeddings + id * net.hidden + d;
            for (int c = 0; c < WIDE; ++c) sums[c] += floats(embedding + c * LANES) * weights[id];
        }
        for (int c = 0; c < WIDE; ++c) store(out + d + c * LANES, sums[c] * by);
    }
}

}  // namespace
}  // namespace midspan

extern "C" {

using namespace midspan;

// Hidden [rows, d] -> logits [rows, V].
const char* midspan_logits(const Network* net, const float* hidden, int64_t rows, float* logits) {
    std::vector<uint8_t> bytes(rows * row_bytes(net->head));
    std::vector<float> top(rows);
#pragma omp parallel num_threads(team(*net))
    head(*net, hidden, rows, bytes.data(), top.data(), logits);
    return nullptr;
}

// Log-probabilities [count] of ids `wanted` [count] after rows `at` [count] of hidden [rows, d]. `logits` [rows, V] is
// scratch memory.
const char* midspan_log_probabilities(
    const Network* net, const float* hidden, int64_t rows, const int64_t* at, const int64_t* wanted, int64_t count,
    float* logits, float* out) {
    if (auto wrong = outside(wanted, count, net->head.n, "token id")) return wrong;
    if (auto wrong = outside(at, count, rows, "row")) return wrong;
    std::vector<uint8_t> bytes(rows * row_bytes(net->head));
    std::vector<float> top(rows), sums(rows);
#pragma omp parallel num_threads(team(*net))
    {
        head(*net, hidden, rows, bytes.data(), top.data(), logits);
#pragma omp for schedule(static)
        for (int64_t r = 0; r < rows; ++r) sums[r] = log_sum(logits + r * net->head.n, net->head.n);
    }
    for (int64_t i = 0; i < count; ++i) out[i] = logits[at[i] * net->head.n + wanted[i]] - sums[at[i]];
    return nullptr;
}

// The next token after hidden [rows, d]; see NextToken in engine/next_token.py. `inner` [V] marks the ids that may
// continue, `stops` [V] those that may end. `ids` and `values` [rows, width] are the likeliest that continue and their
// log-probabilities. `ends` [rows] is the log-probability of all ends together. `whole` [rows] is the log-sum-exp of
// `logits` [rows, V] over both.
const char* midspan_following(
    const Network* net, const float* hidden, int64_t rows, const uint8_t* inner, const uint8_t* stops, int64_t width,
    float* logits, float* values, int64_t* ids, float* ends, float* whole) {
    std::vector<uint8_t> bytes(rows * row_bytes(net->head));
    std::vector<float> top(rows);
    const int64_t size = net->head.n;
#pragma omp parallel num_threads(team(*net))
    {
        head(*net, hidden, rows, bytes.data(), top.data(), logits);
        std::vector<Best> best(width), none;
#pragma omp for schedule(dynamic, 1)
        for (int64_t r = 0; r < rows; ++r) {
            const float* x = logits + r * size;
            const float most = highest(x, size);
            const float going_on = likeliest(x, size, inner, most, best);
            const float ending = likeliest(x, size, stops, most, none);
            whole[r] = most + std::log(going_on + ending);
            ends[r] = most + std::log(ending) - whole[r];
            for (int64_t i = 0; i < width; ++i) {
                values[r * width + i] = best[i].value - whole[r];
                ids[r * width + i] = best[i].id;
            }
        }
    }
    return nullptr;
}

// One denoise step's samples from hidden [rows, d]: `entropy` [rows] in nats, `sample` and `likeliest` ids [rows], and
// `weights` [rows, V], which are probabilities before division by their sum. `allowed` [2, V] marks the ids that a row
// may have, and those that a row with `first` [rows] set may have. `uniform` [rows], below 1, is the place in the
// cumulative distribution that is sampled.
const char* midspan_draw(
    const Network* net, const float* hidden, int64_t rows, float temperature, const uint8_t* allowed,
    const uint8_t* first, const float* uniform, float* weights, float* entropy, int64_t* sample,
    int64_t* likeliest) {
    std::vector<uint8_t> bytes(rows * row_bytes(net->head));
    std::vector<float> top(rows);
#pragma omp parallel num_threads(team(*net))
    {
        head(*net, hidden, rows, bytes.data(), top.data(), weights);
        std::vector<float> blocks(net->head.n / BLOCK + 1);
#pragma omp for schedule(dynamic, 1)
        for (int64_t r = 0; r < rows; ++r) {
            float* here = weights + r * net->head.n;
            const uint8_t* may = allowed + first[r] * net->head.n;
            const Drawn drawn = draw(here, net->head.n, may, temperature, uniform[r], blocks.data());
            entropy[r] = drawn.entropy, sample[r] = drawn.sample, likeliest[r] = drawn.likeliest;
        }
    }
    return nullptr;
}

// Weights of ids, or probabilities, [rows, V] -> expected embeddings [rows, d].
const char* midspan_soft(const Network* net, const float* weights, int64_t rows, float* out) {
#pragma omp parallel for num_threads(std::min(net->threads, rows)) schedule(dynamic, 1)
    for (int64_t r = 0; r < rows; ++r) expected(*net, weights + r * net->head.n, out + r * net->hidden);
    return nullptr;
}
}
