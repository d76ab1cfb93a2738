#include "eval/recipe.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <vector>

#include "base/file.h"
#include "base/find_named.h"
#include "base/json.h"
#include "eval/recipe_files.h"
#include "restkv/error.h"

namespace restkv::eval {
namespace {

/// Throws `Error` (kInput) with `where` and the reason.
Recipe parse_recipe(std::string name, std::string_view content, std::string_view where) {
  Recipe recipe;
  recipe.name = std::move(name);
  recipe.options = parse_json(content, where).sorted();
  try {
    recipe.title = text_field(recipe.options, "title");
    for (const auto& [key, text] :
         {std::pair("question", &recipe.question), {"source", &recipe.source}}) {
      if (recipe.options.contains(key)) *text = text_field(recipe.options, key);
    }
  } catch (const Error& error) {
    throw Error(ErrorCode::kInput, fmt::format("{}: {}", where, error.what()));
  }
  for (const char* key : {"title", "question", "source"}) recipe.options.erase(key);
  return recipe;
}

}  // namespace

std::span<const Recipe> recipes() {
  static const std::vector<Recipe> kRecipes = [] {
    std::vector<Recipe> list;
    for (const RecipeFile& file : recipe_files()) {
      list.push_back(parse_recipe(std::string(file.name), file.content,
                                  fmt::format("the built-in recipe {}", file.name)));
    }
    return list;
  }();
  return kRecipes;
}

Recipe find_recipe(std::string_view name_or_file) {
  if (name_or_file.ends_with(".json")) {
    const std::string file(name_or_file);
    return parse_recipe(file, read_file(file), file);
  }
  return find_named(recipes(), &Recipe::name, name_or_file,
                    "there is no recipe '{}'; known: {}, or a file whose name ends in .json");
}

Json about(const Recipe& recipe) {
  return {{"name", recipe.name},
          {"title", recipe.title},
          {"question", recipe.question},
          {"source", recipe.source}};
}

Json to_json(const Recipe& recipe) {
  Json json = about(recipe);
  json.erase("name");
  for (const auto& [key, value] : recipe.options.items()) json[key] = value;
  return json;
}

}  // namespace restkv::eval
