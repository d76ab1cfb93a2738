#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace restkv {

/// The name of one file of a model that is split into several, as llama.cpp's programs give it:
/// "model-00001-of-00003.gguf".
struct SplitName {
  std::string stem;   ///< With the folder: "models/model".
  size_t number = 0;  ///< From 1 on.
  size_t count = 0;
};

/// None if the path does not end as such a name.
std::optional<SplitName> parse_split_name(std::string_view path);
/// The path of the part with this number, from 1 on.
std::string split_path(const SplitName& name, size_t number);

/// The files of the model that is opened by `path`: all parts if it is the first of a split model
/// that is there as a whole, otherwise `path` alone.
std::vector<std::string> model_files(const std::string& path);
/// What to call a model that has no better name: the name of its file without the folder, the
/// number of the part and ".gguf".
std::string model_file_name(const std::string& path);

}  // namespace restkv
