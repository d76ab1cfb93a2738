#include <fmt/format.h>

#include <algorithm>
#include <string>
#include <string_view>

#include "report/heat_chart.h"
#include "report/needle_report.h"
#include "report/needle_summary.h"
#include "report/page.h"
#include "report/percent.h"
#include "report/svg.h"

namespace restkv::eval {
namespace {

Table answers_table(const NeedleReport& report) {
  Table table{
      .title = "All answers",
      .note = {},
      .labels = 6,
      .header = {"method", "kept per head", "depth", "found", "asked for", "the model said"},
      .rows = {}};
  for (const NeedleCell& cell : report.cells) {
    table.rows.push_back({{cell.method},
                          {budget_text(cell.budget)},
                          {percent(cell.depth)},
                          {cell.found ? "✓" : "✗"},
                          {cell.answer},
                          {cell.output}});
  }
  return table;
}

/// The example prompt with its needle highlighted.
std::string example_html(const NeedleReport& report) {
  const std::string_view prompt = report.example_prompt;
  const std::string_view needle = report.example_needle;
  const size_t at = needle.empty() ? std::string_view::npos : prompt.find(needle);
  if (at == std::string_view::npos) return escape(prompt);
  return fmt::format("{}<mark>{}</mark>{}", escape(prompt.substr(0, at)), escape(needle),
                     escape(prompt.substr(at + needle.size())));
}

std::string fact(std::string_view name, std::string_view value) {
  if (value.empty()) return "";
  return fmt::format("<dt>{}</dt><dd>{}</dd>\n", name, escape(value));
}

/// What was measured, with what, and how to do it again.
std::string facts_html(const NeedleReport& report, const NeedleSummary& summary) {
  std::string budgets;
  int last = 0;
  for (const NeedleRow& row : summary.rows) {
    if (row.budget == last) continue;
    last = row.budget;
    budgets += fmt::format("{}{} = {}", budgets.empty() ? "" : ", ", row.budget,
                           share_text(row.budget, report.prompt_tokens));
  }
  std::string text = "<div><dl>\n";
  text += fact("Model", report.model);
  text += fact("Machine", report.machine);
  text +=
      fact("Prompts", fmt::format("{} of {} tokens, read in {:.2f} s each, once for all methods",
                                  summary.depths.size(), grouped(report.prompt_tokens),
                                  summary.prefill_seconds));
  text += fact("Kept per head", budgets);
  text += fact("restkv", report.version);
  text += fact("Date", report.date);
  text += "</dl>\n";
  if (!report.command.empty()) {
    std::string lines;  // an option in each, broken where shells allow it
    for (size_t begin = 0; begin < report.command.size();) {
      const size_t end = std::min(report.command.find(" --", begin + 1), report.command.size());
      lines += begin == 0 ? "" : " \\\n ";
      lines += report.command.substr(begin, end - begin);
      begin = end;
    }
    text += fmt::format("<p class=\"muted\">The same again:</p>\n<pre>{}</pre>\n", escape(lines));
  }
  return text + "</div>\n";
}

}  // namespace

std::string html(const NeedleReport& report) {
  const NeedleSummary summary = summarize(report);
  std::string page = "<h1>Needle in a haystack with a small KV cache</h1>\n";
  page += "<div class=\"split\"><div>\n<ul class=\"verdict\">\n";
  for (const std::string& sentence : conclusion(report)) {
    page += fmt::format("<li>{}</li>\n", escape(sentence));
  }
  page +=
      "</ul>\n<p>A sentence with a seven-digit number (the needle) is hidden in a long text, and "
      "the "
      "model is asked for the number. After reading the prompt, each method keeps only a few "
      "tokens "
      "per layer and KV head and forgets the rest: if the needle is forgotten, the answer is "
      "lost.</p>\n<p class=\"muted\">One number among words is the easiest thing to keep, and a "
      "small "
      "model is easily confused: other tasks and models may rank methods in another way.</p>\n"
      "</div>\n";
  page += facts_html(report, summary) + "</div>\n";
  page +=
      "<h2>Which method finds the needle?</h2>\n<p class=\"muted\">A table for each number of "
      "tokens "
      "kept. A row is a method, a column the place of the needle in the text, from its start (0%) "
      "to its end (100%). Choose a square to read what the model said.</p>\n";
  HeatChart chart = needle_chart(report);
  chart.note.clear();
  chart.rows.clear();  // short ones, so that all squares are as wide
  for (const double depth : summary.depths) chart.rows.push_back(percent(depth));
  page += heat_html(chart, "answer");
  page += fmt::format(
      "<h2>What does it cost?</h2>\n{}<p class=\"muted\">Means over the prompts; the most needles "
      "of a budget are marked. Cache: memory of the keys and values after the prompt. Choosing: "
      "the "
      "time to choose the tokens to keep. Decode: speed of writing the answer.</p>\n",
      table_html(needle_table(summary, false)));
  if (!report.maps.empty()) {
    const std::string needles = magnified_html(report);
    page += "<h2>What is remembered?</h2>\n";
    if (!needles.empty()) {
      page += fmt::format(
          "<p class=\"muted\">The needle of one prompt, token by token: the bluer, the more heads "
          "keep the token. Below each token of the number: the share of heads that keep "
          "it.</p>\n{}",
          needles);
    }
    page += fmt::format(
        "<details><summary>The whole prompt, every layer and head</summary>\n"
        "<figure><div class=\"wide large\" role=\"region\" tabindex=\"0\" aria-label=\"Kept "
        "tokens\">"
        "{}</div><figcaption>One block per method. A row is one KV head of one layer, a column a "
        "few "
        "neighbouring tokens; the darker (in dark mode: the brighter) the blue, the more of them "
        "the "
        "head kept. The orange band is the needle. On a narrow screen the picture scrolls "
        "sideways.</figcaption></figure>\n</details>\n",
        kept_map_svg(report));
  }
  page += fmt::format(
      "<h2>What did the models say?</h2>\n<details><summary>All {} answers</summary>\n"
      "{}</details>\n",
      report.cells.size(), table_html(answers_table(report)));
  if (!report.example_prompt.empty()) {
    page += fmt::format(
        "<h2>What does a prompt look like?</h2>\n<details><summary>The prompt, its needle "
        "highlighted</summary>\n<pre>{}</pre>\n</details>\n",
        example_html(report));
  }
  return html_page("Needle in a haystack: " + report.model, page);
}

}  // namespace restkv::eval
