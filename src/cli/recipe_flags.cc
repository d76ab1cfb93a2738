#include "cli/recipe_flags.h"

#include <fmt/format.h>

#include <string>
#include <vector>

#include "base/json.h"
#include "cli/options.h"
#include "restkv/error.h"

namespace restkv::cli {
namespace {

/// Positional arguments have no dashes.
CLI::Option* find_option(CLI::App& app, const std::string& key) {
  CLI::Option* option = app.get_option_no_throw("--" + key);
  return option != nullptr ? option : app.get_option_no_throw(key);
}

/// What would stand on the command line for `value`; nothing if it cannot stand there.
std::vector<std::string> arguments_of(const Json& value, const CLI::Option& option) {
  const bool is_flag = option.get_items_expected_max() == 0;
  if (value.is_boolean() != is_flag) return {};
  if (value.is_boolean() || value.is_number()) return {value.dump()};
  if (value.is_string()) return {value.get<std::string>()};
  if (!value.is_array() || !takes_list(option)) return {};
  std::vector<std::string> list;
  for (const Json& each : value) {
    if (!each.is_string() && !each.is_number()) return {};
    list.push_back(each.is_string() ? each.get<std::string>() : each.dump());
  }
  return list;
}

std::string_view expected(const CLI::Option& option) {
  if (option.get_items_expected_max() == 0) return "true or false";
  return takes_list(option) ? "a text, a number or a list" : "a text or a number";
}

}  // namespace

void apply_recipe(const eval::Recipe& recipe, CLI::App& app, std::string_view group) {
  const auto refuse = [&](const std::string& key, const std::string& reason) {
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("recipe {}: key '{}' {}", recipe.name, key, reason));
  };
  for (const auto& [key, value] : recipe.options.items()) {
    CLI::Option* option = find_option(app, key);
    if (option == nullptr) {
      refuse(key, "is no option of restkv eval; its help shows those that there are");
    }
    if (option->get_group() != group) {
      refuse(key,
             "cannot stand in a recipe, which says what is asked; give it on the command "
             "line");
    }
    const std::vector<std::string> arguments = arguments_of(value, *option);
    if (arguments.empty()) {
      refuse(key, fmt::format("is {}; expected {}", shown(value), expected(*option)));
    }
    if (option->count() > 0) continue;
    try {
      option->add_result(arguments);
      option->run_callback();
    } catch (const CLI::ParseError& e) {
      refuse(key, fmt::format("is {}: {}", shown(value), e.what()));
    }
  }
}

}  // namespace restkv::cli
