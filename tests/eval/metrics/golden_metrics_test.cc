#include <fmt/format.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>
#include <exception>
#include <filesystem>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "base/json.h"
#include "eval/metrics/agreement.h"
#include "eval/metrics/golden_files.h"
#include "eval/metrics/pass_at_k.h"
#include "eval/metrics/qa_f1.h"
#include "eval/metrics/rouge_l.h"
#include "eval/suites/infinitebench/metrics.h"
#include "eval/suites/longbench/metrics.h"
#include "eval/suites/multiple_choice/metrics.h"
#include "eval/suites/niah/metrics.h"
#include "eval/suites/perplexity/metrics.h"
#include "eval/suites/ruler/metrics.h"

// All cases of metrics.json, or of the file that RESTKV_METRICS_FILE names: the same form, any
// number of cases. A metric, or an expected value, that this test does not know is a failure.
namespace restkv::eval {
namespace {

using Strings = std::vector<std::string>;

/// Computes every expected value of a case: field name to value. A JSON null is "no score".
using Check = std::function<Json(const Json&)>;

std::string text(const Json& golden, const char* field) {
  return golden.at(field).get<std::string>();
}

Json optional_score(std::optional<double> score) { return score ? Json(*score) : Json(); }

template <class Metric>
Check best_over_answers(Metric metric) {
  return [metric](const Json& golden) {
    double best = 0;
    for (const Json& answer : golden.at("ground_truths")) {
      best = std::max(best, metric(golden, text(golden, "prediction"), answer.get<std::string>()));
    }
    return Json{{"expected", best}};
  };
}

Strings all_classes(const Json& golden) {
  return golden.at("all_classes").is_null() ? Strings{} : golden.at("all_classes").get<Strings>();
}

Json code_sim(const Json& golden) {
  const auto best = [&](CodeSimilarity similarity) {
    double most = 0;
    for (const Json& answer : golden.at("ground_truths")) {
      most = std::max(
          most, code_sim_score(text(golden, "prediction"), answer.get<std::string>(), similarity));
    }
    return most;
  };
  return {{"expected", best(CodeSimilarity::kDifflib)},
          {"expected_if_levenshtein_installed", best(CodeSimilarity::kLevenshtein)}};
}

Json longbench_scorer(const Json& golden) {
  const LongBenchDataset& dataset = longbench_dataset(text(golden, "dataset"));
  const auto predictions = golden.at("predictions").get<Strings>();
  std::vector<double> scores;
  for (size_t i = 0; i < predictions.size(); ++i) {
    scores.push_back(longbench_score(
        dataset, predictions[i], golden.at("answers").at(i).get<Strings>(), all_classes(golden)));
  }
  return {{"expected", longbench_dataset_score(scores)}};
}

Check ruler(double (*metric)(std::string_view, std::span<const std::string>)) {
  return [metric](const Json& golden) {
    const auto predictions = golden.at("predictions").get<Strings>();
    std::vector<double> scores;
    for (size_t i = 0; i < predictions.size(); ++i) {
      scores.push_back(metric(predictions[i], golden.at("references").at(i).get<Strings>()));
    }
    return Json{{"expected", ruler_task_score(scores)}};
  };
}

Json niah(const Json& golden) {
  const std::string response = text(golden, "response");
  return {{"expected_rouge1_times10", niah_rouge_score(response, text(golden, "needle"))},
          {"expected_heatmap_overlap",
           niah_overlap(response, "eat a sandwich and sit in Dolores Park on a sunny day.")}};
}

Check infinitebench(const std::string& task) {
  return [task](const Json& golden) {
    const auto score = [&](InfiniteBenchScorer scorer) {
      return optional_score(
          infinitebench_score(task, text(golden, "prediction"), golden.at("label"), scorer));
    };
    Json scores = {{"expected", score(InfiniteBenchScorer::kRestKv)},
                   {"expected_original_infinitebench", score(InfiniteBenchScorer::kOriginal)}};
    // Stated only where the programs differ.
    if (!golden.contains("expected_original_infinitebench")) {
      EXPECT_EQ(scores["expected"], scores["expected_original_infinitebench"]);
    }
    return scores;
  };
}

Json multiple_choice(const Json& golden) {
  std::vector<char> greedy;
  for (const Json& flag : golden.at("is_greedy")) greedy.push_back(flag.get<bool>() ? 1 : 0);
  const auto score = multiple_choice_score(golden.at("choices").get<Strings>(),
                                           golden.at("loglikelihoods").get<std::vector<double>>(),
                                           greedy, golden.at("gold").get<size_t>());
  return {{"expected",
           {{"acc", score.acc},
            {"acc_norm", score.acc_norm},
            {"acc_bytes", score.acc_bytes},
            {"exact_match", score.exact_match}}}};
}

Json perplexity(const Json& golden) {
  double log_likelihood = 0;
  double units = 0;
  for (const Json& item : golden.at("items")) {
    log_likelihood += item.at(0).get<double>();
    units += item.at(1).get<double>();
  }
  return {{"expected",
           {{"weighted_perplexity", perplexity_per(log_likelihood, units)},
            {"bits_per_byte", bits_per(log_likelihood, units)}}}};
}

std::vector<int> column(const Json& pairs, size_t which) {
  std::vector<int> values;
  for (const Json& pair : pairs) values.push_back(pair.at(which).get<int>());
  return values;
}

Json mcc_and_f1(const Json& golden) {
  const auto gold = column(golden.at("gold_pred"), 0);
  const auto predicted = column(golden.at("gold_pred"), 1);
  return {{"expected",
           {{"mcc", matthews_correlation(gold, predicted)}, {"f1", f1_of_class(gold, predicted)}}}};
}

Json rolling(const Json& golden) {
  std::vector<int32_t> tokens;  // "100,101,..."
  for (int32_t i = 0; i < golden.at("n_tokens").get<int32_t>(); ++i) tokens.push_back(100 + i);
  Json whole = Json::array();
  Json disjoint = Json::array();
  for (const RollingWindow& window : rolling_windows(tokens, golden.at("prefix_token").get<int>(),
                                                     golden.at("max_seq_len").get<size_t>(),
                                                     golden.at("context_len").get<size_t>())) {
    std::vector<int32_t> fed = window.context;
    fed.insert(fed.end(), window.scored.begin(), window.scored.end() - 1);
    whole.push_back({fed, window.scored});
    disjoint.push_back({window.context, window.scored});
  }
  return {{"windows", whole}, {"disjoint", disjoint}};
}

std::map<std::string, Check> checks() {
  std::map<std::string, Check> all = {
      {"longbench.qa_f1",
       best_over_answers([](const Json&, const std::string& prediction, const std::string& answer) {
         return qa_f1(prediction, answer);
       })},
      {"longbench.rouge_l",
       best_over_answers([](const Json&, const std::string& prediction, const std::string& answer) {
         return rouge_l(prediction, answer);
       })},
      {"longbench.classification",
       best_over_answers(
           [](const Json& golden, const std::string& prediction, const std::string& answer) {
             return classification_score(prediction, answer, all_classes(golden));
           })},
      {"longbench.count",
       best_over_answers([](const Json&, const std::string& prediction, const std::string& answer) {
         return count_score(prediction, answer);
       })},
      {"longbench.retrieval",
       best_over_answers([](const Json&, const std::string& prediction, const std::string& answer) {
         return retrieval_score(prediction, answer);
       })},
      {"longbench.code_sim", code_sim},
      {"longbench.scorer", longbench_scorer},
      {"ruler.string_match_all", ruler(string_match_all)},
      {"ruler.string_match_part", ruler(string_match_part)},
      {"ruler.postprocess",
       [](const Json& golden) {
         return Json{{"expected", ruler_postprocess(text(golden, "prediction"))}};
       }},
      {"niah", niah},
      {"humaneval.pass_at_k",
       [](const Json& golden) {
         return Json{
             {"expected", pass_at_k(golden.at("n").get<size_t>(), golden.at("c").get<size_t>(),
                                    golden.at("k").get<size_t>())}};
       }},
      {"lm_eval.multiple_choice", multiple_choice},
      {"lm_eval.perplexity_aggregation", perplexity},
      {"lm_eval.mcc_f1_binary", mcc_and_f1},
      {"lm_eval.cb_macro_f1",
       [](const Json& golden) {
         return Json{{"expected",
                      cb_f1(column(golden.at("pred_gold"), 1), column(golden.at("pred_gold"), 0))}};
       }},
      {"lm_eval.rolling_windows", rolling},
  };
  for (const std::string_view task : infinitebench_tasks()) {
    all.emplace(fmt::format("infinitebench.{}", task), infinitebench(std::string(task)));
  }
  return all;
}

bool is_expected_value(const std::string& field) {
  return field.starts_with("expected") || field == "windows" || field == "disjoint";
}

/// Numbers to 1e-9, everything else exactly.
void expect_same(const Json& actual, const Json& expected, const std::string& where) {
  if (expected.is_object()) {
    for (const auto& [field, value] : expected.items()) {
      ASSERT_TRUE(actual.is_object() && actual.contains(field)) << where << " ." << field;
      expect_same(actual[field], value, fmt::format("{} .{}", where, field));
    }
  } else if (expected.is_number() && actual.is_number()) {
    EXPECT_NEAR(actual.get<double>(), expected.get<double>(), 1e-9) << where;
  } else {
    EXPECT_EQ(actual, expected) << where;
  }
}

std::filesystem::path golden_file() {
  if (const char* named = std::getenv("RESTKV_METRICS_FILE")) return named;
  return restkv::testing::metrics_directory() / "metrics.json";
}

TEST(GoldenMetrics, AllCasesOfTheFile) {
  const Json golden = testing::read_json(golden_file());
  const auto known = checks();
  size_t compared = 0;
  for (const auto& [metric, cases] : golden.items()) {
    if (metric.starts_with('_')) continue;
    const auto check = known.find(metric);
    if (check == known.end()) {
      ADD_FAILURE() << "no implementation of metric " << metric;
      continue;
    }
    for (size_t i = 0; i < cases.size(); ++i) {
      Json actual;
      try {
        actual = check->second(cases[i]);
      } catch (const std::exception& error) {
        ADD_FAILURE() << metric << "[" << i << "]: " << error.what();
        continue;
      }
      for (const auto& [field, expected] : cases[i].items()) {
        if (!is_expected_value(field)) continue;
        expect_same(actual, Json{{field, expected}}, fmt::format("{}[{}]", metric, i));
        ++compared;
      }
    }
  }
  EXPECT_GT(compared, 0u);
  RecordProperty("compared", static_cast<int>(compared));
}

TEST(GoldenMetrics, InfiniteBenchsRealPredictions) {
  const auto directory = restkv::testing::metrics_directory();
  const Json golden = testing::read_json(directory / "infinitebench_preds_scores.json");
  EXPECT_EQ(golden["tasks"].size(), infinitebench_tasks().size());
  for (const auto& [task, expected] : golden["tasks"].items()) {
    const auto records = testing::read_jsonl(directory / "infinitebench_preds" / (task + ".jsonl"));
    ASSERT_EQ(records.size(), expected["restkv"].size());
    double sum = 0;
    for (size_t i = 0; i < records.size(); ++i) {
      const auto score = [&](InfiniteBenchScorer scorer) {
        return optional_score(infinitebench_score(task, text(records[i], "prediction"),
                                                  records[i].at("ground_truth"), scorer));
      };
      const std::string where = fmt::format("{}[{}]", task, i);
      const Json restkv = score(InfiniteBenchScorer::kRestKv);
      expect_same(restkv, expected["restkv"][i], where);
      expect_same(score(InfiniteBenchScorer::kOriginal), expected["original"][i],
                  where + " original");
      sum += restkv.is_null() ? 0 : restkv.get<double>();
    }
    EXPECT_NEAR(sum / static_cast<double>(records.size()), expected["mean_restkv"].get<double>(),
                1e-9)
        << task;
  }
}

}  // namespace
}  // namespace restkv::eval
