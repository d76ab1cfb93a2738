#include <fmt/format.h>

#include <algorithm>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "report/needle_report.h"
#include "report/needle_summary.h"
#include "report/percent.h"

namespace restkv::eval {
namespace {

/// "With 64 of 3,994 tokens kept (1.6%), restkv finds 5 of 5 needles, h2o 1, and snapkv none."
std::string sentence(const NeedleSummary& summary, int budget) {
  std::map<size_t, std::vector<std::string>, std::greater<>> by_found;
  size_t total = 0;
  for (const NeedleRow& row : summary.rows) {
    if (row.budget != budget) continue;
    by_found[row.tally.found].push_back(row.method);
    total = std::max(total, row.tally.total);
  }
  std::vector<std::string> parts;
  for (const auto& [found, methods] : by_found) {
    const std::string number = found == 0 ? "none" : fmt::format("{}", found);
    parts.push_back(parts.empty()
                        ? fmt::format("{} {} {} of {} needles", listed(methods),
                                      methods.size() == 1 ? "finds" : "find", number, total)
                        : fmt::format("{} {}", listed(methods), number));
  }
  std::string text;
  for (size_t i = 0; i < parts.size(); ++i) text += (i == 0 ? "" : "; ") + parts[i];
  if (budget == 0) {
    return fmt::format("With the whole cache the model finds {} of {} needles.",
                       by_found.begin()->first, total);
  }
  return fmt::format("With {} of {} tokens kept ({}), {}.", budget, grouped(summary.prompt_tokens),
                     share_text(budget, summary.prompt_tokens), text);
}

/// How much of ReST-KV's lead over SnapKV is its smoothing of scores, which SnapKV can have, too.
std::string smoothing(const NeedleSummary& summary) {
  std::map<std::string, Tally> tallies;
  for (const NeedleRow& row : summary.rows) {
    if (row.budget == 0) continue;
    tallies[row.method].found += row.tally.found;
    tallies[row.method].total += row.tally.total;
  }
  if (!tallies.contains("restkv") || !tallies.contains("snapkv") ||
      !tallies.contains("snapkv kernel=auto")) {
    return "";
  }
  const Tally ours = tallies["restkv"];
  const Tally smoothed = tallies["snapkv kernel=auto"];
  const Tally plain = tallies["snapkv"];
  std::string text = fmt::format(
      "Over all budgets restkv finds {} of {}, snapkv {}, and snapkv with restkv's smoothing "
      "(kernel=auto) {}.",
      ours.found, ours.total, plain.found, smoothed.found);
  if (ours.found > plain.found && smoothed.found > plain.found) {
    const size_t all = ours.found - plain.found;
    const size_t part = std::min(all, smoothed.found - plain.found);
    text += part == all
                ? fmt::format(" The smoothing brings all {} of the difference.", all)
                : fmt::format(" The smoothing brings {} of the difference of {}.", part, all);
  }
  return text;
}

}  // namespace

std::vector<std::string> conclusion(const NeedleReport& report) {
  const NeedleSummary summary = summarize(report);
  std::vector<std::string> list;
  if (summary.rows.empty()) return list;
  int smallest = 0;
  if (summary.rows.front().budget == 0) list.push_back(sentence(summary, 0));
  for (const NeedleRow& row : summary.rows) {
    if (smallest == 0) smallest = row.budget;
  }
  const int largest = summary.rows.back().budget;
  if (smallest != 0) list.push_back(sentence(summary, smallest));
  if (largest != smallest) list.push_back(sentence(summary, largest));
  if (std::string text = smoothing(summary); !text.empty()) list.push_back(std::move(text));
  size_t prompts = 0;
  for (const NeedleRow& row : summary.rows) prompts = std::max(prompts, row.tally.total);
  if (prompts < 10) {
    list.push_back(fmt::format("{} prompt{}: a difference of one or two needles may be chance.",
                               prompts, prompts == 1 ? "" : "s"));
  }
  return list;
}

}  // namespace restkv::eval
