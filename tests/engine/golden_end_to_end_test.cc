// The whole path (prefill, compression per layer, decoding over the kept rows) against the
// published code running a tiny Llama: the `e2e.*` golden cases. RESTKV_GOLDEN_DIR chooses other
// ones; the model may have any shape.

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <map>
#include <optional>
#include <string>

#include "restkv/engine.h"
#include "support/golden.h"
#include "support/golden_model.h"
#include "support/golden_options.h"
#include "support/tiny_model.h"

namespace restkv {
namespace {

using testing::GoldenCase;
using testing::GoldenModel;

TEST(GoldenEndToEndTest, LogitsTokensAndKeptPositionsEqualTheReference) {
  testing::GoldenTally tally;
  std::map<std::filesystem::path, GoldenModel> models;  // by config.json
  for (GoldenCase& golden : testing::golden_cases()) {
    if (!golden.runs_model() || golden.decodes()) continue;
    if (golden.family().starts_with("kvzip")) continue;  // repeat_test.cc
    if (golden.family() == "kvzap" || golden.name().starts_with("triattention.calibrate.")) {
      continue;  // calibrate_test
    }
    if (golden.family() != "e2e") {
      tally.left_out(golden, "no end-to-end test of " + golden.family());
      continue;
    }
    CacheRequest request;
    if (golden.method() == "full") {
      request.options = default_options("full");
    } else {
      std::string reason;
      const auto options = testing::golden_options(golden, reason);
      if (!options) {
        tally.left_out(golden, reason);
        continue;
      }
      request.options = *options;
    }
    SCOPED_TRACE(golden.name());
    golden.load();
    const Model& model = *models.try_emplace(golden.input("config.json"), golden).first->second;
    Engine engine(model);
    const std::vector<int32_t>& prompt = golden.ints("ids");
    request.kv_type = KvType::kF32;
    request.keep_selections = true;
    const std::vector<float> first = engine.prefill(prompt, {&request, 1});

    for (size_t layer = 0; layer < request.selections.size(); ++layer) {
      const std::string name = "keep_layer" + std::to_string(layer);
      if (golden.method() == "full") continue;
      const auto& expected = golden.ints(name);
      const size_t heads = golden.shape(name)[0];
      const size_t kept = golden.shape(name)[1];
      ASSERT_EQ(request.selections[layer].keep.size(), heads);
      for (size_t h = 0; h < heads; ++h) {
        const auto begin = expected.begin() + static_cast<std::ptrdiff_t>(h * kept);
        const std::vector<int32_t> rows(begin, begin + static_cast<std::ptrdiff_t>(kept));
        EXPECT_EQ(request.selections[layer].keep[h], rows) << name << " head " << h;
      }
    }

    const Matrix<const float> logits = golden.matrix("logits");
    const std::vector<int32_t>& tokens = golden.ints("tokens");
    std::span<const float> ours = first;
    for (size_t step = 0; step < logits.rows; ++step) {
      float worst = 0;
      for (size_t v = 0; v < logits.cols; ++v) {
        worst = std::max(worst, std::abs(ours[v] - logits.row(step)[v]));
      }
      EXPECT_LE(worst, 1e-3F) << "logits at step " << step;
      const auto best = std::max_element(ours.begin(), ours.end()) - ours.begin();
      ASSERT_EQ(best, tokens[step]) << "greedy token at step " << step;
      if (step + 1 < logits.rows) ours = engine.decode(tokens[step], request.cache);
    }

    if (golden.has("prefill_logits")) {
      const Matrix<const float> rows = golden.matrix("prefill_logits");
      const std::vector<int32_t>& which = golden.ints("prefill_rows");
      engine.score(prompt, [&](size_t begin, Matrix<const float> block) {
        for (size_t i = 0; i < which.size(); ++i) {
          const auto row = static_cast<size_t>(which[i]);
          if (row < begin || row >= begin + block.rows) continue;
          for (size_t v = 0; v < rows.cols; ++v) {
            ASSERT_NEAR(block.row(row - begin)[v], rows.row(i)[v], 1e-3) << "row " << row;
          }
        }
      });
    }
    tally.compared(golden.method());
  }
  tally.finish();
}

}  // namespace
}  // namespace restkv
