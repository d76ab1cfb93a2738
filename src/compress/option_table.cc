#include <fmt/format.h>

#include <array>
#include <type_traits>

#include "base/parse_number.h"
#include "restkv/compression_options.h"
#include "restkv/error.h"

namespace restkv {
namespace {

/// The words of an enumeration, in the order of its values.
template <class Enum>
struct Words;
template <>
struct Words<Indicator> {
  static constexpr std::array kList{"reconstruction", "attention", "attention-value"};
};
template <>
struct Words<ReconstructionOrder> {
  static constexpr std::array kList{"after", "before"};
};
template <>
struct Words<Temporal> {
  static constexpr std::array kList{"ema", "mean", "inverse-ema", "newest"};
};
template <>
struct Words<Pooling> {
  static constexpr std::array kList{"none", "average", "max", "adaptive"};
};
template <>
struct Words<GroupReduce> {
  static constexpr std::array kList{"mean", "max", "sum"};
};
template <>
struct Words<Leverage> {
  static constexpr std::array kList{"key", "value", "mean", "product"};
};
template <>
struct Words<PyramidVariant> {
  static constexpr std::array kList{"balanced", "authors", "restkv", "kvpress"};
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
/// Texts that are not given are written as "none", so that every option has a visible value.
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
std::string get(const CompressionOptions& options) {
  return print(options.*kField);
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
std::string get_kernel(const CompressionOptions& options) {
  return options.kernel == kAutoKernel ? "auto" : print(options.kernel);
}

using Options = CompressionOptions;

template <auto kField>
consteval CompressionOption option(std::string_view name, std::string_view values,
                                   std::string_view help) {
  CompressionOption row{name, values, help, &set<kField>, &get<kField>};
  if constexpr (std::is_same_v<decltype(kField), double Options::*>) row.real = kField;
  return row;
}

constexpr std::array kOptions{
    option<&Options::budget>("budget", "N", "tokens kept per KV head, observation window included"),
    option<&Options::window>("window", "N", "observation window: last tokens, always kept"),
    option<&Options::sinks>("sinks", "N", "first tokens that always stay"),
    option<&Options::indicator>("indicator", "reconstruction|attention|attention-value",
                                "what a token's score measures"),
    option<&Options::order>("order", "after|before",
                            "reconstruction error after the moving average, or before it"),
    option<&Options::temporal>("temporal", "ema|mean|inverse-ema|newest",
                               "how the rows of the window are combined"),
    option<&Options::alpha>("alpha", "X", "weight of the newer row in the moving average"),
    option<&Options::tau>("tau", "X", "exponent of the reconstruction norm"),
    option<&Options::use_wo>("use_wo", "true|false", "measure the error after W_O"),
    option<&Options::normalize>("normalize", "true|false",
                                "divide the error by the norm of the output (order before)"),
    option<&Options::pooling>("pooling", "none|average|max|adaptive",
                              "how scores are smoothed along positions"),
    CompressionOption{"kernel", "N|auto", "pooling width, odd; auto: 3 and 21 wide at once",
                      set_kernel, get_kernel},
    option<&Options::drift_scale>("drift_scale", "X",
                                  "positions of drift per step of the adaptive window (beta)"),
    option<&Options::group_reduce>("group_reduce", "mean|max|sum",
                                   "how the query heads of a KV head agree"),
    option<&Options::reduce_before_pooling>("reduce_before_pooling", "true|false",
                                            "let them agree before scores are smoothed"),
    option<&Options::per_query_head>("per_query_head", "true|false",
                                     "one selection per query head, as in the published code"),
    option<&Options::acausal>("acausal", "true|false",
                              "let queries before the window see the future, as published"),
    option<&Options::ladder_span>("ladder_span", "N",
                                  "layers that keep the same token; 0: half of them"),
    option<&Options::ladder_overlap>("ladder_overlap", "N",
                                     "layers that neighbouring rungs of the ladder share"),
    option<&Options::lag>("lag", "N", "tokens per partition"),
    option<&Options::cross_scoring>("cross_scoring", "true|false",
                                    "compare scores, not ranks, between partitions"),
    option<&Options::future>("future", "N", "positions to come that are averaged over"),
    option<&Options::use_covariance>("use_covariance", "true|false",
                                     "expect queries to spread as they did"),
    option<&Options::use_value_norm>("use_value_norm", "true|false",
                                     "weigh expected attention by the norm of the value"),
    option<&Options::epsilon>("epsilon", "X", "added to expected attention before it is weighed"),
    option<&Options::leverage>("leverage", "key|value|mean|product", "whose leverage counts"),
    option<&Options::local_window>("local_window", "N",
                                   "positions per block of normalised leverages; 0: all"),
    option<&Options::block_size>("block_size", "N",
                                 "feed N positions at a time and cut after each; 0: all at once"),
    option<&Options::skip_layers>("skip_layers", "N", "first layers that are kept whole"),
    option<&Options::random_seed>("random_seed", "N", "start of the random numbers"),
    option<&Options::allocation>("allocation", "uniform|pyramid|ada|ada-pyramid|profile",
                                 "how the budget is shared out over layers and heads"),
    option<&Options::pyramid_variant>("pyramid_variant", "balanced|authors|restkv|kvpress",
                                      "whose rounding; balanced never passes the budget"),
    option<&Options::pyramid_beta>("pyramid_beta", "N",
                                   "the last layer gets 1/N of the average budget"),
    option<&Options::ada_variant>("ada_variant", "balanced|authors|kvpress",
                                  "whose floor and rounding; authors may pass the budget"),
    option<&Options::ada_floor>("ada_floor", "X", "share of the budget every head is sure of"),
    option<&Options::ada_normalize>("ada_normalize", "true|false",
                                    "weigh a head's scores by how concentrated they are"),
    option<&Options::profile>("profile", "FILE", "JSON file with counts or shares of every head"),
    option<&Options::critical>("critical", "true|false",
                               "second stage: weigh scores by the norm of the projected values"),
    option<&Options::critical_ratio>("critical_ratio", "X",
                                     "part of the budget that the first stage decides"),
    option<&Options::critical_epsilon>("critical_epsilon", "X",
                                       "added to scores before they are weighed"),
};

bool reconstructs(const Options& o) { return o.indicator == Indicator::kReconstruction; }
bool allocates_pyramid(const Options& o) {
  return o.allocation == "pyramid" || o.allocation == "ada-pyramid";
}
bool allocates_ada(const Options& o) {
  return o.allocation == "ada" || o.allocation == "ada-pyramid";
}

/// An option changes nothing unless the other one has a value with which `holds`.
struct Condition {
  std::string_view option;
  std::string_view other;
  bool (*holds)(const Options&);
};
constexpr std::array kConditions{
    Condition{"order", "indicator", reconstructs},
    Condition{"temporal", "indicator", reconstructs},
    Condition{"alpha", "indicator", reconstructs},
    Condition{"tau", "indicator", reconstructs},
    Condition{"use_wo", "indicator", reconstructs},
    Condition{"normalize", "indicator", reconstructs},
    Condition{"alpha", "temporal",
              [](const Options& o) {
                return o.temporal == Temporal::kEma || o.temporal == Temporal::kInverseEma;
              }},
    Condition{"tau", "order",
              [](const Options& o) { return o.order == ReconstructionOrder::kAfter; }},
    Condition{"normalize", "order",
              [](const Options& o) { return o.order == ReconstructionOrder::kBefore; }},
    Condition{"kernel", "pooling", [](const Options& o) { return o.pooling != Pooling::kNone; }},
    Condition{"drift_scale", "pooling",
              [](const Options& o) { return o.pooling == Pooling::kAdaptive; }},
    Condition{"epsilon", "use_value_norm", [](const Options& o) { return o.use_value_norm; }},
    Condition{"pyramid_variant", "allocation", allocates_pyramid},
    Condition{"pyramid_beta", "allocation", allocates_pyramid},
    Condition{"ada_variant", "allocation", allocates_ada},
    Condition{"ada_floor", "allocation", allocates_ada},
    Condition{"ada_normalize", "allocation", allocates_ada},
    Condition{"profile", "allocation", [](const Options& o) { return o.allocation == "profile"; }},
    Condition{"critical_ratio", "critical", [](const Options& o) { return o.critical; }},
    Condition{"critical_epsilon", "critical", [](const Options& o) { return o.critical; }},
};

}  // namespace

std::string_view overridden_by(const CompressionOptions& options, std::string_view option) {
  for (const Condition& condition : kConditions) {
    if (condition.option == option && !condition.holds(options)) return condition.other;
  }
  return {};
}

std::span<const CompressionOption> compression_options() { return kOptions; }

const CompressionOption& find_compression_option(std::string_view name) {
  std::string names;
  for (const CompressionOption& row : kOptions) {
    if (row.name == name) return row;
    names += fmt::format("{}{}", names.empty() ? "" : ", ", row.name);
  }
  throw Error(ErrorCode::kInvalidArgument,
              fmt::format("there is no option \"{}\"; known are {}", name, names));
}

}  // namespace restkv
