#pragma once

#include <cstddef>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "eval/suites/essays.h"

/// A reader of RULER samples that knows nothing of the code which makes them: the published
/// generators' files and this project's prompts go through the same checks.
namespace restkv::eval {

/// A sample as RULER's files hold it.
struct RulerSample {
  std::string task;
  size_t length = 0;  ///< Tokens asked for; some numbers depend on whether it is below 4096.
  std::string input;  ///< The whole prompt with its answer prefix.
  std::vector<std::string> answers;
};

/// Texts that samples are made from, where the task needs any.
struct RulerSources {
  const Essays* essays = nullptr;
  const std::vector<std::string>* documents = nullptr;
};

/// Checks all that the layout fixes (templates, separators, counts, numbers, form and places of
/// needles, answers) with gtest expectations, and returns the units of haystack: noise lines,
/// needle lines, words of the essays, noise sentences, different words, words of the distribution
/// (fwe: between the two numbers that the counts allow), documents.
size_t read_ruler_sample(const RulerSample& sample, const RulerSources& sources);

}  // namespace restkv::eval
