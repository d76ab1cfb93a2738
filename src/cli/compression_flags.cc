#include "cli/compression_flags.h"

#include <fmt/format.h>

#include <algorithm>
#include <limits>
#include <utility>

#include "base/option_text.h"
#include "base/parse_number.h"
#include "cli/process.h"
#include "restkv/compression_options.h"
#include "restkv/error.h"

namespace restkv::cli {
namespace {

std::string flag_name(std::string_view option) {
  std::string flag = "--" + std::string(option);
  std::replace(flag.begin(), flag.end(), '_', '-');
  return flag;
}

/// Not an option of any method but what the options are before any is given.
constexpr const char* kPreset = "preset";
constexpr const char* kBudget = "budget";
constexpr const char* kTolerance = "tolerance";
constexpr const char* kAuto = "auto";

const char* values_of_budget(BudgetForm form) {
  switch (form) {
    case BudgetForm::kNumber:
      return "N";
    case BudgetForm::kChosen:
      return "N|auto";
    case BudgetForm::kAny:
      break;
  }
  return "N|P%|auto";
}

CompressionOptions say_notices(GivenCompression given) {
  for (const std::string& text : given.notices) notice(text);
  return std::move(given.options);
}

}  // namespace

void CompressionFlags::declare(ArgumentParser& parser) {
  parser.begin_group("Compression (restkv methods shows which method reads what)");
  method_option_ = &parser.add("--method", method_, "compression method", "NAME");
  const auto store = [this](std::string_view name) {
    return [this, name = std::string(name)](const std::string& value) { values_[name] = value; };
  };
  parser
      .add_callback(fmt::format("--{}", kPreset), store(kPreset),
                    "what options are unless they are given: default, or paper (the method's "
                    "authors' values)",
                    "default|paper")
      .rare();
  for (const CompressionOption& option : compression_options()) {
    if (option.name == kTolerance) continue;
    const bool budget = option.name == kBudget;
    Option& flag = parser.add_callback(flag_name(option.name), store(option.name), option.help,
                                       budget ? values_of_budget(form_) : option.values);
    if (!budget) flag.rare();
    if (budget) flag.default_text(option.get({}));  // that of every method
    if (budget && form_ != BudgetForm::kNumber) chosen_.declare(parser);
    if (option.values == "true|false") flag.implicit_value("true");
  }
}

bool CompressionFlags::prefer_method(const std::string& method) {
  if (method_option_->given()) return false;
  method_ = method;
  return true;
}

void ChosenBudgetFlags::declare(ArgumentParser& parser) {
  parser
      .add(flag_name(kTolerance), tolerance_,
           "--budget auto: how much a layer's attention output may change, relatively", "E")
      .default_text(fmt::format("{}", kUsualTolerance))
      .rare();
  parser
      .add("--max-budget", max_budget_, "--budget auto: most tokens that a layer keeps per KV head",
           "N")
      .range(1, std::numeric_limits<int>::max())
      .default_text("all")
      .rare();
}

Budget ChosenBudgetFlags::parse(std::string_view text) const {
  Budget budget = parse_budget(text);
  if (budget.tolerance == 0) return budget;
  const auto refuse_twice = [&](std::string_view flag) {
    throw Error(
        ErrorCode::kInvalidArgument,
        fmt::format("--budget {} and {} say the same thing; leave one of them out", text, flag));
  };
  if (!tolerance_.empty()) {
    if (text != kAuto) refuse_twice("--tolerance");
    if (!parse_number(tolerance_, budget.tolerance) ||
        !(budget.tolerance > 0 && budget.tolerance < 1)) {
      throw Error(
          ErrorCode::kInvalidArgument,
          fmt::format("--tolerance is \"{}\"; expected a number above 0 and below 1", tolerance_));
    }
  }
  if (max_budget_ > 0) {
    if (budget.tokens > 0) refuse_twice("--max-budget");
    budget.tokens = max_budget_;
  }
  return budget;
}

void ChosenBudgetFlags::refuse() const {
  if (!tolerance_.empty() || max_budget_ > 0) {
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("{} has no effect without --budget auto",
                            tolerance_.empty() ? "--max-budget" : "--tolerance"));
  }
}

CompressionOptions CompressionFlags::resolve() const {
  auto values = values_;
  if (share() && form_ != BudgetForm::kAny) {
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("--budget is {}, but there is no prompt to take a share of; give a "
                            "number of tokens",
                            values_.at(kBudget)));
  }
  if (share() || chooses()) values.erase(kBudget);
  if (const auto given = values.find(kBudget); given != values.end()) {
    int number = 0;
    if (!parse_number(given->second, number)) (void)parse_budget(given->second);  // says why
  }
  CompressionOptions options = say_notices(with_options(method_, values, flag_name));
  if (!chooses()) {
    chosen_.refuse();
  } else if (options.method == "full") {
    throw Error(ErrorCode::kInvalidArgument,
                "--budget has no effect on method full, which keeps everything");
  } else {
    set_budget(options, chosen_.parse(values_.at(kBudget)), 0);
  }
  validate(options);
  return options;
}

std::optional<Budget> CompressionFlags::share() const {
  const auto given = values_.find(kBudget);
  if (given == values_.end() || !given->second.ends_with('%')) return std::nullopt;
  return parse_budget(given->second);
}

bool CompressionFlags::chooses() const {
  const auto given = values_.find(kBudget);
  return form_ != BudgetForm::kNumber && given != values_.end() && given->second.starts_with(kAuto);
}

std::optional<int> CompressionFlags::budget() const {
  const auto given = values_.find(kBudget);
  if (given == values_.end() || share() || chooses()) return std::nullopt;
  CompressionOptions options;
  find_compression_option(kBudget).set(options, given->second);
  return options.budget;
}

std::vector<std::pair<std::string, std::string>> CompressionFlags::files() const {
  std::vector<std::pair<std::string, std::string>> files;
  for (const auto& [option, value] : values_) {
    if (option == kPreset || value == "none") continue;
    if (find_compression_option(option).values == "FILE") {
      files.emplace_back(flag_name(option), value);
    }
  }
  return files;
}

CompressionOptions parse_method(std::string_view text) {
  for (const auto& [option, value] : parse_option_text(text).options) {
    if (option != kBudget) continue;
    throw Error(
        ErrorCode::kInvalidArgument,
        fmt::format("\"{}\" gives a budget, which has a flag of its own; leave it out of the "
                    "method",
                    text));
  }
  return say_notices(parse_compression(text, flag_name));
}

void require_use_for_budget(const std::vector<std::string>& methods) {
  const auto is_full = [](std::string_view text) {
    return find_method(parse_option_text(text).name).name == "full";
  };
  if (!std::ranges::all_of(methods, is_full)) return;
  throw Error(ErrorCode::kInvalidArgument,
              "--budget has no effect on method full, which keeps everything");
}

}  // namespace restkv::cli
