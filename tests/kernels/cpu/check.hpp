// Shared by the checks: a line of output for each, and the distance of two rows.
#pragma once

#include <cstdio>

#include "reference.hpp"

constexpr double ULP = 1.0 / (1 << 23);  // of a float at 1

inline int failures = 0;

// Prints a check's line: its largest error and the largest that is allowed.
inline void report(const char* what, double worst, double most) {
    const bool good = worst <= most;  // never true of NaN
    std::printf("%s %-50s %.2e of %.2e\n", good ? "ok  " : "FAIL", what, worst, most);
    failures += !good;
}

// The larger one; NaN where one is.
inline double more(double a, double b) { return a > b || a != a ? a : b; }

// The distance between two rows, over the length of the exact one.
inline double far(const float* mine, const reference::Row& theirs) {
    double apart = 0, whole = 0;
    for (size_t i = 0; i < theirs.size(); ++i) {
        apart += (mine[i] - theirs[i]) * (mine[i] - theirs[i]);
        whole += theirs[i] * theirs[i];
    }
    return std::sqrt(apart / whole);
}

// readings.cpp and vocabulary.cpp
void readings();
void vocabulary();
