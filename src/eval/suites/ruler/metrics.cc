#include "eval/suites/ruler/metrics.h"

#include <algorithm>
#include <limits>
#include <numeric>

#include "eval/metrics/text.h"
#include "restkv/error.h"

namespace restkv::eval {
namespace {

/// Number of references that occur in the prediction.
size_t matches(std::string_view prediction, std::span<const std::string> references) {
  if (references.empty()) {
    throw Error(ErrorCode::kInput, "there is no answer to look for in the text");
  }
  const std::u32string text = text::lower(text::decode(prediction));
  return static_cast<size_t>(
      std::count_if(references.begin(), references.end(), [&](const std::string& reference) {
        return text::contains(text, text::lower(text::decode(reference)));
      }));
}

}  // namespace

double string_match_all(std::string_view prediction, std::span<const std::string> references) {
  return static_cast<double>(matches(prediction, references)) /
         static_cast<double>(references.size());
}

double string_match_part(std::string_view prediction, std::span<const std::string> references) {
  return matches(prediction, references) > 0 ? 1 : 0;
}

std::string ruler_postprocess(std::string_view prediction) {
  const std::u32string decoded = text::decode(prediction);
  std::u32string text(text::strip(decoded));
  std::replace_if(
      text.begin(), text.end(), [](char32_t c) { return c < 0x20; }, U'\n');
  return text::encode(text::strip(text));
}

double ruler_task_score(std::span<const double> sample_scores) {
  if (sample_scores.empty()) return std::numeric_limits<double>::quiet_NaN();
  const double sum = std::accumulate(sample_scores.begin(), sample_scores.end(), 0.0);
  return text::round_to(sum / static_cast<double>(sample_scores.size()) * 100, 2);
}

}  // namespace restkv::eval
