#pragma once

#include <filesystem>
#include <optional>
#include <string_view>

#include "eval/suite.h"

namespace restkv::eval {

/// Finds the file or folder `name` ("ruler/squad*.json") below `data`, or without the first folder
/// of `name` if `data` is the suite's own folder. One `*` in the last part matches any text; the
/// first match in the order of names is taken. None if there is no match or `data` is empty.
std::optional<std::filesystem::path> find_file(const std::filesystem::path& data,
                                               std::string_view name);

/// The first existing file of the task under one of its names, plain or .gz; none if there is none.
std::optional<std::filesystem::path> find_task_file(const TaskInfo& task,
                                                    const std::filesystem::path& data);

}  // namespace restkv::eval
