#include "compress/golden_compare.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "restkv/compress.h"

namespace restkv::testing {

std::vector<std::vector<int32_t>> kept_rows(const GoldenCase& golden, const std::string& name) {
  const auto& flat = golden.ints(name);
  const auto width = static_cast<ptrdiff_t>(golden.shape(name).at(1));
  std::vector<std::vector<int32_t>> rows;
  for (auto it = flat.begin(); it != flat.end(); it += width) rows.emplace_back(it, it + width);
  return rows;
}

void expect_keeps(const GoldenCase& golden, const Selection& selection) {
  const auto expected = kept_rows(golden, "keep");
  ASSERT_EQ(selection.keep.size(), expected.size());
  for (size_t h = 0; h < expected.size(); ++h) EXPECT_EQ(selection.keep[h], expected[h]) << h;
}

void expect_close(const std::vector<std::vector<float>>& actual, Matrix<const float> expected,
                  float relative, float of_largest) {
  ASSERT_EQ(actual.size(), expected.rows);
  for (size_t h = 0; h < expected.rows; ++h) {
    ASSERT_LE(actual[h].size(), expected.cols);
    ASSERT_FALSE(actual[h].empty());
    float largest = 0.0F;
    for (const float x : expected.row_span(h)) largest = std::max(largest, std::abs(x));
    for (size_t j = 0; j < actual[h].size(); ++j) {
      const float e = expected.row(h)[j];
      ASSERT_NEAR(actual[h][j], e, relative * std::abs(e) + of_largest * largest)
          << "head " << h << ", position " << j;
    }
  }
}

int press_budget(const Json& arguments, size_t n) {
  return kvpress_budget(n, arguments.at("compression_ratio").get<double>());
}

}  // namespace restkv::testing
