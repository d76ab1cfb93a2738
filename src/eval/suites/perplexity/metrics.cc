#include "eval/suites/perplexity/metrics.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numbers>

#include "eval/metrics/text.h"
#include "restkv/error.h"

namespace restkv::eval {

double perplexity_per(double log_likelihood, double units) {
  return std::exp(-log_likelihood / units);
}

double bits_per(double log_likelihood, double units) {
  return -log_likelihood / units / std::numbers::ln2;
}

size_t perplexity_words(std::string_view document) {
  return text::runs(text::decode(document), text::is_space).size() + 1;
}

std::vector<RollingWindow> rolling_windows(std::span<const int32_t> tokens, int32_t prefix_token,
                                           size_t max_length, size_t min_context) {
  if (min_context == 0 || min_context > max_length) {
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("windows of {} tokens cannot have {} tokens of context, only 1 to {}",
                            max_length, min_context, max_length));
  }
  std::vector<RollingWindow> windows;
  for (size_t done = 0; done < tokens.size();) {
    const size_t longest = done == 0 ? max_length : max_length - min_context + 1;
    const auto scored = tokens.subspan(done, std::min(tokens.size() - done, longest));
    RollingWindow& window = windows.emplace_back();
    if (done == 0) {
      window.context = {prefix_token};
    } else {
      const auto context = tokens.first(done).last(max_length - scored.size() + 1);
      window.context.assign(context.begin(), context.end());
    }
    window.scored.assign(scored.begin(), scored.end());
    done += scored.size();
  }
  return windows;
}

}  // namespace restkv::eval
