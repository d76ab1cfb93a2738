// Calibration of a random model: what it predicts is what the method kvzip-plus scores, as far as
// it says so.

#include "calibrate/calibrator.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <limits>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/bytes.h"
#include "engine/prefill.h"
#include "restkv/error.h"
#include "restkv/stages.h"
#include "support/refusal.h"
#include "support/repeat_sinks.h"
#include "support/tiny_model.h"

namespace restkv {
namespace {

using ::testing::HasSubstr;
using testing::refusal;
using testing::ScoreSink;
using testing::text;

const RepeatPrompt kPrompt{.first = {1, 2, 3}, .later = {4, 5}, .answer = {6}, .prefix = {7, 8, 9}};

std::vector<LayerScores> scores_of(const Model& model, const CompressionOptions& options,
                                   std::span<const int32_t> tokens) {
  std::vector<int32_t> prompt = kPrompt.prefix;
  prompt.insert(prompt.end(), tokens.begin(), tokens.end());
  Workspace workspace(model);
  SparsePrefill dense(model.config());
  ScoreSink sink(model, options, kPrompt);
  Prefill(model, workspace, prompt, sink, dense).run({});
  return std::move(sink.scores);
}

class CalibratorTest : public ::testing::Test {
 protected:
  void make(testing::TinyModel tiny = {}) {
    tiny.write(folder_.file("tiny.gguf"));
    model_.emplace(folder_.file("tiny.gguf"));
  }
  static std::string saved(const Calibrator& calibrator) {
    std::string bytes;
    ByteWriter out([&](std::string_view part) { bytes += part; });
    calibrator.save(out);
    return bytes;
  }

  testing::TemporaryFolder folder_;
  std::optional<Model> model_;
};

/// R^2 of what `kvzap` predicts for texts, for every layer and KV head, against kvzip-plus.
std::vector<double> fit_of(const Model& model, const std::string& statistics,
                           const std::vector<std::vector<int32_t>>& texts) {
  CompressionOptions target = paper_options("kvzip-plus");
  target.budget = 5;
  CompressionOptions predicted = default_options("kvzap");
  predicted.statistics = statistics;
  predicted.window = 0;
  predicted.budget = 5;
  const size_t layers = model.config().global_layers();
  const size_t heads = model.config().kv_heads;
  std::vector<std::vector<double>> y(layers * heads), errors(layers * heads);
  for (const std::vector<int32_t>& tokens : texts) {
    const auto expected = scores_of(model, target, tokens);
    const auto actual = scores_of(model, predicted, tokens);
    EXPECT_EQ(actual.size(), layers);
    for (size_t l = 0; l < layers; ++l) {
      for (size_t h = 0; h < heads; ++h) {
        for (size_t i = 4; i < tokens.size() + 3; ++i) {  // beyond prefix and sinks
          const double e = std::log(double{expected[l].rows().row(h)[i]});
          y[l * heads + h].push_back(e);
          errors[l * heads + h].push_back(e - double{actual[l].rows().row(h)[i]});
        }
      }
    }
  }
  std::vector<double> fit;
  for (size_t i = 0; i < y.size(); ++i) {
    double mean = 0;
    for (const double x : y[i]) mean += x / double(y[i].size());
    double total = 0;
    double rest = 0;
    for (const double x : y[i]) total += (x - mean) * (x - mean);
    for (const double x : errors[i]) rest += x * x;
    fit.push_back(1.0 - rest / total);
  }
  return fit;
}

TEST_F(CalibratorTest, SaysHowWellItPredictsWhatKvzipPlusScores) {
  testing::TinyModel windowed;
  windowed.architecture = "gemma3";
  windowed.layers = 4;
  windowed.window = 32;
  windowed.window_pattern = 2;
  for (const testing::TinyModel& tiny : {testing::TinyModel(), windowed}) {
    make(tiny);
    const std::vector<std::vector<int32_t>> texts{text(600, 1), text(300, 2)};  // of two blocks
    Calibrator calibrator(*model_, kPrompt);
    for (const auto& tokens : texts) calibrator.add(tokens);
    EXPECT_EQ(calibrator.texts(), 2U);
    EXPECT_EQ(calibrator.tokens(), 900U);
    const Calibration result = calibrator.result();
    const std::string file = folder_.file(tiny.architecture + ".json");
    std::ofstream(file) << calibration_text(result);
    const std::vector<double> fit = fit_of(*model_, file, texts);
    ASSERT_EQ(result.scores.size(), model_->config().global_layers());
    for (size_t l = 0; l < result.scores.size(); ++l) {
      for (size_t h = 0; h < result.scores[l].heads(); ++h) {
        const double said{result.scores[l].fit.at(h)};
        EXPECT_NEAR(said, fit[l * result.scores[l].heads() + h], 2e-3) << "layer " << l;
        EXPECT_GT(said, 0.1) << "layer " << l;
      }
    }
    // The same from the file.
    const auto read = read_calibration(file);
    EXPECT_EQ(read->model, model_->config().fingerprint);
    EXPECT_EQ(read->tokens, 900U);
    for (size_t l = 0; l < result.scores.size(); ++l) {
      EXPECT_EQ(read->scores[l].weights, result.scores[l].weights);
      EXPECT_EQ(read->scores[l].bias, result.scores[l].bias);
      EXPECT_EQ(read->scores[l].fit, result.scores[l].fit);
      EXPECT_EQ(read->queries[l].back().magnitude, result.queries[l].back().magnitude);
    }
  }
}

TEST_F(CalibratorTest, GoesOnFromSavedSumsAsIfItHadNotStopped) {
  make();
  Calibrator whole(*model_, kPrompt);
  for (const size_t seed : {1, 2, 3}) whole.add(text(150, seed));
  Calibrator first(*model_, kPrompt);
  first.add(text(150, 1));
  const std::string bytes = saved(first);
  Calibrator rest(*model_, kPrompt);
  ByteReader in("sums", bytes);
  rest.load(in);
  EXPECT_TRUE(in.at_end());
  EXPECT_EQ(rest.texts(), 1U);
  for (const size_t seed : {2, 3}) rest.add(text(150, seed));
  EXPECT_EQ(calibration_text(rest.result()), calibration_text(whole.result()));
  EXPECT_EQ(saved(rest), saved(whole));

  testing::TinyModel wide;
  wide.width = 96;
  wide.write(folder_.file("wide.gguf"));
  const Model other(folder_.file("wide.gguf"));
  Calibrator of_other(other, kPrompt);
  ByteReader again("sums", bytes);
  EXPECT_THAT(refusal(ErrorCode::kInput, [&] { of_other.load(again); }),
              HasSubstr("do not fit the model"));
}

TEST_F(CalibratorTest, RefusesWhatItCannotUse) {
  testing::TinyModel small;
  small.context = 100;
  make(small);
  Calibrator calibrator(*model_, kPrompt);
  // Prefix, request and answer stand around a text and its repetition.
  EXPECT_EQ(calibrator.longest_text(), (100U - 3 - 10 - 1) / 2);
  calibrator.add(text(calibrator.longest_text(), 1));
  EXPECT_THAT(refusal(ErrorCode::kInvalidArgument,
                      [&] { calibrator.add(text(calibrator.longest_text() + 1, 1)); }),
              HasSubstr("must have 16 to 43"));
  EXPECT_THAT(refusal(ErrorCode::kInvalidArgument, [&] { calibrator.add({}); }),
              HasSubstr("0 tokens"));
  EXPECT_THAT(
      refusal(ErrorCode::kInvalidArgument, [&] { calibrator.add(std::vector<int32_t>(20, 300)); }),
      HasSubstr("300"));
  EXPECT_THAT(refusal(ErrorCode::kInterrupted,
                      [&] { calibrator.add(text(20, 1), [](double) { return false; }); }),
              HasSubstr("interrupted"));
  RepeatPrompt long_words = kPrompt;
  long_words.first.resize(200);
  EXPECT_THAT(
      refusal(ErrorCode::kInvalidArgument, [&] { Calibrator(*model_, std::move(long_words)); }),
      HasSubstr("context of 100"));

  testing::TinyModel windows;
  windows.window = 32;
  make(windows);
  EXPECT_THAT(refusal(ErrorCode::kInvalidArgument, [&] { Calibrator(*model_, kPrompt); }),
              HasSubstr("sliding window"));
}

TEST_F(CalibratorTest, RefusesAModelThatComputesNaN) {
  testing::TinyModel broken;
  broken.edit_tensor = [](testing::TinyTensor& tensor) {
    if (tensor.name == "blk.0.ffn_down.weight") {
      tensor.values[3] = std::numeric_limits<float>::quiet_NaN();
    }
    return true;
  };
  make(broken);
  Calibrator calibrator(*model_, kPrompt);
  EXPECT_THAT(refusal(ErrorCode::kInput, [&] { calibrator.add(text(80, 1)); }),
              ::testing::AllOf(HasSubstr("tiny.gguf"), HasSubstr("layer 1"), HasSubstr("NaN")));
}

}  // namespace
}  // namespace restkv
