#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <type_traits>
#include <vector>

#include "base/find_named.h"
#include "base/parse_number.h"
#include "compress/own_options.h"
#include "restkv/compression_options.h"
#include "restkv/error.h"

namespace restkv {
namespace {

/// The words of an enumeration, in the order of its values.
template <class Enum>
struct Words;
template <>
struct Words<Pooling> {
  static constexpr std::array kList{"none", "average", "max", "adaptive"};
};
template <>
struct Words<GroupReduce> {
  static constexpr std::array kList{"mean", "max", "sum"};
};
template <>
struct Words<PyramidVariant> {
  static constexpr std::array kList{"balanced", "authors", "restkv", "kvpress"};
};
template <>
struct Words<Refit> {
  static constexpr std::array kList{"none", "window", "repeat"};
};
template <>
struct Words<AdaVariant> {
  static constexpr std::array kList{"balanced", "authors", "kvpress"};
};

[[noreturn]] void refuse(std::string_view name, std::string_view value, std::string_view expected) {
  throw Error(ErrorCode::kInvalidArgument,
              fmt::format("{} is \"{}\"; expected {}", name, value, expected));
}

void parse(std::string_view name, std::string_view text, int& value) {
  if (!parse_number(text, value)) refuse(name, text, number_wanted<int>());
}
void parse(std::string_view name, std::string_view text, double& value) {
  if (!parse_number(text, value)) refuse(name, text, number_wanted<double>());
}
/// Empty texts are written as "none", so that every option has a visible value.
void parse(std::string_view name, std::string_view text, std::string& value) {
  if (text.empty()) refuse(name, text, "a text, or none");
  value = text == "none" ? "" : text;
}
void parse(std::string_view name, std::string_view text, bool& value) {
  if (text != "true" && text != "false") refuse(name, text, "true or false");
  value = text == "true";
}
template <class Enum>
requires std::is_enum_v<Enum>
void parse(std::string_view name, std::string_view text, Enum& value) {
  std::string words;
  for (size_t i = 0; i < Words<Enum>::kList.size(); ++i) {
    if (text == Words<Enum>::kList[i]) {
      value = static_cast<Enum>(i);
      return;
    }
    words += fmt::format("{}{}", i == 0 ? "" : ", ", Words<Enum>::kList[i]);
  }
  refuse(name, text, "one of " + words);
}

template <class T>
std::string print(const T& value) {
  if constexpr (std::is_enum_v<T>) {
    return Words<T>::kList[static_cast<size_t>(value)];
  } else if constexpr (std::is_same_v<T, std::string>) {
    return value.empty() ? "none" : value;
  } else {
    return fmt::format("{}", value);
  }
}

template <auto kField>
void set(std::string_view name, CompressionOptions& options, std::string_view value) {
  parse(name, value, options.*kField);
}
template <auto kField>
std::string get(std::string_view /*name*/, const CompressionOptions& options) {
  return print(options.*kField);
}
template <auto kField>
double real(const CompressionOptions& options, std::string_view /*name*/) {
  return options.*kField;
}

void set_kernel(std::string_view name, CompressionOptions& options, std::string_view value) {
  int kernel = 0;
  if (value == "auto") {
    kernel = kAutoKernel;
  } else if (!parse_number(value, kernel) || kernel < 0) {
    refuse(name, value, "a whole number or auto");
  }
  options.kernel = kernel;
}
std::string get_kernel(std::string_view /*name*/, const CompressionOptions& options) {
  return options.kernel == kAutoKernel ? "auto" : print(options.kernel);
}

using Options = CompressionOptions;

template <auto kField>
consteval CompressionOption option(std::string_view name, std::string_view values,
                                   std::string_view help) {
  CompressionOption row{name, values, help, &set<kField>, &get<kField>, nullptr, true};
  if constexpr (std::is_same_v<decltype(kField), double Options::*>) row.real = &real<kField>;
  return row;
}

constexpr std::array kShared{
    option<&Options::budget>("budget", "N", "tokens kept per KV head, observation window included"),
    option<&Options::tolerance>("tolerance", "X",
                                "a layer keeps the fewest tokens that change its output by no more "
                                "than this share; 0: the budget"),
    option<&Options::window>("window", "N", "observation window: last tokens, always kept"),
    option<&Options::sinks>("sinks", "N", "first tokens, always kept"),
    option<&Options::pooling>("pooling", "none|average|max|adaptive",
                              "smoothing of scores along positions"),
    CompressionOption{"kernel", "N|auto", "pooling width, odd; auto: 3 and 21 wide at once",
                      set_kernel, get_kernel, nullptr, true},
    option<&Options::drift_scale>("drift_scale", "X",
                                  "drift in positions per step of the adaptive window (beta)"),
    option<&Options::group_reduce>("group_reduce", "mean|max|sum",
                                   "reduction over the query heads of a KV head"),
    option<&Options::reduce_before_pooling>("reduce_before_pooling", "true|false",
                                            "reduce before scores are smoothed"),
    option<&Options::per_query_head>("per_query_head", "true|false",
                                     "one selection per query head, as in the published code"),
    option<&Options::block_size>("block_size", "N",
                                 "select after each block of N positions; 0: once for all"),
    option<&Options::allocation>("allocation",
                                 "uniform|pyramid|ada|ada-pyramid|global|cake|profile",
                                 "distribution of the budget over layers and heads"),
    option<&Options::pyramid_variant>("pyramid_variant", "balanced|authors|restkv|kvpress",
                                      "variant of the rounding; balanced never exceeds the budget"),
    option<&Options::pyramid_beta>("pyramid_beta", "N",
                                   "the last layer gets 1/N of the average budget"),
    option<&Options::ada_variant>("ada_variant", "balanced|authors|kvpress",
                                  "variant of floor and rounding; authors may exceed the budget"),
    option<&Options::ada_floor>("ada_floor", "X",
                                "share of the budget that every head gets at least"),
    option<&Options::ada_normalize>("ada_normalize", "true|false",
                                    "weigh a head's scores by their concentration"),
    option<&Options::cake_tau1>("cake_tau1", "X", "entropy counts to the power of 1 / X"),
    option<&Options::cake_tau2>("cake_tau2", "X", "variance counts to the power of 1 / X"),
    option<&Options::profile>("profile", "FILE", "JSON file with counts or shares of every head"),
    option<&Options::statistics>("statistics", "FILE",
                                 "what restkv calibrate has learned about the model"),
    option<&Options::critical>("critical", "true|false",
                               "second stage: weigh scores by the norm of the projected values"),
    option<&Options::critical_ratio>("critical_ratio", "X",
                                     "share of the budget that the first stage decides"),
    option<&Options::critical_epsilon>("critical_epsilon", "X",
                                       "added to scores before they are weighed"),
    option<&Options::merge>("merge", "true|false",
                            "fold the values of evicted tokens into those of similar keys"),
    option<&Options::merge_threshold>("merge_threshold", "X",
                                      "least cosine of two keys whose values are merged"),
    option<&Options::merge_fraction>("merge_fraction", "X",
                                     "share of evicted tokens that are merged"),
    option<&Options::refit>("refit", "none|window|repeat",
                            "queries for which kept tokens are made to stand for evicted ones"),
    option<&Options::refit_queries>("refit_queries", "N",
                                    "queries per head of the repeat pass that are refitted for"),
    option<&Options::refit_ridge>("refit_ridge", "X", "weight of the tokens as they are"),
};

bool allocates_pyramid(const Options& o) {
  return o.allocation == "pyramid" || o.allocation == "ada-pyramid";
}
bool allocates_ada(const Options& o) {
  return o.allocation == "ada" || o.allocation == "ada-pyramid";
}

/// Conditions between shared options; each method has its own.
constexpr std::array kConditions{
    OptionCondition{"kernel", "pooling",
                    [](const Options& o) { return o.pooling != Pooling::kNone; }},
    OptionCondition{"drift_scale", "pooling",
                    [](const Options& o) { return o.pooling == Pooling::kAdaptive; }},
    OptionCondition{"pyramid_variant", "allocation", allocates_pyramid},
    OptionCondition{"pyramid_beta", "allocation", allocates_pyramid},
    OptionCondition{"ada_variant", "allocation", allocates_ada},
    OptionCondition{"ada_floor", "allocation", allocates_ada},
    OptionCondition{"ada_normalize", "allocation", allocates_ada},
    OptionCondition{"cake_tau1", "allocation",
                    [](const Options& o) { return o.allocation == "cake"; }},
    OptionCondition{"cake_tau2", "allocation",
                    [](const Options& o) { return o.allocation == "cake"; }},
    OptionCondition{"profile", "allocation",
                    [](const Options& o) { return o.allocation == "profile"; }},
    OptionCondition{"critical_ratio", "critical", [](const Options& o) { return o.critical; }},
    OptionCondition{"critical_epsilon", "critical", [](const Options& o) { return o.critical; }},
    OptionCondition{"merge_threshold", "merge", [](const Options& o) { return o.merge; }},
    OptionCondition{"merge_fraction", "merge", [](const Options& o) { return o.merge; }},
    OptionCondition{"refit_queries", "refit",
                    [](const Options& o) { return o.refit == Refit::kRepeat; }},
    OptionCondition{"refit_ridge", "refit",
                    [](const Options& o) { return o.refit != Refit::kNone; }},
};

/// Reserved at once, so that references to rows stay valid.
constexpr size_t kMostOptions = 512;

void add_own_options(std::vector<CompressionOption>& table, const Method& method) {
  for (const OwnOption& own : method.own_options) {
    if (std::ranges::find(table, own.name, &CompressionOption::name) != table.end()) continue;
    const bool real = std::holds_alternative<double>(own.initial);
    table.push_back({.name = own.name,
                     .values = own.values,
                     .help = own.help,
                     .parse = set_own_option,
                     .print = get_own_option,
                     .real = real ? own_real : nullptr,
                     .shared = false});
  }
}

std::vector<CompressionOption>& option_table() {
  static std::vector<CompressionOption> table = [] {
    std::vector<CompressionOption> rows;
    rows.reserve(kMostOptions);
    rows.assign(kShared.begin(), kShared.end());
    for (const Method& method : methods()) add_own_options(rows, method);
    return rows;
  }();
  return table;
}

}  // namespace

void list_own_options(const Method& method) {
  if (option_table().size() + method.own_options.size() > kMostOptions) {
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("there are {} options, and no room for those of method \"{}\"",
                            option_table().size(), method.name));
  }
  add_own_options(option_table(), method);
}

std::string_view overridden_by(const CompressionOptions& options, std::string_view option) {
  const auto other_of = [&](std::span<const OptionCondition> conditions) -> std::string_view {
    for (const OptionCondition& condition : conditions) {
      if (condition.option == option && !condition.holds(options)) return condition.other;
    }
    return {};
  };
  const std::string_view other = other_of(kConditions);
  return other.empty() ? other_of(find_method(options.method).conditions) : other;
}

bool belongs_to(const CompressionOption& option, const CompressionOptions& options) {
  return option.shared || find_own_option(find_method(options.method), option.name) != nullptr;
}

std::span<const CompressionOption> compression_options() { return option_table(); }

const CompressionOption& find_compression_option(std::string_view name) {
  return find_named(compression_options(), &CompressionOption::name, name,
                    "there is no option \"{}\"; known are {}");
}

}  // namespace restkv
