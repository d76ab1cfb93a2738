#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "report/report.h"

/// The tables of a report, in a form that becomes Markdown, HTML or plain text.
namespace restkv::eval {

struct TableCell {
  std::string text;
  bool strong = false;  ///< The best of its budget.
};

/// The first `labels` columns are names, the rest figures.
struct Table {
  std::string title;
  std::string note;  ///< Below the title; may be empty.
  size_t labels = 1;
  std::vector<std::string> header;
  std::vector<std::vector<TableCell>> rows;
};

/// What a run was: settings in two columns.
Table settings_table(const RunReport& report);
/// Main metric by method and budget (rows) and task (columns), one table per length; then means of
/// categories and lengths, where there are several.
std::vector<Table> score_tables(const RunReport& report);
/// Differences to the full cache with their intervals; empty without a full cache.
std::vector<Table> difference_tables(const RunReport& report);
Table cost_table(const RunReport& report);
Table task_table(const RunReport& report);
Table parameter_table(const RunReport& report);
/// What a reader must know before the figures: subsets, failures, missing samples, cut prompts.
std::vector<std::string> warnings(const RunReport& report);
/// Suites that none of the reports has run, in one sentence; empty if all were run.
std::string missing_suites(std::span<const RunReport> reports);

std::string table_markdown(const Table& table);
/// `text` on one line with every character escaped that Markdown could take for markup: names come
/// from files, and one like "[a](javascript:b)" must not become a link.
std::string markdown_text(std::string_view text);
std::string table_text(const Table& table);

}  // namespace restkv::eval
