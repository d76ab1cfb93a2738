#include "cli/sampling_flags.h"

#include <fmt/format.h>

#include <algorithm>
#include <set>
#include <string>
#include <string_view>
#include <type_traits>

#include "cli/process.h"

namespace restkv::cli {
namespace {

void mention_ignored(const std::vector<const Option*>& options, std::string_view reason) {
  std::string names;
  for (const Option* option : options) {
    if (option->given()) names += (names.empty() ? "" : ", ") + option->name();
  }
  if (!names.empty()) notice(fmt::format("without effect {}: {}", reason, names));
}

}  // namespace

void SamplingFlags::declare(ArgumentParser& parser) {
  parser.begin_group("Sampling (names as in libllama)");
  const auto add = [&](const char* name, auto& value, const char* help) {
    const bool whole = std::is_integral_v<std::remove_reference_t<decltype(value)>>;
    Option& option = parser.add(name, value, help, whole ? "N" : "X");
    static const std::set<std::string_view> kUsual{"--temp", "--top-p", "--repeat-penalty",
                                                   "-s,--seed"};
    if (!kUsual.contains(name)) option.rare();
    return &option;
  };
  temperature_ = add("--temp", options_.temperature, "temperature; 0 picks the most likely token");
  of_random_choice_ = {
      add("--top-k", options_.top_k, "keep the k most likely tokens; 0 is off"),
      add("--top-p", options_.top_p, "keep the most likely tokens up to this mass; 1 is off"),
      add("--min-p", options_.min_p, "drop tokens below this share of the best; 0 is off")};
  const Option* last_n =
      add("--repeat-last-n", options_.repeat_last_n, "tokens the penalties look back on");
  of_penalties_ = {last_n, add("--repeat-penalty", options_.repeat_penalty, "1 is off"),
                   add("--presence-penalty", options_.presence_penalty, "0 is off"),
                   add("--frequency-penalty", options_.frequency_penalty, "0 is off")};
  of_random_choice_.push_back(add("-s,--seed", options_.seed, "seed of the random choice"));
}

void SamplingFlags::tell_what_snapshots_lack() const {
  const auto given = [](const Option* option) { return option->given(); };
  const bool looks_back = options_.repeat_last_n != 0 &&
                          (options_.repeat_penalty != 1 || options_.presence_penalty != 0 ||
                           options_.frequency_penalty != 0);
  if (looks_back && std::ranges::any_of(of_penalties_, given)) {
    notice("penalties do not count what was said before the conversation was loaded");
  }
  if (options_.temperature > 0 &&
      (given(temperature_) || std::ranges::any_of(of_random_choice_, given))) {
    notice("random choices begin anew with --seed, not where the saved conversation left off");
  }
}

SamplingOptions SamplingFlags::resolve() const {
  validate(options_);
  if (options_.temperature == 0) mention_ignored(of_random_choice_, "at temperature 0");
  if (options_.repeat_last_n == 0) {
    mention_ignored(of_penalties_, "with --repeat-last-n 0");
  } else if (options_.repeat_penalty == 1 && options_.presence_penalty == 0 &&
             options_.frequency_penalty == 0) {
    mention_ignored({of_penalties_.front()}, "without a penalty");
  }
  return options_;
}

}  // namespace restkv::cli
