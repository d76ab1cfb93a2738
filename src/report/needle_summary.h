#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "report/heat_chart.h"
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
  double compress_seconds = 0;
  double decode_tokens_per_second = 0;
};

struct NeedleSummary {
  size_t prompt_tokens = 0;
  double prefill_seconds = 0;   ///< Mean; one prefill serves all methods.
  std::vector<double> depths;   ///< Ascending.
  std::vector<NeedleRow> rows;  ///< By budget, then by first appearance of the method.
};

NeedleSummary summarize(const NeedleReport& report);

/// A table with a row for each row of the summary and, with `with_depths`, a column for each depth.
Table needle_table(const NeedleSummary& summary, bool with_depths);

/// "64 tokens", or "all tokens" for budget 0.
std::string budget_text(int budget);
/// "1.6%" of a prompt, "all" of a shorter one.
std::string share_text(int budget, size_t prompt_tokens);
/// "64 tokens (1.6%)"
std::string budget_share_text(int budget, size_t prompt_tokens);

/// What became of the needle's tokens.
struct MagnifiedNeedle {
  size_t heads = 0;
  std::vector<size_t> keeping;  ///< For each token: the heads that keep it.
  size_t answer_begin = 0;  ///< The number is the tokens [answer_begin, answer_end) of the needle;
  size_t answer_end = 0;    ///< none if it is not found in their texts.
  size_t whole = 0;         ///< Heads that keep the whole number.

  [[nodiscard]] double share(size_t token) const;
  /// "14% to 80% of the heads keep ...".
  [[nodiscard]] std::string text() const;
};

/// A panel for each budget with a column for each method and a row for each depth.
HeatChart needle_chart(const NeedleReport& report);

MagnifiedNeedle magnified(const KeptMap& map);
/// The needles of all maps as text, shaded by the heads that keep each token; empty without texts.
std::string magnified_html(const NeedleReport& report);

}  // namespace restkv::eval
