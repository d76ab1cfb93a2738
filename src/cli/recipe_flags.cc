#include "cli/recipe_flags.h"

#include <fmt/format.h>

#include <string>
#include <vector>

#include "base/json.h"
#include "restkv/error.h"

namespace restkv::cli {
namespace {

/// What would stand on the command line for `value`; nothing if it cannot stand there.
std::vector<std::string> arguments_of(const Json& value, const Option& option) {
  if (value.is_boolean() == option.takes_value()) return {};
  if (value.is_boolean() || value.is_number()) return {value.dump()};
  if (value.is_string()) return {value.get<std::string>()};
  if (!value.is_array() || !option.takes_list()) return {};
  std::vector<std::string> list;
  for (const Json& each : value) {
    if (!each.is_string() && !each.is_number()) return {};
    list.push_back(each.is_string() ? each.get<std::string>() : each.dump());
  }
  return list;
}

std::string_view expected(const Option& option) {
  if (!option.takes_value()) return "true or false";
  return option.takes_list() ? "a text, a number or a list" : "a text or a number";
}

}  // namespace

void apply_recipe(const eval::Recipe& recipe, ArgumentParser& parser, std::string_view group) {
  const auto refuse = [&](const std::string& key, const std::string& reason) {
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("recipe {}: key '{}' {}", recipe.name, key, reason));
  };
  for (const auto& [key, value] : recipe.options.items()) {
    Option* option = parser.find(key);
    if (option == nullptr) {
      refuse(key, "is no option of restkv eval; its help shows those that there are");
    }
    if (option->group() != group) {
      refuse(key,
             "cannot stand in a recipe, which says what is asked; give it on the command "
             "line");
    }
    const std::vector<std::string> arguments = arguments_of(value, *option);
    if (arguments.empty()) {
      refuse(key, fmt::format("is {}; expected {}", shown(value), expected(*option)));
    }
    if (option->given()) continue;
    try {
      option->set(arguments);
    } catch (const Error& e) {
      refuse(key, fmt::format("is {}: {}", shown(value), e.what()));
    }
  }
}

}  // namespace restkv::cli
