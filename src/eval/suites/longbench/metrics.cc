#include "eval/suites/longbench/metrics.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <utility>

#include "base/find_named.h"
#include "eval/metrics/difflib.h"
#include "eval/metrics/qa_f1.h"
#include "eval/metrics/rouge_l.h"
#include "eval/metrics/text.h"
#include "restkv/error.h"

namespace restkv::eval {
namespace {

using Metric = LongBenchMetric;

constexpr std::array<LongBenchDataset, 16> kDatasets = {{
    {"narrativeqa", "single_doc_qa", Metric::kQaF1, false},
    {"qasper", "single_doc_qa", Metric::kQaF1, false},
    {"multifieldqa_en", "single_doc_qa", Metric::kQaF1, false},
    {"hotpotqa", "multi_doc_qa", Metric::kQaF1, false},
    {"2wikimqa", "multi_doc_qa", Metric::kQaF1, false},
    {"musique", "multi_doc_qa", Metric::kQaF1, false},
    {"gov_report", "summarization", Metric::kRougeL, false},
    {"qmsum", "summarization", Metric::kRougeL, false},
    {"multi_news", "summarization", Metric::kRougeL, false},
    {"trec", "few_shot", Metric::kClassification, true},
    {"triviaqa", "few_shot", Metric::kQaF1, true},
    {"samsum", "few_shot", Metric::kRougeL, true},
    {"passage_count", "synthetic", Metric::kCount, false},
    {"passage_retrieval_en", "synthetic", Metric::kRetrieval, false},
    {"lcc", "code", Metric::kCodeSim, false},
    {"repobench-p", "code", Metric::kCodeSim, false},
}};

double share_of_numbers(std::u32string_view prediction, std::u32string_view wanted) {
  const auto numbers = text::runs(prediction, text::is_digit);
  if (numbers.empty()) return 0;
  return static_cast<double>(std::count(numbers.begin(), numbers.end(), wanted)) /
         static_cast<double>(numbers.size());
}

/// The digits after the first "Paragraph " that digits follow; empty if there is none.
std::u32string_view paragraph_number(std::u32string_view reference) {
  constexpr std::u32string_view kBefore = U"Paragraph ";
  for (size_t at = 0; (at = reference.find(kBefore, at)) != std::u32string_view::npos; ++at) {
    const std::u32string_view rest = reference.substr(at + kBefore.size());
    const auto end = std::find_if_not(rest.begin(), rest.end(), text::is_digit);
    if (end != rest.begin()) return rest.substr(0, static_cast<size_t>(end - rest.begin()));
  }
  return {};
}

std::u32string_view first_line_of_code(std::u32string_view prediction) {
  for (const auto line : text::split(text::strip_left(prediction, U'\n'), U'\n')) {
    if (!text::contains(line, U"`") && !text::contains(line, U"#") && !text::contains(line, U"//"))
      return line;
  }
  return {};
}

int fuzz_ratio(std::u32string_view a, std::u32string_view b, CodeSimilarity similarity) {
  if (a == b) return 100;
  if (a.empty() || b.empty()) return 0;
  const double ratio =
      similarity == CodeSimilarity::kDifflib ? difflib_ratio(a, b) : indel_ratio(a, b);
  return static_cast<int>(text::round_to(100 * ratio, 0));
}

std::string_view first_line(std::string_view prediction) {
  prediction.remove_prefix(std::min(prediction.find_first_not_of('\n'), prediction.size()));
  return prediction.substr(0, prediction.find('\n'));
}

double metric_value(Metric metric, std::string_view prediction, std::string_view reference,
                    std::span<const std::string> all_classes, const LongBenchOptions& options) {
  switch (metric) {
    case Metric::kQaF1:
      return qa_f1(prediction, reference);
    case Metric::kRougeL:
      return rouge_l(prediction, reference,
                     {.official_recursion_limit = options.official_recursion_limit});
    case Metric::kClassification:
      return classification_score(prediction, reference, all_classes);
    case Metric::kCount:
      return count_score(prediction, reference);
    case Metric::kRetrieval:
      return retrieval_score(prediction, reference);
    case Metric::kCodeSim:
      return code_sim_score(prediction, reference, options.code_similarity);
  }
  throw Error(ErrorCode::kInvalidArgument, "unknown LongBench metric");
}

}  // namespace

double classification_score(std::string_view prediction, std::string_view reference,
                            std::span<const std::string> all_classes) {
  const std::u32string said = text::decode(prediction);
  const std::u32string wanted = text::decode(reference);
  std::vector<std::u32string> found;
  for (const std::string& name : all_classes) {
    std::u32string decoded = text::decode(name);
    if (text::contains(said, decoded)) found.push_back(std::move(decoded));
  }
  for (size_t i = 0; i < found.size(); ++i) {
    if (found[i] == wanted || !text::contains(wanted, found[i])) continue;
    const std::u32string name = found[i];
    found.erase(std::find(found.begin(), found.end(), name));
  }
  if (std::find(found.begin(), found.end(), wanted) == found.end()) return 0;
  return 1.0 / static_cast<double>(found.size());
}

double count_score(std::string_view prediction, std::string_view reference) {
  return share_of_numbers(text::decode(prediction), text::decode(reference));
}

double retrieval_score(std::string_view prediction, std::string_view reference) {
  const std::u32string wanted = text::decode(reference);
  const std::u32string_view number = paragraph_number(wanted);
  if (number.empty()) {
    throw Error(ErrorCode::kInput,
                fmt::format("the answer '{}' names no paragraph; 'Paragraph 3' would", reference));
  }
  return share_of_numbers(text::decode(prediction), number);
}

int fuzz_ratio(std::string_view a, std::string_view b, CodeSimilarity similarity) {
  return fuzz_ratio(text::decode(a), text::decode(b), similarity);
}

double code_sim_score(std::string_view prediction, std::string_view reference,
                      CodeSimilarity similarity) {
  const std::u32string text = text::decode(prediction);
  return fuzz_ratio(first_line_of_code(text), text::decode(reference), similarity) / 100.0;
}

std::span<const LongBenchDataset> longbench_datasets() { return kDatasets; }

const LongBenchDataset& longbench_dataset(std::string_view name) {
  return find_named(kDatasets, &LongBenchDataset::name, name,
                    "LongBench has no dataset '{}'; known: {}");
}

std::string_view name_of(LongBenchMetric metric) {
  switch (metric) {
    case Metric::kQaF1:
      return "qa_f1";
    case Metric::kRougeL:
      return "rouge_l";
    case Metric::kClassification:
      return "classification";
    case Metric::kCount:
      return "count";
    case Metric::kRetrieval:
      return "retrieval";
    case Metric::kCodeSim:
      return "code_sim";
  }
  throw Error(ErrorCode::kInvalidArgument, "unknown LongBench metric");
}

double longbench_score(const LongBenchDataset& dataset, std::string_view prediction,
                       std::span<const std::string> answers,
                       std::span<const std::string> all_classes, const LongBenchOptions& options) {
  if (dataset.first_line_only) prediction = first_line(prediction);
  double best = 0;
  for (const std::string& answer : answers) {
    best = std::max(best, metric_value(dataset.metric, prediction, answer, all_classes, options));
  }
  return best;
}

void require_judgeable(LongBenchMetric metric, std::span<const std::string> answers,
                       std::span<const std::string> all_classes) {
  const auto refuse = [&](const std::string& reason) {
    throw Error(ErrorCode::kInput, fmt::format("{} has {}", name_of(metric), reason));
  };
  if (answers.empty()) refuse("no answer to compare with");
  if (metric == Metric::kClassification && all_classes.empty()) {
    refuse("no classes to look for; name them in 'all_classes'");
  }
  // A prediction equal to the answer must score above 0.
  const auto can_match = [&](const std::string& answer) {
    // Any text can match; the check would be slow.
    if (metric == Metric::kRougeL || metric == Metric::kCodeSim) return true;
    return metric_value(metric, answer, answer, all_classes, {}) > 0;
  };
  if (std::ranges::none_of(answers, can_match)) {
    refuse(fmt::format("no use for the answer '{}': {}", answers.front(),
                       metric == Metric::kClassification ? "it is not among 'all_classes'"
                       : metric == Metric::kCount        ? "it is no number"
                                                         : "it holds no word that counts"));
  }
}

double longbench_dataset_score(std::span<const double> record_scores) {
  if (record_scores.empty()) return std::numeric_limits<double>::quiet_NaN();
  const double sum = std::accumulate(record_scores.begin(), record_scores.end(), 0.0);
  return text::round_to(100 * sum / static_cast<double>(record_scores.size()), 2);
}

size_t longbench_bin(size_t length) {
  if (length < 4000) return 0;
  return length < 8000 ? 1 : 2;
}

}  // namespace restkv::eval
