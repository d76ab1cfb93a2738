#include <fmt/format.h>

#include <cmath>
#include <set>
#include <string>
#include <vector>

#include "eval/notices.h"
#include "report/percent.h"
#include "report/report.h"
#include "report/report_tables.h"

namespace restkv::eval {
namespace {

std::string plural(size_t count, std::string_view noun) {
  return fmt::format("{} {}{}", grouped(count), noun, count == 1 ? "" : "s");
}

std::string interval(const Bounds& bounds, int digits) {
  return fmt::format("95%: {:+.{}f} to {:+.{}f}", bounds.low, digits, bounds.high, digits);
}

/// How the column at the head of a budget does beside the full cache.
std::string beside_full(const RunReport& report, size_t column, int digits) {
  const auto& difference = report.overall.means[column].difference;
  if (!difference) return "";
  const std::string amount = fmt::format("{:.{}f}", std::abs(difference->mean), digits);
  if (difference->clear()) {
    return fmt::format(", {} {} the full cache ({})", amount,
                       difference->mean > 0 ? "above" : "below",
                       interval(*difference->bounds, digits));
  }
  if (difference->bounds) {
    return fmt::format(", not clearly different from the full cache ({:+.{}f}; {})",
                       difference->mean, digits, interval(*difference->bounds, digits));
  }
  for (size_t c = 0; c < report.columns.size(); ++c) {
    if (report.columns[c].budget != Budget()) continue;
    return fmt::format("; the full cache has {:.{}f}", report.overall.means[c].figure, digits);
  }
  return "";
}

std::string sentence(const RunReport& report, const ReportLead& lead) {
  std::string text = kept_text(lead.budget) + " kept: ";
  if (keeps_all(lead.budget, report.longest_prompt)) {
    return text + "nothing was evicted, so that all methods are the full cache.";
  }
  const int digits = report.lower_is_better() ? 2 : 1;
  std::vector<std::string> best;
  for (const size_t c : lead.best) best.push_back(report.columns[c].method);
  const std::string figure =
      fmt::format("{:.{}f}", report.overall.means[lead.best.front()].figure, digits);
  const bool several = best.size() > 1;
  if (lead.second) {
    text +=
        fmt::format("{} {} best with {}, {:.{}f} ahead of {}", listed(best), several ? "are" : "is",
                    figure, lead.lead.mean, digits, report.columns[*lead.second].method);
    if (lead.lead.bounds) {
      text += fmt::format(" ({}{})", interval(*lead.lead.bounds, digits),
                          lead.lead.clear() ? "" : ", so this may be chance");
    }
  } else {
    text += fmt::format("{} {} {}", listed(best), several ? "are equal with" : "has", figure);
  }
  return text + beside_full(report, lead.best.front(), digits) + '.';
}

}  // namespace

std::string kept_text(const Budget& budget) {
  const bool number = budget.share == 0 && budget.tolerance == 0;
  return number ? budget.text() + " tokens" : budget.text();
}

std::string what_was_run(const RunReport& report) {
  std::set<std::string> tasks;
  for (const ReportRow& row : report.rows) tasks.insert(row.task);
  std::set<std::string> methods;
  std::set<Budget> budgets;
  bool full = false;
  for (const ReportColumn& column : report.columns) {
    if (column.budget == Budget()) {
      full = true;
    } else {
      methods.insert(column.method);
      budgets.insert(column.budget);
    }
  }
  std::vector<std::string> names;
  for (const Budget& budget : budgets) names.push_back(budget.text());
  std::string text =
      fmt::format("{}, {}: {}, {} with prompts of up to {}", report.title(), report.model(),
                  plural(tasks.size(), "task"), plural(report.finished, "sample"),
                  plural(report.longest_prompt, "token"));
  if (!methods.empty()) {
    text += fmt::format("; {} with {} kept per layer and KV head{}",
                        methods.size() == 1 ? *methods.begin() : plural(methods.size(), "method"),
                        listed(names), full ? ", beside the full cache" : "");
  } else if (full) {
    text += "; the full cache";
  }
  return text + '.';
}

std::vector<std::string> verdict(const RunReport& report) {
  std::vector<std::string> list;
  for (const ReportLead& lead : report.leads) list.push_back(sentence(report, lead));
  if (!list.empty() && report.few_samples()) {
    list.push_back(fmt::format(
        "Some figures are from fewer than {} samples: small differences are chance, and none is "
        "tested.",
        kFewestForIntervals));
  }
  return list;
}

}  // namespace restkv::eval
