#pragma once

#include <span>
#include <string_view>

namespace restkv::eval {

struct RecipeFile {
  std::string_view name;  ///< Without folder and ending.
  std::string_view content;
};

/// The recipe files embedded at build time, by name.
std::span<const RecipeFile> recipe_files();

}  // namespace restkv::eval
