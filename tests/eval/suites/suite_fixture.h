#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <memory>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "eval/suite.h"
#include "restkv/error.h"

namespace restkv::test {

/// A few records of every suite that reads files, written for these tests in the published forms.
inline std::filesystem::path suite_data() {
  return std::filesystem::path(RESTKV_TEST_DATA_DIR) / "suites";
}

/// The tasks of a suite; no line of its files may be skipped.
inline std::vector<std::unique_ptr<eval::Task>> open_suite(const eval::Suite& suite,
                                                           const eval::SuiteOptions& options) {
  std::vector<eval::SkippedLine> skipped;
  auto tasks = suite.open(options, skipped);
  if (!skipped.empty()) {
    throw std::runtime_error(skipped[0].file.string() + ":" + std::to_string(skipped[0].line) +
                             ": " + skipped[0].reason);
  }
  return tasks;
}

/// Why the only record of a suite's files below `data` is left out; "no error" if it is not.
inline std::string reason_to_skip(const eval::Suite& suite, const std::filesystem::path& data,
                                  std::vector<std::string> tasks = {}) {
  eval::SuiteOptions options;
  options.data = data;
  options.tasks = std::move(tasks);
  std::vector<eval::SkippedLine> skipped;
  try {
    (void)suite.open(options, skipped);
  } catch (const Error&) {
    EXPECT_EQ(skipped.size(), 1U);
    return skipped.at(0).reason;
  }
  return "no error";
}

/// One task of a suite on the records in `suite_data`.
inline std::unique_ptr<eval::Task> open_task(const eval::Suite& suite, std::string_view name,
                                             std::string_view profile = "") {
  eval::SuiteOptions options;
  options.data = suite_data();
  options.tasks = {std::string(name)};
  options.profile = profile;
  return std::move(open_suite(suite, options).at(0));
}

inline std::vector<std::string> names(const std::vector<std::unique_ptr<eval::Task>>& tasks) {
  std::vector<std::string> names;
  for (const auto& task : tasks) names.push_back(task->name());
  return names;
}

inline eval::Answer text_answer(std::string text) {
  eval::Answer answer;
  answer.text = std::move(text);
  return answer;
}

inline eval::Answer choice_answer(std::vector<double> log_likelihoods) {
  eval::Answer answer;
  answer.log_likelihoods = std::move(log_likelihoods);
  return answer;
}

inline eval::Answer loss_answer(std::vector<double> token_losses) {
  eval::Answer answer;
  answer.token_losses = std::move(token_losses);
  return answer;
}

/// The figure of that name.
inline double figure(const eval::Scores& scores, std::string_view name) {
  const auto found = std::ranges::find(scores, name, [](const auto& each) { return each.first; });
  if (found == scores.end()) throw std::runtime_error("no figure " + std::string(name));
  return found->second;
}

}  // namespace restkv::test
