#include "restkv/budget.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "base/parse_number.h"
#include "restkv/compress.h"
#include "restkv/error.h"

namespace restkv {

namespace {

/// What stands behind "auto": nothing, ":0.05" or ":0.05:2048". False: something else.
bool parse_chosen(std::string_view text, Budget& budget) {
  budget.tolerance = kUsualTolerance;
  if (text.empty()) return true;
  if (!text.starts_with(':')) return false;
  text.remove_prefix(1);
  const size_t colon = text.find(':');
  if (!parse_number(text.substr(0, colon), budget.tolerance)) return false;
  if (!(budget.tolerance > 0 && budget.tolerance < 1)) return false;
  if (colon == std::string_view::npos) return true;
  return parse_number(text.substr(colon + 1), budget.tokens) && budget.tokens > 0;
}

/// "1000 or 1024" for "1k": both are usual for tokens. Empty for anything else.
std::string meanings_of_k(std::string_view text) {
  constexpr int kMost = 1 << 20;
  int count = 0;
  if (!text.ends_with('k') && !text.ends_with('K')) return {};
  text.remove_suffix(1);
  if (!parse_number(text, count) || count < 1 || count > kMost) return {};
  return fmt::format("{} or {}", count * 1000, count * 1024);
}

}  // namespace

int Budget::of(size_t n) const {
  if (share == 0) return tolerance > 0 && tokens == 0 ? std::numeric_limits<int>::max() : tokens;
  // 0.7% of 1000 are 7, although the product of the doubles is a little less.
  constexpr double kRounding = 1e-9;
  const double kept = share * static_cast<double>(n) * (1 + kRounding);
  return std::max(1, static_cast<int>(std::floor(kept)));
}

std::string Budget::text() const {
  if (tolerance > 0) {
    return fmt::format("auto:{}", tolerance) + (tokens > 0 ? fmt::format(":{}", tokens) : "");
  }
  return share == 0 ? fmt::format("{}", tokens) : fmt::format("{:g}%", 100 * share);
}

Budget parse_budget(std::string_view text) {
  constexpr std::string_view kAuto = "auto";
  Budget budget;
  if (text.starts_with(kAuto)) {
    if (parse_chosen(text.substr(kAuto.size()), budget)) return budget;
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("the budget is \"{}\"; expected auto, or auto with a tolerance above 0 "
                            "and below 1 (auto:0.05) and perhaps the most tokens (auto:0.05:2048)",
                            text));
  }
  if (text.ends_with('%')) {
    double percent = 0;
    if (parse_number(text.substr(0, text.size() - 1), percent) && percent > 0 && percent <= 100) {
      budget.share = percent / 100;
      return budget;
    }
  } else if (parse_number(text, budget.tokens) && budget.tokens > 0) {
    return budget;
  }
  if (const std::string numbers = meanings_of_k(text); !numbers.empty()) {
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("the budget is \"{}\", which may mean {} tokens; write the number",
                            text, numbers));
  }
  throw Error(ErrorCode::kInvalidArgument,
              fmt::format("the budget is \"{}\"; expected a number of tokens (512) from 1 to {}, a "
                          "share of the prompt above 0% and up to 100% (12.5%), or auto",
                          text, std::numeric_limits<int>::max()));
}

Budget budget_of(const CompressionOptions& options) {
  const bool unlimited =
      chooses_budget(options) && options.budget == std::numeric_limits<int>::max();
  return {.tokens = unlimited ? 0 : options.budget, .tolerance = options.tolerance};
}

void set_budget(CompressionOptions& options, const Budget& budget, size_t n) {
  options.budget = budget.of(n);
  if (budget.tolerance > 0) options.tolerance = budget.tolerance;
}

}  // namespace restkv
