#pragma once

#include <filesystem>
#include <optional>
#include <string_view>

#include "eval/suite.h"

namespace restkv::eval {

/// The file or folder `name` below `data` ("ruler/squad*.json"; one `*` in the last part stands for
/// anything, and of several the first in the order of names is taken), or without the first folder
/// of `name`, where `data` is the suite's own folder. Nothing if there is none or `data` is empty.
std::optional<std::filesystem::path> find_file(const std::filesystem::path& data,
                                               std::string_view name);

/// The first of the task's files that is there under one of its names, plain or .gz. Nothing if
/// there is none.
std::optional<std::filesystem::path> find_task_file(const TaskInfo& task,
                                                    const std::filesystem::path& data);

}  // namespace restkv::eval
