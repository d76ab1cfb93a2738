#include "eval/notices.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <system_error>

#include "eval/suites/find_file.h"

namespace restkv::eval {
namespace {

namespace fs = std::filesystem;

/// The different values of a member of all tasks.
std::string listed(std::span<const TaskInfo> tasks, std::string TaskInfo::*member) {
  std::vector<std::string_view> values;
  for (const TaskInfo& task : tasks) {
    if (std::ranges::find(values, task.*member) == values.end()) values.push_back(task.*member);
  }
  return fmt::format("{}", fmt::join(values, ", "));
}

}  // namespace

std::string_view state_of(const TaskInfo& task, const fs::path& data) {
  if (find_task_file(task, data)) return "found";
  if (task.file.empty() || task.generated_if_missing) return "generated";
  return data.empty() ? "needs" : "missing";
}

std::vector<TaskInfo> without_files(const Suite& suite,
                                    std::span<const std::unique_ptr<Task>> opened,
                                    const fs::path& data) {
  std::error_code ignored;
  if (!opened.empty() && fs::is_regular_file(data, ignored)) return {};
  std::vector<TaskInfo> missing = suite.tasks();
  std::erase_if(missing, [&](const TaskInfo& info) {
    const std::string_view state = state_of(info, data);
    if (state == "found" || state == "generated") return true;
    return std::ranges::any_of(opened, [&](const auto& task) {
      return task->name() == info.name || task->name().starts_with(info.name + "@");
    });
  });
  return missing;
}

std::string describe_left_out(const Suite& suite, std::span<const TaskInfo> missing) {
  return fmt::format(
      "{} of {} tasks are left out, their files are missing: {} (restkv eval {} --list --data DIR "
      "says where to get them)",
      missing.size(), suite.tasks().size(), listed(missing, &TaskInfo::name), suite.name);
}

std::string describe_missing_files(const Suite& suite, std::span<const TaskInfo> missing) {
  return fmt::format(
      "nothing can be run: the files of all {} tasks of {} are missing ({}); get them from {} and "
      "name their folder with --data DIR",
      missing.size(), suite.name, listed(missing, &TaskInfo::file),
      listed(missing, &TaskInfo::source));
}

bool keeps_all(const Budget& budget, size_t prompt_tokens) {
  if (budget == Budget() || budget.tolerance > 0) return false;  // how much it keeps is its choice
  return static_cast<size_t>(budget.of(prompt_tokens)) >= prompt_tokens;
}

std::string describe_unused_budgets(const std::set<Budget>& budgets, size_t longest_prompt) {
  std::vector<std::string> unused;
  for (const Budget& budget : budgets) {
    if (keeps_all(budget, longest_prompt)) unused.push_back(budget.text());
  }
  if (unused.empty() || longest_prompt == 0) return "";
  return fmt::format("nothing was evicted at budget {}: the longest prompt has {} tokens",
                     fmt::join(unused, ", "), longest_prompt);
}

}  // namespace restkv::eval
