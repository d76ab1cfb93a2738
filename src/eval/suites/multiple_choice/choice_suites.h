#pragma once

#include <array>
#include <string_view>
#include <vector>

#include "eval/suite.h"
#include "eval/suites/multiple_choice/multiple_choice.h"
#include "eval/suites/record_task.h"

/// Suites of prompted multiple choice; see multiple_choice.h.
namespace restkv::eval {

Suite anli_suite();       ///< Adversarial NLI, rounds 1 to 3.
Suite glue_suite();       ///< GLUE's development sets.
Suite superglue_suite();  ///< SuperGLUE's validation sets in their published form.

inline constexpr std::array<std::string_view, 1> kHarnessProfile = {"official"};

/// A suite of the tasks that the function `kRecordTasks` makes.
template <std::vector<RecordTask> (*kRecordTasks)()>
Suite choice_suite(std::string_view name, std::string_view summary) {
  return {.name = name,
          .summary = summary,
          .tasks = [] { return task_infos(kRecordTasks()); },
          .open =
              [](const SuiteOptions& options, std::vector<SkippedLine>& skipped) {
                choose_profile(options.profile, kHarnessProfile);
                return open_choice_tasks(kRecordTasks(), options, skipped);
              },
          .summarize = summarize_choices,
          .remark = "prompts and rules of lm-evaluation-harness 0.4.13",
          .multiple_choice = true};
}

}  // namespace restkv::eval
