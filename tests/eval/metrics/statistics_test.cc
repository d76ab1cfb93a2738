#include "eval/metrics/statistics.h"

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "eval/metrics/agreement.h"
#include "eval/metrics/pass_at_k.h"
#include "eval/suites/multiple_choice/metrics.h"
#include "eval/suites/perplexity/metrics.h"
#include "restkv/error.h"

namespace restkv::eval {
namespace {

using Values = std::vector<double>;

TEST(Statistics, MeanAndItsStandardError) {
  // Sample standard deviation sqrt(5/3), over sqrt(4).
  EXPECT_DOUBLE_EQ(mean(Values{1, 2, 3, 4}), 2.5);
  EXPECT_NEAR(mean_standard_error(Values{1, 2, 3, 4}), std::sqrt(5.0 / 3) / 2, 1e-12);
  EXPECT_EQ(mean_standard_error(Values{7, 7}), 0);
  EXPECT_TRUE(std::isnan(mean({})));
  EXPECT_TRUE(std::isnan(mean_standard_error(Values{1})));
}

/// Scores of two methods: 0 or 1, with 30 % and 20 % of the samples won by one side only.
void correlated_scores(Values& a, Values& b) {
  for (int i = 0; i < 400; ++i) {
    a.push_back(i % 10 < 6 ? 1 : 0);
    b.push_back(i % 10 >= 3 && i % 10 < 8 ? 1 : 0);
  }
}

TEST(Statistics, BootstrapAgreesWithTheNormalApproximation) {
  Values a;
  Values b;
  correlated_scores(a, b);
  Values differences;
  for (size_t i = 0; i < a.size(); ++i) differences.push_back(a[i] - b[i]);
  const double half = 1.96 * mean_standard_error(differences);
  const Interval interval = paired_bootstrap(a, b);
  EXPECT_NEAR(interval.mean, 0.1, 1e-12);
  EXPECT_NEAR(interval.low, 0.1 - half, 0.1 * half);
  EXPECT_NEAR(interval.high, 0.1 + half, 0.1 * half);
  // Pairs that differ less have a narrower interval, although both sides vary as before.
  const Interval paired = paired_bootstrap(a, a);
  EXPECT_EQ(paired.low, 0);
  EXPECT_EQ(paired.high, 0);
}

TEST(Statistics, BootstrapDependsOnItsSeedOnly) {
  Values a;
  Values b;
  correlated_scores(a, b);
  const BootstrapOptions options = {.resamples = 200, .seed = 7};
  const Interval first = paired_bootstrap(a, b, options);
  const Interval again = paired_bootstrap(a, b, options);
  EXPECT_EQ(first.low, again.low);
  EXPECT_EQ(first.high, again.high);
  const Interval wide = paired_bootstrap(a, b, {.resamples = 200, .confidence = 0.99, .seed = 7});
  EXPECT_LT(wide.low, first.low);
  EXPECT_GT(wide.high, first.high);
}

TEST(Statistics, RefuseWhatHasNoAnswer) {
  const Values one = {1};
  const Values two = {1, 2};
  EXPECT_THROW((void)paired_bootstrap({}, {}), Error);
  EXPECT_THROW((void)paired_bootstrap(one, two), Error);
  EXPECT_THROW((void)paired_bootstrap(two, two, {.resamples = 0}), Error);
  EXPECT_THROW((void)paired_bootstrap(two, two, {.confidence = 1}), Error);
  EXPECT_THROW((void)paired_bootstrap(two, two, {.confidence = std::nan("")}), Error);
  EXPECT_THROW((void)pass_at_k(3, 4, 1), Error);
  EXPECT_THROW((void)pass_at_k(3, 1, 4), Error);
  EXPECT_THROW((void)pass_at_k(3, 1, 0), Error);
  const std::vector<int> classes = {0, 1};
  EXPECT_THROW((void)matthews_correlation(classes, {}), Error);
  EXPECT_THROW((void)f1_of_class(classes, {}), Error);
  const std::vector<std::string> choices = {"yes"};
  const std::vector<char> greedy = {1};
  EXPECT_THROW((void)multiple_choice_score(choices, one, greedy, 1), Error);
  EXPECT_THROW((void)multiple_choice_score(choices, two, greedy, 0), Error);
  EXPECT_THROW((void)multiple_choice_score({}, {}, {}, 0), Error);
  EXPECT_THROW((void)rolling_windows({}, 0, 4, 0), Error);
  EXPECT_THROW((void)rolling_windows({}, 0, 4, 5), Error);
}

TEST(Perplexity, WordsAreThePartsBetweenWhiteSpace) {
  EXPECT_EQ(perplexity_words("two  words"), 2u);
  EXPECT_EQ(perplexity_words(" at\u3000ends\n"), 4u);
  EXPECT_EQ(perplexity_words(""), 1u);
}

}  // namespace
}  // namespace restkv::eval
