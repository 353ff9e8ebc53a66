// Compares the CPU's own kernels with scalar double precision on random vectors. It is a program, so that it runs where
// Python does not, as under an emulator. Prints each check's largest error; exits with 1 if one is too large.
#include "attention.h"
#include "check.hpp"
#include "nibbles.h"

using namespace midspan;
using reference::Row;
using reference::Rows;

namespace {

void functions() {
    double e = 0, g = 0, t = 0;
    for (float first = -86; first < 86; first += 0.003f * LANES) {
        Floats x;
        for (int lane = 0; lane < LANES; ++lane) x[lane] = first + 0.003f * lane;
        const Floats exps = exp(x), gelus = gelu(x * 0.1f), tanhs = tanh(x * 0.1f);
        for (int lane = 0; lane < LANES; ++lane) {
            const double exact = x[lane], small = x[lane] * 0.1f;
            e = more(e, std::fabs(exps[lane] / std::exp(exact) - 1));
            g = more(g, std::fabs(gelus[lane] - reference::gelu(small)) / std::max(1.0, std::fabs(small)));
            t = more(t, std::fabs(tanhs[lane] - std::tanh(small)));
        }
    }
    // exp's bound is that of simd.h; the others add three roundings and as many bits of their own.
    report("exp, relative", e, 2e-7);
    report("gelu", g, 1e-6);
    report("tanh", t, 1e-6);
}

// The numbers of a quantised row.
std::vector<int64_t> numbers(const uint8_t* row, int64_t size) {
    std::vector<int64_t> out;
    for (int64_t i = 0; i < size; i += 4) {
        const Four found = four(row, i);
        uint8_t bytes[4];
        const int32_t first = found.bytes[0];
        std::memcpy(bytes, &first, 4);
#ifdef MIDSPAN_SIGNS_APART
        int8_t below[4];
        const int32_t signs = found.below[0];
        std::memcpy(below, &signs, 4);
        for (int j = 0; j < 4; ++j) out.push_back(below[j] ? -int64_t(bytes[j]) : bytes[j]);
#else
        for (int j = 0; j < 4; ++j) out.push_back(MIDDLE ? int64_t(bytes[j]) - MIDDLE : int64_t(int8_t(bytes[j])));
#endif
    }
    return out;
}

// Rows [count, k]: the first is zeros, the next two have the largest numbers, the others are random.
std::vector<float> rows_of(int64_t count, int64_t k, Random& random) {
    std::vector<float> x = random.normals(count * k);
    for (int64_t i = 0; i < std::min<int64_t>(count, 3) * k; ++i) x[i] = i < k ? 0 : i < 2 * k ? 3 : -3;
    return x;
}

void products() {
    Random random(1);
    double rounding = 0, gates = 0;
    int64_t wrong = 0;
    for (int64_t k : {64, 192, 256, 1024}) {
        const Matrix matrix(2 * PANEL, k, random), up(2 * PANEL, k, random);
        const Packed packed(matrix), both(beside(matrix, up));
        for (int64_t count = 1; count <= 20; ++count) {
            const std::vector<float> x = rows_of(count, k, random);
            std::vector<uint8_t> bytes(count * row_bytes(k));
            std::vector<float> top(count), out(count * matrix.n), inner(count * matrix.n);
            for (int64_t r = 0; r < count; ++r) top[r] = quantise(&x[r * k], k, &bytes[r * row_bytes(k)]);
            product(packed.product, bytes.data(), count, out.data());
            gated(both.product, bytes.data(), count, top.data(), true, inner.data());
            for (int64_t r = 0; r < count; ++r) {
                const std::vector<int64_t> row = numbers(&bytes[r * row_bytes(k)], k);
                for (int64_t i = 0; i < k; ++i) {
                    rounding = more(rounding, std::fabs(row[i] - (top[r] > 0 ? x[r * k + i] * 127.0 / top[r] : 0)));
                }
                for (int64_t n = 0; n < matrix.n; ++n) {
                    int64_t sum = 0, other = 0;
                    for (int64_t i = 0; i < k; ++i) {
                        sum += row[i] * matrix.weight[n * k + i], other += row[i] * up.weight[n * k + i];
                    }
                    wrong += out[r * matrix.n + n] != float(sum) * matrix.scale[n];
                    const double gate = sum * double(matrix.scale[n]) * top[r];
                    const double upper = other * double(up.scale[n]) * top[r];
                    const double apart = inner[r * matrix.n + n] - reference::gelu(gate) * upper;
                    gates = more(gates, std::fabs(apart) / (std::fabs(upper) * std::max(1.0, std::fabs(gate)) + 1e-30));
                }
            }
        }
    }
    // Half a step, plus the roundings of scale and product at 127.
    report("bytes of rows, in steps", rounding, 0.5 + 2 * 127 * ULP);
    report("products that are not exact, of 1 to 20 rows", wrong, 0);
    report("gated products", gates, 2e-6);
}

// A bfloat16 as a float.
float wide(uint16_t half) {
    const uint32_t bits = uint32_t(half) << 16;
    float out;
    std::memcpy(&out, &bits, sizeof out);
    return out;
}

// Weights in four bits [n, k]: `weight` has their numbers; packed as kernels/nibbles.py does.
struct FourBits {
    std::vector<double> weight;
    std::vector<int8_t> bytes;
    std::vector<uint16_t> groups;
    Product product;

    FourBits(int64_t n, int64_t k, Random& random) : weight(n * k), bytes(n * k / 2), groups(2 * n * k / GROUPED) {
        for (uint16_t& one : groups) {
            const float value = random.normal();
            uint32_t bits;
            std::memcpy(&bits, &value, sizeof bits);
            one = bits >> 16;
        }
        for (int64_t row = 0; row < n; ++row) {
            const int64_t panel = row / PANEL, column = row % PANEL, of_register = column / LANES, lane = column % LANES;
            for (int64_t i = 0; i < k; ++i) {
                // The first two rows are as large and as small as codes can be.
                const int64_t code = row < 2 ? 15 * (1 - row) : random.below(16);
                const int64_t step = (panel * k / 4 + i / 4) * (PANEL / 2);
                bytes[(step + of_register / 2 * LANES + lane) * 4 + i % 4] |= code << (of_register % 2 * 4);
                const uint16_t* by = &groups[(panel * k / GROUPED + i / GROUPED) * 2 * PANEL + column];
                weight[row * k + i] = code * double(wide(by[0])) + wide(by[PANEL]);
            }
        }
        product = {bytes.data(), nullptr, nullptr, groups.data(), n, k};
    }
};

// The numbers of a grouped row, in double precision: bytes, and what each stands for.
struct GroupedRow {
    std::vector<int64_t> bytes;
    std::vector<double> numbers;

    GroupedRow(const uint8_t* row, int64_t k) {
        for (int64_t i = 0; i < k; ++i) {
            const uint32_t four = signed_four(row, i / 4 * 4)[0];
            bytes.push_back(int8_t(four >> (i % 4 * 8)));
            numbers.push_back(bytes.back() * double(largest_of(behind(row, k, i / GROUPED * GROUPED))[0]) / 127);
        }
    }
};

// Products of grouped rows with weights [n, k] in either form, which have these numbers.
struct Grouped {
    double rounding = 0, worst = 0;
    int64_t sums = 0;

    void check(const Product& p, const std::vector<double>& weight, Random& random) {
        const int64_t n = p.n, k = p.k, step = grouped_bytes(k);
        for (int64_t count = 1; count <= 20; ++count) {
            std::vector<float> x = rows_of(count, k, random);
            // One number of a row is far larger than the others, which its group alone then rounds more.
            for (int64_t r = 3; r < count; ++r) x[r * k + 5] = 300;
            std::vector<uint8_t> bytes(count * step);
            std::vector<float> out(count * n);
            for (int64_t r = 0; r < count; ++r) quantise_grouped(&x[r * k], k, &bytes[r * step]);
            panels_of(p, bytes.data(), count, 0, n / PANEL, [&](int row, int64_t panel, const Floats* values) {
                for (int c = 0; c < WIDE; ++c) store(&out[row * n + panel * PANEL + c * LANES], values[c]);
            });
            for (int64_t r = 0; r < count; ++r) {
                const GroupedRow row(&bytes[r * step], k);
                round_off(row, &x[r * k], &bytes[r * step], k);
                for (int64_t one = 0; one < n; ++one) {
                    double exact = 0, whole = 1e-30;
                    for (int64_t i = 0; i < k; ++i) {
                        exact += weight[one * k + i] * row.numbers[i];
                        // What is added: codes and offsets apart, each at most 15 times a scale of some ones.
                        const double most = p.groups == nullptr ? std::fabs(weight[one * k + i]) : 16 * 4;
                        whole += most * std::fabs(row.numbers[i]);
                    }
                    worst = more(worst, std::fabs(out[r * n + one] - exact) / whole);
                }
            }
        }
    }

private:
    void round_off(const GroupedRow& row, const float* x, const uint8_t* bytes, int64_t k) {
        for (int64_t begin = 0; begin < k; begin += GROUPED) {
            const double top = largest_of(behind(bytes, k, begin))[0];
            int64_t sum = 0;
            for (int64_t i = begin; i < begin + GROUPED; ++i) {
                rounding = more(rounding, std::fabs(row.bytes[i] - (top > 0 ? x[i] * 127.0 / top : 0)));
                sum += row.bytes[i];
            }
            sums += sum != sum_of(behind(bytes, k, begin))[0];
        }
    }
};

void grouped() {
    Random random(9);
    Grouped eight, four;
    for (int64_t k : {32, 96, 256, 1024}) {
        const Matrix matrix(2 * PANEL, k, random);
        const Packed packed(matrix);
        std::vector<double> weight(matrix.n * k);
        // A column's scale has the rows' 1 / STEPS in it.
        for (size_t i = 0; i < weight.size(); ++i) weight[i] = matrix.weight[i] * double(matrix.scale[i / k]) * 127;
        Product product = packed.product;
        product.start = nullptr;
        eight.check(product, weight, random);
        const FourBits nibbles(2 * PANEL, k, random);
        four.check(nibbles.product, nibbles.weight, random);
    }
    report("bytes of grouped rows, in steps", eight.rounding, 0.5 + 2 * 127 * ULP);
    report("sums of groups that are wrong", eight.sums, 0);
    // A sum for each group, its scale and conversion, and a column's scale.
    report("products of grouped rows with int8 weights, of 1 to 20 rows", eight.worst, (1024.0 / GROUPED + 4) * ULP);
    report("products of grouped rows with four-bit weights", four.worst, (1024.0 / GROUPED + 6) * ULP);
}

void norms() {
    Random random(2);
    double worst = 0;
    for (int64_t size : {32, 96, 256, 1024}) {
        const std::vector<float> x = random.normals(size, 0.5, 3), scale = random.normals(size, 1, 0.2);
        std::vector<float> out(size);
        norm(x.data(), scale.data(), size, 1e-6f, out.data());
        worst = more(worst, far(out.data(), reference::norm(reference::row_of(x.data(), size), scale.data(), 1e-6)));
    }
    // A sum of squares in LANES parts has size / LANES roundings, which the root halves, and LANES to add the parts.
    report("norms", worst, (1024.0 / LANES + LANES) * ULP);
}

// Attends with `rows` queries to keys of the cache and own keys; returns the largest error of a row.
template <int SIDES>
double attended(int64_t rows, int64_t before, int64_t own, bool by_row, bool masked, Random& random) {
    const int64_t size = 4 * 2 * LANES, count = before + own, step = SIDES * LANES, first = before / 2;
    const std::vector<float> q = random.normals(rows * size, 0, 0.3), k = random.normals(count * size);
    const std::vector<float> v = random.normals(count * size);
    std::vector<float> queries(size * step), room(count * step), out(size * step);
    for (int64_t r = 0; r < rows; ++r) {
        for (int64_t d = 0; d < size; ++d) queries[d * step + r] = q[r * size + d];
    }
    const int64_t of_key = by_row ? rows + 16 : 1;
    std::vector<uint8_t> at((count - first) * of_key + 16 + LANES);
    for (uint8_t& one : at) one = random.below(3) > 0;
    const Mask mask{at.data(), first, of_key, by_row};
    attend<SIDES>(
        queries.data(), {k.data(), v.data(), before}, {&k[before * size], &v[before * size], own},
        masked ? &mask : nullptr, size, rows, room.data(), out.data());
    double worst = 0;
    for (int64_t r = 0; r < rows; ++r) {
        std::vector<bool> seen(count, true);
        for (int64_t key = first; masked && key < count; ++key) seen[key] = at[(key - first) * of_key + by_row * r];
        Rows keys, values;
        for (int64_t key = 0; key < count; ++key) {
            keys.push_back(reference::row_of(&k[key * size], size));
            values.push_back(reference::row_of(&v[key * size], size));
        }
        std::vector<float> mine(size);
        for (int64_t d = 0; d < size; ++d) mine[d] = out[d * step + r];
        const Row exact = reference::attend(reference::row_of(&q[r * size], size), keys, values, seen);
        worst = more(worst, far(mine.data(), exact));
    }
    return worst;
}

void attention() {
    Random random(3);
    double worst = 0;
    for (int64_t rows : {1, 2, 3, LANES - 1, LANES}) {
        for (int64_t own : {1, 5, 40}) {
            for (int kind = 0; kind < 3; ++kind) {
                worst = more(worst, attended<1>(rows, 21, own, kind == 1, kind > 0, random));
                worst = more(worst, attended<2>(LANES + rows, 21, own, kind == 1, kind > 0, random));
            }
        }
    }
    // Scores are sums of 8 * LANES products, at most 10 in size; exp makes their roundings relative. Then 61 keys are
    // summed.
    report("attention, over the cache and its own keys", worst, (10 * 8 * LANES + 61) * ULP);
}

}  // namespace

int main() {
    functions();
    products();
    grouped();
    norms();
    attention();
    readings();
    vocabulary();
    return failures > 0;
}
