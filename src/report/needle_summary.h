#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "report/needle_report.h"
#include "report/table.h"

namespace restkv::eval {

/// Count of found needles.
struct Tally {
  size_t found = 0;
  size_t total = 0;

  [[nodiscard]] bool all() const { return total > 0 && found == total; }
  [[nodiscard]] bool none() const { return found == 0; }
  [[nodiscard]] std::string text() const;  ///< "3/5"
  [[nodiscard]] std::string mark() const;  ///< A tick, a cross, "3/5", or empty without prompts.
};

/// One method at one budget: counts over its cells, and means of the measurements.
struct NeedleRow {
  std::string method;
  int budget = 0;
  Tally tally;
  std::vector<Tally> by_depth;  ///< Like NeedleSummary::depths.
  double kv_mib = 0;
  double prefill_seconds = 0;
  double compress_seconds = 0;
  double decode_tokens_per_second = 0;
};

struct NeedleSummary {
  std::vector<double> depths;   ///< Ascending.
  std::vector<NeedleRow> rows;  ///< By budget, then by first appearance of the method.
};

NeedleSummary summarize(const NeedleReport& report);

/// A table with a row for each row of the summary and, with `with_depths`, a column for each depth.
Table needle_table(const NeedleSummary& summary, bool with_depths);

/// "64 tokens", or "all tokens" for budget 0.
std::string budget_text(int budget);

}  // namespace restkv::eval
