#pragma once

#include <cstddef>
#include <filesystem>
#include <memory>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "eval/suite.h"

/// What a run and its report must say although nobody asks: what was left out, and what a figure
/// does not show.
namespace restkv::eval {

/// Whether a task can run with the files below `data`: "found", "generated" (needs none),
/// "missing", or "needs" where no folder is named.
std::string_view state_of(const TaskInfo& task, const std::filesystem::path& data);

/// The suite's tasks that are not in `opened` because their files are not below `data`. None if
/// `data` is itself the file that was opened.
std::vector<TaskInfo> without_files(const Suite& suite,
                                    std::span<const std::unique_ptr<Task>> opened,
                                    const std::filesystem::path& data);

/// "15 of 16 tasks ..." with their names.
std::string describe_left_out(const Suite& suite, std::span<const TaskInfo> missing);
/// For a suite of which nothing can run: files and where to get them.
std::string describe_missing_files(const Suite& suite, std::span<const TaskInfo> missing);

/// "nothing was evicted at budget 64: ..." for the budgets (0: the full cache) that no prompt
/// exceeded, whose columns compare the full cache with itself. Empty if there is none.
std::string describe_unused_budgets(std::set<int> budgets, size_t longest_prompt);

}  // namespace restkv::eval
