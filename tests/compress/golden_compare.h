#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "restkv/selection.h"
#include "restkv/views.h"
#include "support/golden.h"

namespace restkv::testing {

/// Kept positions of every head from an array [heads, kept].
std::vector<std::vector<int32_t>> kept_rows(const GoldenCase& golden, const std::string& name);

/// The selection is the array `keep`.
void expect_keeps(const GoldenCase& golden, const Selection& selection);

/// Each number is within `relative` of the expected one plus `of_largest` of its row's largest
/// magnitude, for the columns that `actual` has.
void expect_close(const std::vector<std::vector<float>>& actual, Matrix<const float> expected,
                  float relative = 1e-4F, float of_largest = 1e-6F);

/// The budget of a kvpress case, whose `compression_ratio` is the share of n positions that goes.
int press_budget(const Json& arguments, size_t n);

}  // namespace restkv::testing
