#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "report/report.h"
#include "report/table.h"

/// The tables of a report.
namespace restkv::eval {

/// The settings of a run in two columns.
Table settings_table(const RunReport& report);
/// Main metric by method and budget (rows) and task (columns), one table per length; then means of
/// categories and lengths, where there are several.
std::vector<Table> score_tables(const RunReport& report);
/// Differences to the full cache with their intervals; empty without a full cache.
std::vector<Table> difference_tables(const RunReport& report);
Table cost_table(const RunReport& report);
Table task_table(const RunReport& report);
Table parameter_table(const RunReport& report);
/// Warnings before the figures: subsets, failures, missing samples, cut prompts.
std::vector<std::string> warnings(const RunReport& report);
/// "64 tokens", "25%"
std::string kept_text(const Budget& budget);
/// Suites that none of the reports has run, in one sentence; empty if all were run.
std::string missing_suites(std::span<const RunReport> reports);

}  // namespace restkv::eval
