#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <string>
#include <vector>

#include "attention/sparse/pattern.h"
#include "base/option_text.h"
#include "base/parse_number.h"
#include "restkv/error.h"

namespace restkv {
namespace {

constexpr std::string_view kDense = "dense";

[[noreturn]] void refuse(const std::string& message) {
  throw Error(ErrorCode::kInvalidArgument, message);
}

using Options = SparseOptions;

constexpr std::array kOptions{
    SparseOption{"sinks", "N", "first tokens that all queries see", &Options::sinks},
    SparseOption{"local", "N", "latest tokens that a query sees", &Options::local},
    SparseOption{"vertical", "N", "tokens in the columns that all queries see", &Options::vertical},
    SparseOption{"slash", "N", "tokens in the diagonals along which queries look back",
                 &Options::slash},
    SparseOption{"gamma", "X", "share of the estimated attention that is kept", nullptr,
                 &Options::gamma},
    SparseOption{"tau", "X", "largest distance of an estimate that is trusted", nullptr,
                 &Options::tau},
    SparseOption{"min_tokens", "N", "tokens that a query sees at least", &Options::min_tokens},
    SparseOption{"stride", "N", "width of the antidiagonals: 8, 16 or 32", &Options::stride},
    SparseOption{"samples", "N", "queries of each block of 64 that are asked", &Options::samples},
    SparseOption{"threshold", "X", "share of the estimated attention that is kept", nullptr,
                 &Options::threshold},
};

template <class Number>
void parse(std::string_view name, std::string_view text, Number& value) {
  if (parse_number(text, value)) return;
  refuse(fmt::format("{} is \"{}\"; expected {}", name, text, number_wanted<Number>()));
}

const SparseOption& find_option(const SparsePattern& pattern, std::string_view name) {
  const auto& read = pattern.options;
  if (std::find(read.begin(), read.end(), name) == read.end()) {
    refuse(fmt::format("the sparse pattern {} has no option \"{}\"; it reads {}", pattern.name,
                       name, fmt::join(read, ", ")));
  }
  return *std::ranges::find(kOptions, name, &SparseOption::name);
}

}  // namespace

std::span<const SparsePattern> sparse_patterns() {
  static const std::array table = {
      a_shape_pattern(),    vertical_slash_pattern(), flexprefill_pattern(),
      xattention_pattern(), sampled_pattern(),
  };
  return table;
}

std::span<const SparseOption> sparse_options() { return kOptions; }

void SparseOption::set(SparseOptions& options, std::string_view value) const {
  if (whole != nullptr) {
    parse(name, value, options.*whole);
  } else {
    parse(name, value, options.*real);
  }
}

std::string SparseOption::get(const SparseOptions& options) const {
  return whole != nullptr ? fmt::format("{}", options.*whole) : fmt::format("{}", options.*real);
}

const SparsePattern& find_sparse_pattern(std::string_view name) {
  std::vector<std::string_view> names{kDense};
  for (const SparsePattern& pattern : sparse_patterns()) {
    if (pattern.name == name) return pattern;
    names.push_back(pattern.name);
  }
  refuse(
      fmt::format("there is no sparse pattern \"{}\"; known are {}", name, fmt::join(names, ", ")));
}

SparseOptions parse_sparse(std::string_view text) {
  SparseOptions options;
  const OptionText parts = parse_option_text(text);
  options.pattern = parts.name;
  if (text == kDense) return options;
  if (parts.name == kDense) refuse(fmt::format("\"{}\": dense attention has no options", text));
  const SparsePattern& pattern = find_sparse_pattern(parts.name);
  for (const auto& [option, value] : parts.options) {
    find_option(pattern, option).set(options, value);
  }
  validate(options);
  return options;
}

std::string describe_sparse(const SparseOptions& options) {
  std::string text = options.pattern;
  if (text == kDense) return text;
  const SparsePattern& pattern = find_sparse_pattern(options.pattern);
  for (const std::string_view name : pattern.options) {
    text += fmt::format(":{}={}", name, find_option(pattern, name).get(options));
  }
  return text;
}

void validate(const SparseOptions& options) {
  if (options.pattern == kDense) return;
  find_sparse_pattern(options.pattern).check(options);
}

void check_tokens(std::string_view option, int tokens) {
  if (tokens >= 0) return;
  refuse(fmt::format("{} is {}; expected a number of tokens, 1024 for instance", option, tokens));
}

void check_share(std::string_view option, double share) {
  if (share > 0 && share <= 1) return;
  refuse(fmt::format("{} is {}; expected a share above 0 and at most 1, 0.9 for instance", option,
                     share));
}

}  // namespace restkv
