// Finch numbers kept tokens anew: the recorded keys are those of compact positions.

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "model/ops.h"
#include "support/golden.h"

namespace restkv {
namespace {

TEST(GoldenPositionsTest, KeysMoveToTheirNewPositionsAsInTheReference) {
  testing::GoldenTally tally;
  for (testing::GoldenCase& golden : testing::golden_cases()) {
    if (golden.family() != "finch") continue;
    golden.load();
    if (!golden.has("k_keep")) continue;  // kept where they were
    SCOPED_TRACE(golden.name());
    const Heads<const float> keys = golden.heads("k");
    const Heads<const float> expected = golden.heads("k_keep");
    const float* end = expected.data + expected.heads * expected.rows * expected.dim;
    const float largest = std::abs(*std::max_element(
        expected.data, end, [](float a, float b) { return std::abs(a) < std::abs(b); }));
    RopeTable rope({.dim = keys.dim, .base = golden.params().at("rope_theta").get<double>()}, {},
                   RopeStyle::kHalves);
    for (size_t h = 0; h < expected.heads; ++h) {
      for (size_t j = 0; j < expected.rows; ++j) {
        const auto position = static_cast<size_t>(golden.ints("keep")[h * expected.rows + j]);
        std::vector<float> key(keys.row(h, position), keys.row(h, position) + keys.dim);
        rope.move({key.data(), 1, 1, keys.dim}, position, j);
        for (size_t c = 0; c < keys.dim; ++c) {
          ASSERT_NEAR(key[c], expected.row(h, j)[c], 2e-5F * largest) << h << ", " << j;
        }
      }
    }
    tally.compared(golden.method());
  }
  tally.finish();
}

}  // namespace
}  // namespace restkv
