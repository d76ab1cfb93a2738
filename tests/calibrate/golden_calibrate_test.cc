// What calibration gathers and fits, against the published programs: targets and inputs of kvzap on
// a tiny Llama, its regression, and the means of queries of TriAttention.
//
// The published targets come from one pass over prompt and repetition with a softmax over all
// tokens. restkv fits the scores of its own repeat pass; what both are made of (inputs, queries,
// keys, values) is compared here, by computing the published targets slowly.

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "calibrate/calibrator.h"
#include "calibrate/ridge.h"
#include "engine/prefill.h"
#include "model/weights.h"
#include "support/golden.h"
#include "support/golden_model.h"

namespace restkv {
namespace {

using testing::GoldenCase;

void expect_near(const std::vector<double>& actual, const std::vector<float>& expected) {
  ASSERT_EQ(actual.size(), expected.size());
  float largest = 0;
  for (const float x : expected) largest = std::max(largest, std::abs(x));
  for (size_t i = 0; i < actual.size(); ++i) {
    ASSERT_NEAR(actual[i], expected[i], 2e-5 * double{largest}) << i;
  }
}

void expect_ridge(const GoldenCase& golden) {
  const Matrix<const float> x = golden.matrix("x");
  const Matrix<const float> y = golden.matrix("y");
  RidgeSums sums(x.cols, y.cols);
  sums.add(x, y);
  const RidgeSums::Fit fit = sums.solve(golden.params().at("alpha").get<double>());
  expect_near(fit.weights, golden.floats("w_f64"));
  expect_near(fit.bias, golden.floats("b_f64"));
  std::vector<double> predicted;
  for (size_t t = 0; t < y.cols; ++t) {
    for (size_t i = 0; i < x.rows; ++i) {
      double sum = fit.bias[t];
      for (size_t c = 0; c < x.cols; ++c) sum += fit.weights[t * x.cols + c] * double{x.row(i)[c]};
      predicted.push_back(sum);
    }
  }
  expect_near(predicted, golden.floats("pred"));
}

/// Computes the published targets of every layer: [layer][KV head][prompt position].
class TargetSink : public LayerSink {
 public:
  TargetSink(const Model& model, size_t tokens, std::vector<size_t> prompt,
             std::vector<size_t> repeat)
      : model_(model), prompt_(prompt), repeat_(repeat) {
    const ModelConfig& c = model.config();
    queries_.resize(c.query_heads * tokens * c.key_dim);
    inputs.resize(c.layers, std::vector<float>(tokens * c.width));
    all_ = {queries_.data(), c.query_heads, tokens, c.key_dim};
  }

  void see(size_t layer, size_t first, Heads<const float> queries,
           Matrix<const float> read) override {
    for (size_t i = 0; i < read.rows; ++i) {
      std::ranges::copy(read.row_span(i), &inputs[layer][(first + i) * read.cols]);
      for (size_t h = 0; h < queries.heads; ++h) {
        std::copy_n(queries.row(h, i), queries.dim, all_.row(h, first + i));
      }
    }
  }

  void take(size_t layer, LayerKv& kv, LayerObserver&) override {
    const ModelConfig& c = model_.config();
    const OutputFactor& factor = model_.output_factor(layer);
    const size_t group = c.query_heads / c.kv_heads;
    for (size_t kv_head = 0; kv_head < c.kv_heads; ++kv_head) {
      std::vector<double> largest(prompt_[1] - prompt_[0], 0.0);
      for (size_t h = kv_head * group; h < (kv_head + 1) * group; ++h) {
        const Matrix<const float> r = factor.head(h);
        std::vector<double> norms;  // ||W_h v||
        for (size_t i = prompt_[0]; i < prompt_[1]; ++i) {
          double squares = 0;
          for (size_t a = 0; a < r.rows; ++a) {
            double sum = 0;
            for (size_t b = 0; b < r.cols; ++b) {
              sum += double{r.row(a)[b]} * double{kv.values().row(kv_head, i)[b]};
            }
            squares += sum * sum;
          }
          norms.push_back(std::sqrt(squares));
        }
        for (size_t t = repeat_[0]; t < repeat_[1]; ++t) {
          std::vector<double> weights;
          double total = 0;
          for (size_t i = 0; i <= t; ++i) {
            double logit = 0;
            for (size_t d = 0; d < c.key_dim; ++d) {
              logit += double{all_.row(h, t)[d]} * double{kv.keys().row(kv_head, i)[d]};
            }
            weights.push_back(std::exp(logit * double{c.attention_scale}));
            total += weights.back();
          }
          double squares = 0;
          for (size_t channel = 0; channel < c.width; ++channel) {
            const double x{inputs[layer][t * c.width + channel]};
            squares += x * x;
          }
          for (size_t i = prompt_[0]; i < prompt_[1]; ++i) {
            const size_t at = i - prompt_[0];
            largest[at] =
                std::max(largest[at], weights[i] / total * norms[at] / std::sqrt(squares));
          }
        }
      }
      for (const double x : largest) targets.push_back(std::log(x));
    }
  }

  std::vector<double> targets;
  std::vector<std::vector<float>> inputs;  ///< [layer]: [tokens, C].

 private:
  const Model& model_;
  std::vector<size_t> prompt_, repeat_;
  std::vector<float> queries_;
  Heads<float> all_;
};

void expect_targets(const GoldenCase& golden) {
  const testing::GoldenModel model(golden);
  const std::vector<int32_t>& tokens = golden.ints("ids");
  const auto prompt = golden.params().at("prompt").get<std::vector<size_t>>();
  TargetSink sink(*model, tokens.size(), prompt,
                  golden.params().at("repeat").get<std::vector<size_t>>());
  Workspace workspace(*model);
  SparsePrefill dense((*model).config());
  // The outputs of all tokens are asked for, so that no layer leaves any out.
  Prefill(*model, workspace, tokens, sink, dense, tokens.size()).run({});
  expect_near(sink.targets, golden.floats("targets"));
  const size_t width = (*model).config().width;
  const std::vector<float>& inputs = sink.inputs[1];
  const std::vector<double> hidden(inputs.begin() + static_cast<ptrdiff_t>(prompt[0] * width),
                                   inputs.begin() + static_cast<ptrdiff_t>(prompt[1] * width));
  expect_near(hidden, golden.floats("hidden_layer1"));
}

void expect_means(const GoldenCase& golden) {
  const testing::GoldenModel model(golden);
  Calibrator calibrator(*model, {});
  calibrator.add(golden.ints("ids"));
  const Calibration result = calibrator.result();
  std::vector<double> real, imaginary, magnitude;
  for (const auto& layer : result.queries) {
    for (const QueryMeans& head : layer) {
      real.insert(real.end(), head.real.begin(), head.real.end());
      imaginary.insert(imaginary.end(), head.imaginary.begin(), head.imaginary.end());
      magnitude.insert(magnitude.end(), head.magnitude.begin(), head.magnitude.end());
    }
  }
  expect_near(real, golden.floats("q_mean_real"));
  expect_near(imaginary, golden.floats("q_mean_imag"));
  expect_near(magnitude, golden.floats("q_abs_mean"));
}

TEST(GoldenCalibrateTest, TargetsRegressionAndMeansMatchTheReferences) {
  testing::GoldenTally tally;
  for (GoldenCase& golden : testing::golden_cases()) {
    const std::string name = golden.name();
    const bool ridge = name.starts_with("kvzap.ridge.");
    const bool target = name.starts_with("kvzap.target.");
    if (!ridge && !target && !name.starts_with("triattention.calibrate.")) continue;
    SCOPED_TRACE(name);
    golden.load();
    if (ridge) {
      expect_ridge(golden);
    } else if (target) {
      expect_targets(golden);
    } else {
      expect_means(golden);
    }
    tally.compared(golden.method());
  }
  tally.finish();
}

}  // namespace
}  // namespace restkv
