#include "doors/settings.h"

#include <fmt/format.h>

#include <algorithm>
#include <iterator>
#include <utility>

#include "base/option_text.h"
#include "base/parse_number.h"
#include "doors/refuse.h"
#include "restkv/compression_options.h"
#include "restkv/error.h"
#include "restkv/kv_cache.h"
#include "restkv/sparse.h"

namespace restkv::doors {
namespace {

template <class Number>
void set_number(std::string_view name, std::string_view value, Number& to) {
  if (parse_number(value, to)) return;
  refuse(fmt::format("{} is \"{}\"; expected {}", name, value, number_wanted<Number>()));
}

struct SamplingOption {
  std::string_view name;
  void (*set)(SamplingOptions&, std::string_view name, std::string_view value);
};

template <auto Member>
constexpr SamplingOption option(std::string_view name) {
  return {name, [](SamplingOptions& to, std::string_view of, std::string_view value) {
            set_number(of, value, to.*Member);
          }};
}

constexpr SamplingOption kSamplingOptions[] = {
    option<&SamplingOptions::temperature>("temperature"),
    option<&SamplingOptions::top_k>("top_k"),
    option<&SamplingOptions::top_p>("top_p"),
    option<&SamplingOptions::min_p>("min_p"),
    option<&SamplingOptions::repeat_last_n>("repeat_last_n"),
    option<&SamplingOptions::repeat_penalty>("repeat_penalty"),
    option<&SamplingOptions::presence_penalty>("presence_penalty"),
    option<&SamplingOptions::frequency_penalty>("frequency_penalty"),
    option<&SamplingOptions::seed>("seed"),
};

}  // namespace

GivenMethod parse_method(std::string_view method, std::string_view budget) {
  if (method.empty()) method = "restkv";
  GivenCompression given = parse_compression(method);
  GivenMethod result{std::move(given.options), std::nullopt, std::move(given.notices)};
  if (budget.empty()) {
    validate(result.options);
    return result;
  }
  for (const auto& [name, value] : parse_option_text(method).options) {
    if (name != "budget" && name != "tolerance") continue;
    refuse(
        fmt::format("the method \"{}\" gives {} = {}, and the budget is {}; leave one of them "
                    "out",
                    method, name, value, budget));
  }
  if (result.options.method == "full") {
    refuse(
        fmt::format("a budget of {} has no effect on method full, which keeps everything", budget));
  }
  const Budget wanted = parse_budget(budget);
  if (wanted.share > 0) {
    result.share = wanted;
  } else {
    set_budget(result.options, wanted, 0);
  }
  validate(result.options);
  return result;
}

CompressionOptions for_prompt(const GivenMethod& method, size_t n) {
  CompressionOptions options = method.options;
  if (method.share) set_budget(options, *method.share, n);
  return options;
}

GivenSequence resolve(const SequenceSettings& settings) {
  GivenMethod method = parse_method(settings.method, settings.budget);
  GivenSequence result;
  result.options.compression = std::move(method.options);
  result.share = method.share;
  result.notices = std::move(method.notices);
  if (!settings.kv_type.empty()) result.options.kv_type = find_kv_type(settings.kv_type);
  if (!settings.sparse.empty()) result.options.sparse = parse_sparse(settings.sparse);
  if (settings.decode_budget != 0 && settings.interval == 0) {
    refuse(fmt::format("decode_budget is {}, which has no effect without interval",
                       settings.decode_budget));
  }
  result.options.chunk = settings.chunk;
  result.options.interval = settings.interval;
  result.options.decode_budget = settings.decode_budget;
  result.options.compact_positions = settings.compact_positions;
  if (result.options.compression.method == "full" &&
      (settings.interval != 0 || settings.compact_positions)) {
    result.notices.emplace_back(
        "interval, decode_budget and compact_positions have no effect on method full, which never "
        "cuts the cache");
  }
  return result;
}

SamplingOptions parse_sampling(std::string_view text) {
  SamplingOptions options;
  if (text.empty()) return options;
  // A list of options without a name in front.
  const std::string with_name = fmt::format(":{}", text);
  for (const auto& [name, value] : parse_option_text(with_name).options) {
    const auto* const known = std::ranges::find(kSamplingOptions, name, &SamplingOption::name);
    if (known == std::end(kSamplingOptions)) {
      std::vector<std::string_view> names;
      for (const SamplingOption& one : kSamplingOptions) names.push_back(one.name);
      refuse(fmt::format("there is no sampling option \"{}\"; known: {}", name,
                         fmt::join(names, ", ")));
    }
    known->set(options, name, value);
  }
  validate(options);
  return options;
}

}  // namespace restkv::doors
