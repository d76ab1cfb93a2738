// kvzap in sequences: scores of prompts and of decoded tokens, and what its threshold leaves of
// them step by step.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "compress/calibration.h"
#include "engine/decode.h"
#include "engine/evict.h"
#include "restkv/engine.h"
#include "restkv/error.h"
#include "restkv/session.h"
#include "support/refusal.h"
#include "support/repeat_sinks.h"
#include "support/statistics.h"
#include "support/tiny_model.h"

namespace restkv {
namespace {

using ::testing::HasSubstr;
using testing::text;

constexpr size_t kPrompt = 90;
constexpr size_t kAll = 150;

/// Keeps what the first layer reads, [tokens, C], which depends on the tokens alone.
class FirstInputs : public LayerSink {
 public:
  void see(size_t layer, size_t first, Heads<const float>, Matrix<const float> read) override {
    if (layer > 0) return;
    inputs.resize((first + read.rows) * read.cols);
    std::copy_n(read.data, read.rows * read.cols, &inputs[first * read.cols]);
  }
  std::vector<float> inputs;
};

class KvzapSequenceTest : public ::testing::Test {
 protected:
  KvzapSequenceTest() { make({}); }

  void make(const testing::TinyModel& tiny) {
    const std::string name = folder_.file(std::to_string(models_++) + ".gguf");
    tiny.write(name);
    model_.emplace(name);
    const ModelConfig& c = model_->config();
    statistics_ = name + ".json";
    testing::StatisticsFile::of(c.global_layers(), c.query_heads, c.rope.dim / 2, c.kv_heads,
                                c.width)
        .write(statistics_);
  }
  [[nodiscard]] CompressionOptions options(int budget) const {
    CompressionOptions options = default_options("kvzap");
    options.statistics = statistics_;
    options.budget = budget;
    options.window = 8;
    return options;
  }
  [[nodiscard]] Sequence begin(const CompressionOptions& compression, size_t interval) const {
    Sequence sequence;
    sequence.options.compression = compression;
    sequence.options.kv_type = KvType::kF32;
    sequence.options.interval = interval;
    begin_sequence(*model_, sequence);
    return sequence;
  }
  void read(Sequence& sequence, std::span<const int32_t> tokens) {
    Workspace workspace(*model_);
    SparsePrefill sparse(model_->config());
    SequenceSink sink(*model_, workspace, sequence, tokens.size());
    Prefill prefill(*model_, workspace, tokens, sink, sparse);
    prefill.run({});
    prefill.last_logits(sequence.logits);
  }
  /// W x + b of the first layer, [token].
  [[nodiscard]] std::vector<double> predicted(std::span<const int32_t> tokens, size_t head) const {
    FirstInputs sink;
    Workspace workspace(*model_);
    SparsePrefill sparse(model_->config());
    Prefill(*model_, workspace, tokens, sink, sparse).run({});
    const auto calibration = read_calibration(statistics_);
    const ScoreMap& map = calibration->scores.at(0);
    std::vector<double> scores;
    for (size_t i = 0; i < tokens.size(); ++i) {
      double sum{map.bias[head]};
      for (size_t c = 0; c < map.width; ++c) {
        sum += double{map.weights[head * map.width + c]} * double{sink.inputs[i * map.width + c]};
      }
      scores.push_back(sum);
    }
    return scores;
  }

  testing::TemporaryFolder folder_;
  size_t models_ = 0;
  std::optional<Model> model_;
  std::string statistics_;
};

TEST_F(KvzapSequenceTest, DecodedTokensGetTheScoresOfAPrompt) {
  testing::TinyModel windowed;
  windowed.architecture = "gemma3";
  windowed.layers = 4;
  windowed.window = 32;
  windowed.window_pattern = 2;
  for (const testing::TinyModel& tiny : {testing::TinyModel(), windowed}) {
    make(tiny);
    const std::vector<int32_t> tokens = text(kAll, 1);
    Sequence whole = begin(options(1000), 0);
    read(whole, tokens);
    Sequence parts = begin(options(1000), 0);
    read(parts, std::span(tokens).first(40));
    read(parts, std::span(tokens).subspan(40, kPrompt - 40));
    Workspace workspace(*model_);
    for (size_t i = kPrompt; i < kAll; ++i) decode(*model_, workspace, tokens[i], parts);
    for (size_t layer = 0; layer < model_->config().layers; ++layer) {
      if (model_->config().windows[layer] > 0) {
        EXPECT_TRUE(parts.layers[layer].watched.empty());
        continue;
      }
      const Matrix<float> expected = whole.layers[layer].watched.at(0).all();
      const Matrix<float> actual = parts.layers[layer].watched.at(0).all();
      ASSERT_EQ(actual.cols, kAll);
      ASSERT_EQ(expected.cols, kAll);
      for (size_t h = 0; h < expected.rows; ++h) {
        for (size_t i = 0; i < kAll; ++i) {
          ASSERT_NEAR(actual.row(h)[i], expected.row(h)[i], 2e-2) << layer << " " << h << " " << i;
        }
      }
    }
  }
}

TEST_F(KvzapSequenceTest, TheThresholdFollowsTheWindowTokenByToken) {
  const std::vector<int32_t> tokens = text(kAll, 2);
  CompressionOptions compression = options(1000);
  compression.own["threshold"] = -6.0;
  const size_t sinks = 4;
  std::vector<std::vector<double>> scores;
  for (size_t h = 0; h < model_->config().kv_heads; ++h) scores.push_back(predicted(tokens, h));
  for (const char* allocation : {"global", "uniform"}) {
    compression.allocation = allocation;
    Sequence sequence = begin(compression, 1);
    Workspace workspace(*model_);
    size_t dropped = 0;
    const auto expect_kept = [&](size_t read) {
      for (size_t h = 0; h < scores.size(); ++h) {
        std::vector<int32_t> expected;
        for (size_t i = 0; i < read; ++i) {
          ASSERT_GT(std::abs(scores[h][i] + 6.0), 1e-4) << "too near to tell";
          if (i < sinks || i + 8 >= read || scores[h][i] >= -6.0) {
            expected.push_back(static_cast<int32_t>(i));
          }
        }
        const auto kept = sequence.cache.positions(0, h);
        ASSERT_EQ(std::vector<int32_t>(kept.begin(), kept.end()), expected) << read;
        dropped += read - expected.size();
      }
    };
    read(sequence, std::span(tokens).first(kPrompt));
    expect_kept(kPrompt);
    for (size_t i = kPrompt; i < kAll; ++i) {
      decode(*model_, workspace, tokens[i], sequence);
      expect_kept(i + 1);
      // In every layer a row stays exactly as long as its own score allows.
      for (size_t layer = 0; layer < model_->config().layers; ++layer) {
        const Matrix<float> numbers = sequence.layers[layer].watched.at(0).all();
        const size_t group = numbers.rows / scores.size();
        for (size_t h = 0; h < scores.size(); ++h) {
          const size_t rows = sequence.cache.positions(layer, h).size();
          ASSERT_LE(rows, numbers.cols);
          const float* row = numbers.row(h * group) + (numbers.cols - rows);
          for (size_t j = sinks; j + 8 < rows; ++j) ASSERT_GE(row[j], -6.0F) << layer << " " << j;
        }
      }
    }
    EXPECT_GT(dropped, 1000U);
  }
}

TEST_F(KvzapSequenceTest, EveryFewTokensAreLookedAtWithoutABudgetThatFills) {
  const std::vector<int32_t> tokens = text(kAll, 3);
  CompressionOptions compression = options(1000);
  compression.own["threshold"] = -6.0;
  const auto rows = [](const Sequence& sequence) { return sequence.cache.positions(0, 0).size(); };
  for (const size_t interval : {size_t{0}, size_t{16}}) {
    Sequence sequence = begin(compression, interval);
    Workspace workspace(*model_);
    read(sequence, std::span(tokens).first(kPrompt));
    for (size_t i = kPrompt; i < kAll; ++i) {
      const size_t before = rows(sequence);
      decode(*model_, workspace, tokens[i], sequence);
      if (interval == 0 || (i + 1) % interval != 0) {
        EXPECT_EQ(rows(sequence), before + 1);
      } else {
        EXPECT_LT(rows(sequence), before + 1) << i;
      }
    }
  }
}

TEST_F(KvzapSequenceTest, SavedSessionsGoOnAlike) {
  const Engine engine(*model_);
  const std::vector<int32_t> tokens = text(kAll, 4);
  SessionOptions session_options;
  session_options.compression = options(1000);
  session_options.compression.own["threshold"] = -6.0;
  session_options.interval = 5;
  Session session(engine, session_options);
  session.append(std::span(tokens).first(kPrompt));
  for (size_t i = kPrompt; i < 108; ++i) session.append(tokens[i]);
  const std::string file = folder_.file("saved");
  session.save(file);
  Session loaded = Session::load(engine, file);
  EXPECT_EQ(loaded.options().compression.own, session_options.compression.own);
  Session fork = session.fork();
  for (size_t i = 108; i < kAll; ++i) {
    const auto logits = session.append(tokens[i]);
    EXPECT_TRUE(std::ranges::equal(loaded.append(tokens[i]), logits));
    EXPECT_TRUE(std::ranges::equal(fork.append(tokens[i]), logits));
  }
  for (size_t layer = 0; layer < model_->config().layers; ++layer) {
    for (size_t h = 0; h < model_->config().kv_heads; ++h) {
      EXPECT_TRUE(std::ranges::equal(loaded.cache().positions(layer, h),
                                     session.cache().positions(layer, h)));
    }
  }
}

TEST_F(KvzapSequenceTest, AnEngineCutsPromptsWithinTheBudgetByTheThreshold) {
  Engine engine(*model_);
  const std::vector<int32_t> tokens = text(kPrompt, 2);
  for (const char* allocation : {"global", "uniform"}) {
    CacheRequest request;
    request.options = options(1000);
    request.options.allocation = allocation;
    request.options.own["threshold"] = -6.0;
    engine.prefill(tokens, {&request, 1});
    Sequence sequence = begin(request.options, 0);
    read(sequence, tokens);
    size_t kept = 0;
    for (size_t layer = 0; layer < model_->config().layers; ++layer) {
      for (size_t h = 0; h < model_->config().kv_heads; ++h) {
        EXPECT_TRUE(std::ranges::equal(request.cache.positions(layer, h),
                                       sequence.cache.positions(layer, h)));
        kept += request.cache.positions(layer, h).size();
      }
    }
    EXPECT_LT(kept, model_->config().layers * model_->config().kv_heads * kPrompt);
  }
}

TEST_F(KvzapSequenceTest, RefusesWhatDoesNotFit) {
  SessionOptions session_options;
  session_options.compression = options(100);
  session_options.compression.allocation = "uniform";
  session_options.compact_positions = true;
  Session fine(*model_, session_options);
  session_options.compression.own["threshold"] = -6.0;
  EXPECT_THAT(
      testing::refusal(ErrorCode::kInvalidArgument, [&] { Session(*model_, session_options); }),
      HasSubstr("threshold none"));
  // What was learned about one model is of no use for another of the same shape.
  Calibration calibration = *read_calibration(statistics_);
  calibration.model = model_->config().fingerprint;
  calibration.description = model_->description();
  std::ofstream(statistics_) << calibration_text(calibration);
  session_options = {};
  session_options.compression = options(100);
  Session own(*model_, session_options);
  testing::TinyModel other;
  other.seed = 7;
  const std::string statistics = statistics_;
  make(other);
  session_options.compression.statistics = statistics;
  EXPECT_THAT(testing::refusal(ErrorCode::kInput, [&] { Session(*model_, session_options); }),
              HasSubstr("another model"));
}

}  // namespace
}  // namespace restkv
