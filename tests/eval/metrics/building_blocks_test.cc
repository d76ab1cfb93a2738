#include <gtest/gtest.h>

#include <string>

#include "eval/metrics/difflib.h"
#include "eval/metrics/golden_files.h"
#include "eval/metrics/porter.h"
#include "eval/metrics/qa_f1.h"
#include "eval/metrics/rouge_l.h"
#include "eval/metrics/rouge_score.h"
#include "eval/metrics/text.h"
#include "eval/suites/longbench/metrics.h"

// What the metrics are made of, against the published packages.
namespace restkv::eval {
namespace {

using restkv::testing::metrics_directory;
using testing::read_json;

constexpr double kTolerance = 1e-9;

TEST(Difflib, RatiosOfRealLinesOfCode) {
  const Json golden = read_json(metrics_directory() / "difflib_ratio.json");
  ASSERT_FALSE(golden.at("cases").empty());
  for (const Json& pair : golden.at("cases")) {
    const auto a = pair.at("a").get<std::string>();
    const auto b = pair.at("b").get<std::string>();
    EXPECT_NEAR(difflib_ratio(text::decode(a), text::decode(b)), pair.at("ratio").get<double>(),
                kTolerance)
        << a << "\n"
        << b;
    EXPECT_EQ(fuzz_ratio(a, b), pair.at("fuzz_ratio")) << a << "\n" << b;
  }
}

TEST(QaF1, ExactMatchIsOfNormalisedWordsInTheirOrder) {
  EXPECT_TRUE(exact_match("The Ada  Lovelace!", "ada lovelace"));
  EXPECT_TRUE(exact_match("", "the"));
  EXPECT_FALSE(exact_match("Lovelace Ada", "Ada Lovelace"));
  EXPECT_FALSE(exact_match("Ada", "Ada Lovelace"));
}

TEST(Porter, StemsOfRealWords) {
  const Json golden = read_json(metrics_directory() / "porter_stems.json");
  ASSERT_FALSE(golden.at("stems").empty());
  for (const auto& [word, stem] : golden.at("stems").items()) EXPECT_EQ(porter_stem(word), stem);
}

TEST(Rouge, RealSummaries) {
  const Json golden = read_json(metrics_directory() / "rouge_long.json");
  ASSERT_FALSE(golden.at("cases").empty());
  for (const Json& pair : golden.at("cases")) {
    const auto prediction = pair.at("hyp").get<std::string>();
    const auto reference = pair.at("ref").get<std::string>();
    EXPECT_NEAR(rouge_l(prediction, reference),
                pair.at("rouge_pkg").at("rouge-l").at("f").get<double>(), kTolerance);
    EXPECT_NEAR(rouge_1(prediction, reference, true),
                pair.at("rouge_score_stem").at("rouge1").get<double>(), kTolerance);
    EXPECT_NEAR(rouge_1(prediction, reference, false),
                pair.at("rouge_score_nostem").at("rouge1").get<double>(), kTolerance);
    EXPECT_NEAR(rouge_lsum(prediction, reference),
                pair.at("rouge_score_nostem").at("rougeLsum").get<double>(), kTolerance);
  }
}

}  // namespace
}  // namespace restkv::eval
