#pragma once

#include <string_view>

namespace restkv::eval {

struct RougeLOptions {
  /// Scores 0 where the published program fails: it reads a common subsequence by recursion, which
  /// Python limits to about 990 steps. Long texts without a full stop then score 0.
  bool official_recursion_limit = false;
};

/// F of ROUGE-L, summary level, as the PyPI package `rouge` 1.0.1 computes it (LongBench's
/// summaries); the package differs from ROUGE in several points. Texts are cut at every "." and
/// their words are what stands between white space, case and punctuation included. Of each pair of
/// a piece of the reference and a piece of the prediction, the words of one longest common
/// subsequence go into one set; precision and recall are its size over the numbers of distinct
/// words. 0 if either side has no text apart from full stops. Equal texts score 0.999999995.
double rouge_l(std::string_view prediction, std::string_view reference,
               const RougeLOptions& options = {});

}  // namespace restkv::eval
