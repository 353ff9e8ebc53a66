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

// Weights [n, k] in four bits, and as kernels/nibbles.py packs them; all numbers are ones that bfloat16 has.
struct FourBits {
    std::vector<int64_t> codes;
    std::vector<double> scale, offset;  // [n, k / GROUPED]
    std::vector<int8_t> weight;
    std::vector<uint16_t> groups;
    Product product;

    FourBits(int64_t n, int64_t k, Random& random) : codes(n * k), groups(2 * n * k / GROUPED) {
        // The first two rows are as large and as small as codes can be.
        for (int64_t i = 0; i < n * k; ++i) codes[i] = i < k ? 15 : i < 2 * k ? 0 : random.below(16);
        for (int64_t i = 0; i < n * k / GROUPED; ++i) {
            const int64_t row = i / (k / GROUPED), group = i % (k / GROUPED), panel = row / PANEL;
            uint16_t* to = &groups[2 * (panel * (k / GROUPED) + group) * PANEL + row % PANEL];
            scale.push_back(half(0.01 * (1 + 0.2 * random.normal()), to));
            offset.push_back(half(-0.08 * (1 + 0.2 * random.normal()), to + PANEL));
        }
        const auto code = [&](int64_t row, int64_t i) { return codes[row * k + i]; };
        for (int64_t panel = 0; panel < n / PANEL; ++panel) {
            for (int64_t i = 0; i < k; i += 4) {
                for (int64_t pair = 0; pair < WIDE; pair += 2) {
                    for (int64_t one = 0; one < 4 * LANES; ++one) {
                        const int64_t row = panel * PANEL + pair * LANES + one / 4, at = i + one % 4;
                        weight.push_back(int8_t(code(row, at) | code(row + LANES, at) << 4));
                    }
                }
            }
        }
        product = {weight.data(), nullptr, nullptr, groups.data(), n, k};
    }

    // Rounds a number to bfloat16, stores that, and returns it.
    static double half(float value, uint16_t* to) {
        uint32_t bits;
        std::memcpy(&bits, &value, sizeof bits);
        *to = bits >> 16, bits &= 0xffff0000;
        std::memcpy(&value, &bits, sizeof bits);
        return value;
    }
};

// The largest error of rows times weights in four bits, over the sizes of what is summed.
double four_bits(int64_t count, int64_t k, Random& random) {
    const int64_t n = 2 * PANEL;
    const FourBits weights(n, k, random);
    const Product& p = weights.product;
    const std::vector<float> x = rows_of(count, k, random);
    std::vector<uint8_t> bytes(count * row_bytes(p));
    std::vector<float> top(count), out(count * n);
    for (int64_t r = 0; r < count; ++r) top[r] = quantise(p, &x[r * k], &bytes[r * row_bytes(p)]);
    panels_of(p, bytes.data(), count, 0, n / PANEL, [&](int row, int64_t panel, const Floats* values) {
        for (int c = 0; c < WIDE; ++c) store(&out[row * n + panel * PANEL + c * LANES], values[c]);
    });
    double worst = 0;
    for (int64_t at = 0; at < count * n; ++at) {
        const int64_t r = at / n, row = at % n;
        const double steps = top[r] > 0 ? STEPS / double(top[r]) : 0;
        double exact = 0, size = 1e-30;
        for (int64_t i = 0; i < k; ++i) {
            const double number = int8_t(bytes[r * row_bytes(p) + i]);
            // As in `products`: half a step, plus the roundings of scale and product.
            const bool is_rounded = std::fabs(number - steps * x[r * k + i]) <= 0.5 + 2 * 127 * ULP;
            if (!is_rounded) return INFINITY;
            const int64_t group = (row * k + i) / GROUPED;
            const double product = number * weights.codes[row * k + i] * weights.scale[group];
            exact += (product + number * weights.offset[group]) / STEPS;
            size += (std::fabs(product) + std::fabs(number * weights.offset[group])) / STEPS;
        }
        worst = more(worst, std::fabs(out[at] - exact) / size);
    }
    return worst;
}

void nibbles() {
    Random random(4);
    double worst = 0;
    for (int64_t k : {32, 96, 256, 1024}) {
        for (int64_t count = 1; count <= 20; ++count) worst = more(worst, four_bits(count, k, random));
    }
    // Sums of nibbles are exact; each group has three roundings of its own, and one as it is added.
    report("products in four bits, of 1 to 20 rows", worst, (1024.0 / GROUPED + 4) * ULP);
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
    nibbles();
    norms();
    attention();
    readings();
    vocabulary();
    return failures > 0;
}
