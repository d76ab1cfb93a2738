#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <map>
#include <string>
#include <vector>

#include "eval/metrics/golden_files.h"
#include "eval/suites/longbench/metrics.h"
#include "restkv/error.h"

namespace restkv::eval {
namespace {

using restkv::testing::metrics_directory;
using restkv::testing::read_json;
using restkv::testing::read_jsonl;
using Strings = std::vector<std::string>;

constexpr double kTolerance = 1e-9;

// Real outputs of a model on 187 records, scored by the published program.
TEST(LongBench, ScoresRealPredictionsAsPublished) {
  const Json golden = read_json(metrics_directory() / "longbench_preds_scores.json");
  std::map<std::string, std::vector<double>> by_category;
  double total = 0;
  for (const LongBenchDataset& dataset : longbench_datasets()) {
    const std::string name(dataset.name);
    SCOPED_TRACE(name);
    const Json& expected = golden["datasets"][name];
    const auto records = read_jsonl(metrics_directory() / "longbench_preds" / (name + ".jsonl"));
    ASSERT_EQ(records.size(), expected["per_record"].size());
    const Json& last_classes = records.back()["all_classes"];
    const auto classes = last_classes.is_null() ? Strings{} : last_classes.get<Strings>();

    std::vector<double> scores;
    std::vector<std::vector<double>> by_length(kLongBenchBins.size());
    for (size_t i = 0; i < records.size(); ++i) {
      const Json& record = records[i];
      ASSERT_EQ(record["_id"], expected["ids"][i]);
      scores.push_back(longbench_score(dataset, record["pred"].get<std::string>(),
                                       record["answers"].get<Strings>(), classes));
      EXPECT_NEAR(scores.back(), expected["per_record"][i].get<double>(), kTolerance)
          << record["_id"];
      by_length.at(longbench_bin(record["length"].get<size_t>())).push_back(scores.back());
    }
    EXPECT_NEAR(longbench_dataset_score(scores), expected["score"].get<double>(), kTolerance);
    for (size_t bin = 0; bin < kLongBenchBins.size(); ++bin) {
      const Json& wanted = expected["score_by_length"][std::string(kLongBenchBins.at(bin))];
      EXPECT_EQ(by_length[bin].empty(), wanted.is_null());
      if (!wanted.is_null()) {
        EXPECT_NEAR(longbench_dataset_score(by_length[bin]), wanted.get<double>(), kTolerance);
      }
    }
    by_category[std::string(dataset.category)].push_back(longbench_dataset_score(scores));
    total += longbench_dataset_score(scores);
  }
  EXPECT_NEAR(total / 16, golden["macro_average_16"].get<double>(), kTolerance);
  ASSERT_EQ(by_category.size(), golden["category_mean"].size());
  for (const auto& [category, scores] : by_category) {
    double sum = 0;
    for (const double score : scores) sum += score;
    EXPECT_NEAR(sum / static_cast<double>(scores.size()),
                golden["category_mean"][category].get<double>(), kTolerance)
        << category;
  }
}

TEST(LongBench, RefusesWhatItDoesNotKnow) {
  EXPECT_THROW((void)longbench_dataset("hotpot"), Error);
  EXPECT_THROW((void)retrieval_score("3", "paragraph three"), Error);
  EXPECT_THAT([] { (void)longbench_dataset("hotpot"); },
              ::testing::ThrowsMessage<Error>(::testing::HasSubstr("hotpotqa")));
}

TEST(LongBench, WithoutAnswersOrRecords) {
  EXPECT_EQ(longbench_score(longbench_dataset("qasper"), "x", {}, {}), 0);
  EXPECT_TRUE(std::isnan(longbench_dataset_score({})));
}

TEST(LongBench, ClassificationSkipsTheClassAfterARemovedOne) {
  // "City" and "Cit" are parts of "City hall"; "Cit" stays because the removal of "City" moves it
  // under the loop's feet.
  const Strings classes = {"City", "Cit", "City hall"};
  EXPECT_DOUBLE_EQ(classification_score("City hall", "City hall", classes), 0.5);
}

std::string numbered_words(size_t n) {
  std::string text;
  for (size_t i = 0; i < n; ++i) text += fmt::format("w{} ", i);
  return text;
}

// Measured with the package under Python 3.11 where LongBench's eval.py calls it.
TEST(LongBench, TheOfficialRecursionLimitIsAnOption) {
  const auto& dataset = longbench_dataset("gov_report");
  const auto score = [&](size_t words, bool limit) {
    const std::string text = numbered_words(words);
    return longbench_score(dataset, text, Strings{text}, {}, {.official_recursion_limit = limit});
  };
  EXPECT_NEAR(score(989, true), 0.999999995, kTolerance);
  EXPECT_EQ(score(990, true), 0);
  EXPECT_NEAR(score(990, false), 0.999999995, kTolerance);
}

}  // namespace
}  // namespace restkv::eval
