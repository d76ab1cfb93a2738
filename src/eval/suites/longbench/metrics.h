#pragma once

#include <array>
#include <cstddef>
#include <span>
#include <string>
#include <string_view>
#include <vector>

/// Scores of LongBench's English datasets (github.com/THUDM/LongBench: metrics.py, eval.py).
namespace restkv::eval {

/// Implementations of the ratio of PyPI's fuzzywuzzy; published figures depend on them.
enum class CodeSimilarity {
  kDifflib,      ///< Without the package Levenshtein, as LongBench's requirements have it.
  kLevenshtein,  ///< With it.
};

struct LongBenchOptions {
  CodeSimilarity code_similarity = CodeSimilarity::kDifflib;
  bool official_recursion_limit = false;  ///< See `RougeLOptions`.
};

// --- Metrics: 0 to 1 -----------------------------------------------------------------------------

/// 1 / (number of classes named in the prediction) if `reference` is among them, otherwise 0. Found
/// classes are filtered as by the published loop, which skips the class after each removed one.
double classification_score(std::string_view prediction, std::string_view reference,
                            std::span<const std::string> all_classes);

/// Share of the prediction's numbers (runs of digits) that equal `reference` as text.
double count_score(std::string_view prediction, std::string_view reference);

/// The same with the number after the first "Paragraph " of `reference`.
/// Throws Error(kInput) if it has none.
double retrieval_score(std::string_view prediction, std::string_view reference);

/// `fuzz_ratio` / 100 of `reference` and the first line of the prediction that looks like code:
/// without "`", "#" and "//"; the empty line if there is none.
double code_sim_score(std::string_view prediction, std::string_view reference,
                      CodeSimilarity similarity = CodeSimilarity::kDifflib);

/// fuzz.ratio of fuzzywuzzy 0.18.0: 0 to 100, 100 if both are equal, else 0 if one is empty.
int fuzz_ratio(std::string_view a, std::string_view b,
               CodeSimilarity similarity = CodeSimilarity::kDifflib);

// --- Datasets ------------------------------------------------------------------------------------

enum class LongBenchMetric { kQaF1, kRougeL, kClassification, kCount, kRetrieval, kCodeSim };

struct LongBenchDataset {
  std::string_view name;
  std::string_view category;
  LongBenchMetric metric;
  bool first_line_only;  ///< Only the first line of the prediction counts (few-shot prompts).
};

/// The 16 datasets, category by category.
std::span<const LongBenchDataset> longbench_datasets();
/// Throws `Error` (kInvalidArgument) listing the known names.
const LongBenchDataset& longbench_dataset(std::string_view name);
/// The metric's name in reports: "qa_f1", "rouge_l", "classification", ...
std::string_view name_of(LongBenchMetric metric);

/// Score of one prediction, 0 to 1: the best over the answers; 0 without answers. `all_classes` is
/// used by trec only (of the dataset's last record, for all records).
double longbench_score(const LongBenchDataset& dataset, std::string_view prediction,
                       std::span<const std::string> answers,
                       std::span<const std::string> all_classes,
                       const LongBenchOptions& options = {});

/// Throws `Error` (kInput) for answers that no prediction could match, so that a record would
/// always score 0: no answers, classes without the answer, a count that is no number, a text
/// without a word.
void require_judgeable(LongBenchMetric metric, std::span<const std::string> answers,
                       std::span<const std::string> all_classes);

/// Score of a dataset, 0 to 100: the mean, rounded to 2 decimals. NaN without records.
double longbench_dataset_score(std::span<const double> record_scores);

/// LongBench-E: the bin of a record's `length` in `kLongBenchBins`.
size_t longbench_bin(size_t length);
inline constexpr std::array<std::string_view, 3> kLongBenchBins = {"0-4k", "4-8k", "8k+"};

}  // namespace restkv::eval
