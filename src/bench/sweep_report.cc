#include "bench/sweep_report.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <optional>
#include <set>
#include <vector>

#include "report/line_chart.h"
#include "report/table.h"

namespace restkv::bench {
namespace {

constexpr double kMiB = 1 << 20;

Json figures_of(const Sweep& sweep, const CaseResult& r) {
  const Case& c = r.point;
  const Limits& limits = sweep.limits.at(c.threads);
  Json json{{"prompt_tokens", c.tokens},
            {"method", c.method},
            {"budget", c.full() ? c.tokens : static_cast<size_t>(c.compression.budget)},
            {"kv_type", kv_type_name(c.kv_type)},
            {"threads", c.threads},
            {"sparse", c.sparse},
            {"runs", r.runs.size()}};
  if (!sweep.plan.synthetic) {
    const double seconds = r.least(&Measurement::prefill_seconds);
    const double flops = r.runs.front().prefill_flops / seconds;
    json["time_to_first_token_seconds"] = seconds;
    json["prefill_tokens_per_second"] = static_cast<double>(c.tokens) / seconds;
    json["sparse_density"] = r.runs.front().sparse_density;
    if (sweep.plan.sparse_recall) json["sparse_recall"] = r.runs.front().sparse_recall;
    json["prefill_flops_per_second"] = flops;
    json["prefill_share_of_sgemm"] = flops / limits.sgemm_flops_per_second;
    json["compress_seconds"] = r.least(&Measurement::compress_seconds);
    json["compress_share_of_prefill"] = r.least(&Measurement::compress_seconds) / seconds;
    json["peak_resident_bytes"] = r.least(&Measurement::peak_resident_bytes);
  }
  const double per_token =
      r.least(&Measurement::decode_seconds) / static_cast<double>(sweep.plan.decode);
  const double bytes = r.runs.front().decode_bytes / per_token;
  json["decode_tokens_per_second"] = 1 / per_token;
  json["decode_bytes_per_second"] = bytes;
  json["decode_share_of_read_bandwidth"] = bytes / limits.read_bytes_per_second;
  json["kv_bytes"] = r.runs.front().kv_bytes;
  return json;
}

/// Name of a line of a chart: all parameters that vary besides the x axis.
std::string series_name(const Sweep& sweep, const Case& c, bool budget_is_axis,
                        bool threads_are_axis) {
  const auto varies = [&](auto&& of) {
    return std::ranges::any_of(sweep.results,
                               [&](const CaseResult& r) { return of(r.point) != of(c); });
  };
  std::string name = c.full() ? "full cache" : c.method;
  if (!c.full() && !budget_is_axis) name += fmt::format(", {} kept", c.compression.budget);
  if (varies([](const Case& p) { return p.kv_type; })) {
    name += fmt::format(", {}", kv_type_name(c.kv_type));
  }
  if (c.sparse != "dense") name += ", " + c.sparse;
  if (!threads_are_axis && varies([](const Case& p) { return p.threads; })) {
    name += fmt::format(", {} threads", c.threads);
  }
  return name;
}

}  // namespace

Json figures(const Sweep& sweep) {
  Json list = Json::array();
  for (const CaseResult& r : sweep.results) list.push_back(figures_of(sweep, r));
  return list;
}

std::string table(const Sweep& sweep) {
  constexpr double kPercent = 0.01;
  eval::Table table;
  std::string common;  // settings of all rows
  table.rows.resize(sweep.results.size());
  const auto add = [&](const char* heading, const auto& cell) {
    table.header.emplace_back(heading);
    for (size_t i = 0; i < table.rows.size(); ++i) {
      table.rows[i].push_back({.text = cell(sweep.results[i])});
    }
  };
  const auto figure = [&](const char* key, double unit, int digits) {
    return [&sweep, key, unit, digits](const CaseResult& r) {
      return fmt::format("{:.{}f}", figures_of(sweep, r).at(key).get<double>() / unit, digits);
    };
  };
  // A column for what differs, and a note of what does not.
  const auto add_setting = [&](const char* heading, const auto& cell) {
    std::set<std::string> values;
    for (const CaseResult& r : sweep.results) values.insert(cell(r));
    if (values.size() > 1) {
      add(heading, cell);
    } else if (!values.empty()) {
      common += fmt::format("{} {} {}", common.empty() ? "All:" : ",", heading, *values.begin());
    }
  };

  add("tokens", [](const CaseResult& r) { return fmt::format("{}", r.point.tokens); });
  add("method", [](const CaseResult& r) { return r.point.method; });
  add("budget", [](const CaseResult& r) {
    return r.point.full() ? "-" : fmt::format("{}", r.point.compression.budget);
  });
  add_setting("cache type",
              [](const CaseResult& r) { return std::string(kv_type_name(r.point.kv_type)); });
  add_setting("threads", [](const CaseResult& r) { return fmt::format("{}", r.point.threads); });
  if (!sweep.plan.synthetic) {
    add_setting("sparse", [](const CaseResult& r) { return r.point.sparse; });
  }
  table.labels = table.header.size();
  if (!sweep.plan.synthetic) {
    if (std::ranges::any_of(sweep.results,
                            [](const CaseResult& r) { return r.point.sparse != "dense"; })) {
      add("density %", figure("sparse_density", kPercent, 1));
    }
    if (sweep.plan.sparse_recall) add("recall %", figure("sparse_recall", kPercent, 1));
    add("read/s", figure("prefill_tokens_per_second", 1, 1));
    const auto choosing = figure("compress_share_of_prefill", kPercent, 2);
    add("choosing %", [&](const CaseResult& r) {  // the full cache is only copied
      return r.point.full() ? std::string("-") : choosing(r);
    });
  }
  add("written/s", figure("decode_tokens_per_second", 1, 1));
  add("cache MiB", figure("kv_bytes", kMiB, 1));
  if (!sweep.plan.synthetic) add("peak MiB", figure("peak_resident_bytes", kMiB, 1));
  std::string text = eval::table_text(table);
  if (!common.empty()) text += common + "\n";
  return text;
}

std::string csv(const Sweep& sweep) {
  std::string text;
  for (const CaseResult& r : sweep.results) {
    const Json f = figures_of(sweep, r);
    std::string line;
    std::string heading;
    for (const auto& [key, value] : f.items()) {
      heading += (heading.empty() ? "" : ",") + key;
      line += line.empty() ? "" : ",";
      line += value.is_string() ? value.get<std::string>() : value.dump();
    }
    if (text.empty()) text = heading + "\n";
    text += line + "\n";
  }
  return text;
}

std::string svg(const Sweep& sweep, std::string_view subtitle) {
  std::set<size_t> lengths;
  std::set<size_t> budgets;
  std::set<size_t> threads;
  for (const CaseResult& r : sweep.results) {
    lengths.insert(r.point.tokens);
    if (!r.point.full()) budgets.insert(static_cast<size_t>(r.point.compression.budget));
    threads.insert(static_cast<size_t>(r.point.threads));
  }
  const bool by_budget = lengths.size() == 1 && budgets.size() > 1;
  const bool by_threads = lengths.size() == 1 && !by_budget && threads.size() > 1;
  const std::set<size_t>& axis = by_budget ? budgets : by_threads ? threads : lengths;
  const char* label = by_budget    ? "tokens kept per layer and KV head"
                      : by_threads ? "threads"
                                   : "prompt length in tokens";

  std::vector<eval::LineChart> charts;
  // `figure` is that of one run; the curve is the best of all, the bars are the range of all.
  const auto add = [&](const char* title, const char* key, double unit, bool logarithmic,
                       const std::function<double(const Measurement&)>& figure) {
    eval::LineChart chart{.title = title,
                          .subtitle = logarithmic ? "logarithmic scale" : "",
                          .x_label = label,
                          .x = {},
                          .series = {},
                          .full = {},
                          .logarithmic = logarithmic};
    const std::vector<size_t> xs(axis.begin(), axis.end());
    for (const size_t x : xs) chart.x.push_back(fmt::format("{}", x));
    for (const CaseResult& r : sweep.results) {
      const std::string name = series_name(sweep, r.point, by_budget, by_threads);
      auto line = std::ranges::find(chart.series, name, &eval::Series::name);
      if (line == chart.series.end()) {
        const double none = std::numeric_limits<double>::quiet_NaN();
        line = chart.series.insert(line, {name, std::vector(xs.size(), none),
                                          std::vector<std::optional<eval::Whisker>>(xs.size())});
      }
      const size_t x = by_budget    ? static_cast<size_t>(r.point.compression.budget)
                       : by_threads ? static_cast<size_t>(r.point.threads)
                                    : r.point.tokens;
      const double value = figures_of(sweep, r).at(key).get<double>() / unit;
      std::optional<eval::Whisker> range;
      if (r.runs.size() > 1) {
        range.emplace(eval::Whisker{value, value});
        for (const Measurement& run : r.runs) {
          range->low = std::min(range->low, figure(run) / unit);
          range->high = std::max(range->high, figure(run) / unit);
        }
      }
      if (by_budget && r.point.full()) {
        std::ranges::fill(line->values, value);  // independent of the budget
        std::ranges::fill(line->whiskers, range);
      } else {
        const auto at = static_cast<size_t>(std::ranges::lower_bound(xs, x) - xs.begin());
        line->values[at] = value;
        line->whiskers[at] = range;
      }
    }
    charts.push_back(std::move(chart));
  };
  if (!sweep.plan.synthetic) {
    add("Time to the first token, seconds", "time_to_first_token_seconds", 1, true,
        [](const Measurement& run) { return run.prefill_seconds; });
  }
  add("Decoded tokens per second", "decode_tokens_per_second", 1, false,
      [&](const Measurement& run) {
        return static_cast<double>(sweep.plan.decode) / run.decode_seconds;
      });
  if (sweep.plan.synthetic) {
    add("Keys and values kept, MiB", "kv_bytes", kMiB, true,
        [](const Measurement& run) { return static_cast<double>(run.kv_bytes); });
  } else {
    add("Peak memory, MiB", "peak_resident_bytes", kMiB, false,
        [](const Measurement& run) { return static_cast<double>(run.peak_resident_bytes); });
  }
  return eval::line_charts("restkv bench", subtitle, charts);
}

}  // namespace restkv::bench
