// Biases and values of kept rows, and the keys that reference queries attend to.

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "compress/golden_baselines.h"
#include "compress/golden_compare.h"
#include "compress/refit.h"
#include "restkv/compress.h"
#include "restkv/stages.h"

namespace restkv {
namespace {

using testing::GoldenCase;

bool given(const GoldenCase& golden, const char* name) {
  return golden.params().contains(name) && !golden.params().at(name).is_null();
}

/// The case's queries, keys and values; all queries see all keys.
LayerObservation observe(const GoldenCase& golden) {
  LayerObservation layer;
  layer.keys = golden.heads("k");
  layer.values = golden.heads("v");
  layer.queries = golden.heads("q");
  const size_t queries = golden.params().value("n_queries", layer.queries.rows);
  layer.repeat_queries = layer.queries.slice_rows(0, queries);
  return layer;
}

/// Settings of the authors' solver.
FitSettings settings_of(const GoldenCase& golden) {
  const Json& params = golden.params();
  FitSettings settings{.near_rows = false, .guarded = false};
  settings.fit_bias = params.value("beta_method", std::string("nnls")) != "zero";
  settings.fit_values = params.at("c2_method").get<std::string>() == "lsq";
  settings.least_bias = given(golden, "log_lower") ? params.at("log_lower").get<double>()
                                                   : -std::numeric_limits<double>::infinity();
  settings.most_bias = given(golden, "log_upper") ? params.at("log_upper").get<double>()
                                                  : std::numeric_limits<double>::infinity();
  settings.steps = params.at("nnls_iters").get<int>();
  if (params.value("solver", std::string("lstsq")) == "cholesky") {
    settings.value_ridge = params.at("ridge_lambda").get<double>();
  }
  settings.mean_scale = params.value("ridge_scale", std::string()) == "frobenius";
  return settings;
}

/// Attention of some queries to all keys of a head, in float64.
struct ExactTargets {
  ExactTargets(Matrix<const float> queries, Matrix<const float> keys, Matrix<const float> values)
      : outputs(queries.rows * values.cols) {
    const double scale = 1.0 / std::sqrt(static_cast<double>(keys.cols));
    std::vector<double> z(keys.rows);
    for (size_t i = 0; i < queries.rows; ++i) {
      for (size_t j = 0; j < keys.rows; ++j) {
        z[j] = 0;
        for (size_t c = 0; c < keys.cols; ++c) z[j] += double{queries.row(i)[c]} * keys.row(j)[c];
        z[j] *= scale;
      }
      largest.push_back(*std::ranges::max_element(z));
      double sum = 0;
      std::vector<double> out(values.cols, 0.0);
      for (size_t j = 0; j < keys.rows; ++j) {
        const double e = std::exp(z[j] - largest.back());
        sum += e;
        for (size_t c = 0; c < values.cols; ++c) out[c] += e * values.row(j)[c];
      }
      lse.push_back(largest.back() + std::log(sum));
      for (size_t c = 0; c < values.cols; ++c) {
        outputs[i * values.cols + c] = static_cast<float>(out[c] / sum);
      }
    }
  }

  std::vector<double> largest, lse;
  std::vector<float> outputs;
};

std::vector<float> rows_of(Matrix<const float> from, const std::vector<int32_t>& rows) {
  std::vector<float> result;
  for (const int32_t row : rows) {
    const auto values = from.row_span(static_cast<size_t>(row));
    result.insert(result.end(), values.begin(), values.end());
  }
  return result;
}

/// `actual` against one head of an array, relative to the head's largest magnitude.
void expect_near(const std::vector<float>& actual, const float* expected, double relative,
                 const std::string& what) {
  double largest = 0;
  for (size_t i = 0; i < actual.size(); ++i) {
    largest = std::max(largest, std::abs(double{expected[i]}));
  }
  for (size_t i = 0; i < actual.size(); ++i) {
    ASSERT_NEAR(actual[i], expected[i], relative * largest) << what << ", element " << i;
  }
}

/// Fits the rows in the order `columns[h]`; the arrays of the case are in the order `kept[h]`.
void expect_fit(const GoldenCase& golden, const std::vector<std::vector<int32_t>>& columns,
                const std::vector<std::vector<int32_t>>& kept) {
  const LayerObservation layer = observe(golden);
  // With fewer queries than rows large values cancel each other: `out` of the authors' float64
  // results, rounded to float32, is off by 8.2e-5.
  const bool few = golden.params().contains("n_queries");
  for (size_t h = 0; h < layer.keys.heads; ++h) {
    const size_t r = layer.repeat_queries.rows;
    const size_t dim = layer.values.dim;
    const std::vector<float> keys = rows_of(layer.keys.head(h), columns[h]);
    const std::vector<float> values = rows_of(layer.values.head(h), columns[h]);
    const size_t t = columns[h].size();
    FitSettings settings = settings_of(golden);
    const ExactTargets targets(layer.repeat_queries.head(h), layer.keys.head(h),
                               layer.values.head(h));
    settings.offsets = targets.largest;
    settings.start = golden.matrix("u0").row_span(h).subspan(0, t);
    const RefittedRows fit =
        fit_rows({.queries = layer.repeat_queries.head(h),
                  .lse = targets.lse,
                  .outputs = {targets.outputs.data(), r, dim}},
                 {.keys = {keys.data(), t, dim}, .values = {values.data(), t, dim}}, settings);

    std::vector<float> bias;
    std::vector<float> fitted;
    for (const int32_t row : kept[h]) {
      const auto place =
          static_cast<size_t>(std::ranges::find(columns[h], row) - columns[h].begin());
      bias.push_back(fit.bias[place]);
      fitted.insert(fitted.end(), &fit.values[place * dim], &fit.values[place * dim] + dim);
    }
    expect_near(fitted, golden.heads("c2_f64").row(h, 0), 1e-6, "values");
    if (settings.fit_bias) {
      expect_near(bias, golden.matrix("beta_f64").row(h), 1e-6, "biases");
    }
    // Attention of other queries to what is kept, with its biases.
    const Matrix<const float> tests = golden.heads("q_test").head(h);
    const std::vector<float> kept_keys = rows_of(layer.keys.head(h), kept[h]);
    for (size_t i = 0; i < tests.rows; ++i) {
      std::vector<double> out(dim, 0.0);
      double sum = 0;
      for (size_t j = 0; j < t; ++j) {
        double z = 0;
        for (size_t c = 0; c < dim; ++c) z += double{tests.row(i)[c]} * kept_keys[j * dim + c];
        const double e = std::exp(z / std::sqrt(static_cast<double>(dim)) + double{bias[j]});
        sum += e;
        for (size_t c = 0; c < dim; ++c) out[c] += e * fitted[j * dim + c];
      }
      for (size_t c = 0; c < dim; ++c) {
        ASSERT_NEAR(out[c] / sum, golden.heads("out").row(h, i)[c], few ? 1e-4 : 1e-5)
            << "out " << i;
      }
    }
  }
}

}  // namespace

void run_attention_matching(GoldenCase& golden) {
  const Json& params = golden.params();
  CompressionOptions options = default_options("attention-matching");
  options.sinks = 0;
  options.window = 8;  // is for times without a repeat pass
  options.budget = params.at("t").get<int>();
  options.own["key_score"] = params.at("score_method").get<std::string>();
  if (params.value("pooling", std::string()) == "avgpool") {
    options.pooling = Pooling::kAverage;
    options.kernel = params.at("kernel").get<int>();
  }
  SelectionTrace trace;
  const Selection selection = select_tokens(observe(golden), options, &trace);
  testing::expect_keeps(golden, selection);
  testing::expect_close(trace.smoothed, golden.matrix("raw"));
  std::vector<std::vector<int32_t>> columns = selection.keep;  // in falling order of their scores
  for (size_t h = 0; h < columns.size(); ++h) {
    const float* scores = golden.matrix("raw").row(h);
    std::ranges::stable_sort(columns[h], [&](int32_t a, int32_t b) {
      return scores[static_cast<size_t>(a)] > scores[static_cast<size_t>(b)];
    });
  }
  expect_fit(golden, columns, selection.keep);
}

void run_refit(GoldenCase& golden) {
  const auto t = golden.params().at("t").get<ptrdiff_t>();
  const std::vector<int32_t>& given_rows = golden.ints("sel");
  const auto all = static_cast<ptrdiff_t>(golden.shape("sel").at(1));
  std::vector<std::vector<int32_t>> rows;
  for (auto head = given_rows.begin(); head != given_rows.end(); head += all) {
    rows.emplace_back(head, head + t);
  }
  expect_fit(golden, rows, rows);
}

}  // namespace restkv
