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
#include "restkv/budget.h"

/// Notices of runs and reports about tasks that were left out and about the limits of figures.
namespace restkv::eval {

/// State of a task with the files below `data`: "found", "generated" (needs none), "missing", or
/// "needs" if no folder is given.
std::string_view state_of(const TaskInfo& task, const std::filesystem::path& data);

/// The suite's tasks that are not in `opened` because their files are not below `data`. None if
/// `data` is itself the file that was opened.
std::vector<TaskInfo> without_files(const Suite& suite,
                                    std::span<const std::unique_ptr<Task>> opened,
                                    const std::filesystem::path& data);

/// "15 of 16 tasks ..." with their names.
std::string describe_left_out(const Suite& suite, std::span<const TaskInfo> missing);
/// Message for a suite without a runnable task: its files and their sources.
std::string describe_missing_files(const Suite& suite, std::span<const TaskInfo> missing);

/// Whether a budget (not 0, which is the full cache) holds a whole prompt of so many tokens.
bool keeps_all(const Budget& budget, size_t prompt_tokens);

/// "nothing was evicted at budget 64: ..." for budgets (0: the full cache) that no prompt exceeded:
/// their columns compare the full cache with itself. Empty if there are none.
std::string describe_unused_budgets(const std::set<Budget>& budgets, size_t longest_prompt);

}  // namespace restkv::eval
