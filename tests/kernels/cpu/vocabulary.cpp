// Head and sampling against double precision; all checks but that of the logits start from the kernels' own logits.
#include <algorithm>

#include "check.hpp"

extern "C" {
const char* midspan_logits(const Network*, const float*, int64_t, float*);
const char* midspan_log_probabilities(
    const Network*, const float*, int64_t, const int64_t*, const int64_t*, int64_t, float*, float*);
const char* midspan_following(
    const Network*, const float*, int64_t, const uint8_t*, const uint8_t*, int64_t, float*, float*, int64_t*, float*,
    float*);
const char* midspan_draw(
    const Network*, const float*, int64_t, float, const uint8_t*, const uint8_t*, const float*, float*, float*,
    int64_t*, int64_t*);
const char* midspan_soft(const Network*, const float*, int64_t, float*);
}

namespace {

constexpr int64_t ROWS = 30;

double log_sum(const std::vector<double>& x) {
    const double top = *std::max_element(x.begin(), x.end());
    double total = 0;
    for (double one : x) total += std::exp(one - top);
    return top + std::log(total);
}

struct Vocabulary {
    Random random{5};
    RandomNetwork net{Sizes{}, random};
    int64_t size = net.sizes.vocabulary, hidden = net.sizes.hidden;
    std::vector<float> x = random.normals(ROWS * hidden, 0, 3), logits = std::vector<float>(ROWS * size), room = logits;

    Vocabulary() { midspan_logits(net.network(), x.data(), ROWS, logits.data()); }

    // A row's logits over the temperature; ids that are not allowed get -1e9.
    std::vector<double> allowed(int64_t row, const std::vector<uint8_t>& may, double temperature = 1) const {
        std::vector<double> out(size);
        for (int64_t id = 0; id < size; ++id) out[id] = may[id] ? logits[row * size + id] / temperature : -1e9;
        return out;
    }

    void check_logits() {
        double worst = 0;
        for (int64_t r = 0; r < ROWS; ++r) {
            const reference::Row row = reference::row_of(&x[r * hidden], hidden);
            const reference::Row raw = reference::product(net.head, row);
            for (int64_t id = 0; id < size; ++id) {
                const double exact = 30 * std::tanh(raw[id] * reference::top(row) / 30);
                worst = more(worst, std::fabs(logits[r * size + id] - exact));
            }
        }
        // tanh's own error at 30, plus one number of a row that rounds to the next step, times the largest weight.
        const double step = 3 * 4 / 127.0 * 127 * *std::max_element(net.head.scale.begin(), net.head.scale.end());
        report("logits", worst, 30 * 1e-6 + step);
    }

    void check_log_probabilities() {
        std::vector<int64_t> at, wanted;
        for (int64_t i = 0; i < 50; ++i) at.push_back(random.below(ROWS)), wanted.push_back(random.below(size));
        std::vector<float> out(50);
        midspan_log_probabilities(net.network(), x.data(), ROWS, at.data(), wanted.data(), 50, room.data(), out.data());
        const std::vector<uint8_t> every(size, 1);
        double worst = 0;
        for (int64_t i = 0; i < 50; ++i) {
            const std::vector<double> row = allowed(at[i], every);
            worst = more(worst, std::fabs(out[i] - (row[wanted[i]] - log_sum(row))));
        }
        // Two roundings of numbers below 64, and exp's error once.
        report("log-probabilities", worst, 2 * 64 * ULP + 2e-7);
        wanted[7] = size;
        const char* said = midspan_log_probabilities(
            net.network(), x.data(), ROWS, at.data(), wanted.data(), 50, room.data(), out.data());
        report("an id that is none is refused there", said != nullptr ? 0 : 1, 0);
    }

    void check_following() {
        std::vector<uint8_t> inner(size), stops(size), both(size);
        for (int64_t id = 0; id < size; ++id) {
            inner[id] = random.below(2), stops[id] = !inner[id] && random.below(5) == 0;
        }
        for (int64_t id = 0; id < size; ++id) both[id] = inner[id] || stops[id];
        const int64_t width = 7;
        std::vector<float> values(ROWS * width), ends(ROWS), whole(ROWS);
        std::vector<int64_t> ids(ROWS * width);
        midspan_following(
            net.network(), x.data(), ROWS, inner.data(), stops.data(), width, room.data(), values.data(), ids.data(),
            ends.data(), whole.data());
        double worst = 0;
        int64_t other = 0;
        for (int64_t r = 0; r < ROWS; ++r) {
            const std::vector<double> row = allowed(r, inner);
            const double total = log_sum(allowed(r, both));
            worst = more(worst, std::fabs(whole[r] - total));
            worst = more(worst, std::fabs(ends[r] - (log_sum(allowed(r, stops)) - total)));
            std::vector<double> sorted = row;
            std::sort(sorted.rbegin(), sorted.rend());
            for (int64_t i = 0; i < width; ++i) {
                worst = more(worst, std::fabs(values[r * width + i] - (sorted[i] - total)));
                other += row[ids[r * width + i]] != sorted[i];
            }
        }
        report("what may follow", worst, 3 * 64 * ULP + 4e-7);
        report("its ids", other, 0);
    }

    void check_draw() {
        std::vector<uint8_t> may(2 * size, 1), first(ROWS);
        for (int64_t id = 0; id < size; ++id) may[id] = id % 5 > 0, may[size + id] = id % 5 > 0 && random.below(3) == 0;
        first[0] = first[4] = 1;
        std::vector<float> uniform, weights(ROWS * size), entropy(ROWS), soft(ROWS * hidden);
        for (int64_t r = 0; r < ROWS; ++r) uniform.push_back(random.below(1000) / 1000.0f);
        std::vector<int64_t> sample(ROWS), likeliest(ROWS);
        midspan_draw(
            net.network(), x.data(), ROWS, 0.8f, may.data(), first.data(), uniform.data(), weights.data(),
            entropy.data(), sample.data(), likeliest.data());
        midspan_soft(net.network(), weights.data(), ROWS, soft.data());
        double entropies = 0, expected = 0, drawn = 0;
        int64_t tops = 0;
        for (int64_t r = 0; r < ROWS; ++r) {
            const auto from = may.begin() + first[r] * size;
            const std::vector<double> row = allowed(r, {from, from + size}, 0.8f);
            const double total = log_sum(row);
            double exact = 0, before = 0, until = 0;
            reference::Row mean(hidden);
            for (int64_t id = 0; id < size; ++id) {
                const double p = std::exp(row[id] - total);
                exact -= p > 0 ? p * (row[id] - total) : 0;
                before += id < sample[r] ? p : 0, until += id <= sample[r] ? p : 0;
                for (int64_t d = 0; d < hidden; ++d) mean[d] += p * net.embeddings[id * hidden + d];
            }
            entropies = more(entropies, std::fabs(entropy[r] - exact));
            drawn = more(drawn, std::max(before - uniform[r], uniform[r] - until));
            expected = more(expected, far(&soft[r * hidden], mean));
            tops += row[likeliest[r]] != *std::max_element(row.begin(), row.end());
        }
        // Logits below 30 / 0.8 are rounded at 64, which exp makes relative; sums of 320 weights are rounded 320 times.
        report("entropies", entropies, 8 * (64 + 320) * ULP);
        report("samples lie where they were wanted", drawn, (64 + 320) * ULP);
        report("expected embeddings", expected, (64 + 320) * ULP);
        report("likeliest ids", tops, 0);
    }
};

}  // namespace

void vocabulary() {
    Vocabulary checks;
    checks.check_logits();
    checks.check_log_probabilities();
    checks.check_following();
    checks.check_draw();
}
