#include <fmt/format.h>

#include <string>
#include <string_view>

#include "report/needle_report.h"
#include "report/needle_summary.h"
#include "report/page.h"
#include "report/percent.h"
#include "report/svg.h"

namespace restkv::eval {
namespace {

Table answers_table(const NeedleReport& report) {
  Table table{
      .title = {},
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

}  // namespace

std::string html(const NeedleReport& report) {
  std::string page = fmt::format(
      "<h1>Needle in a haystack with a small KV cache</h1>\n"
      "<p>A sentence with a seven-digit number (the needle) is hidden in a long text, and the "
      "model "
      "is asked for the number. After reading the prompt, each method keeps only a few tokens per "
      "layer and KV head and forgets the rest: if the needle is forgotten, the answer is "
      "lost.</p>\n"
      "<p class=\"muted\">Model: {0}<br>Machine: {1}<br>Prompt: {2} tokens</p>\n",
      escape(report.model), escape(report.machine), report.prompt_tokens);
  page += "<h2>Which method finds the needle?</h2>\n";
  page += figure_html(
      heatmap_svg(report),
      "How to read it: each panel gives every method the same number of tokens to "
      "keep; a column is a method, a row is the place of the needle in the text, from its start "
      "(0%) to its end (100%). Blue with a tick: the number came back. Orange with a cross: it did "
      "not. Below each column: needles found. Point at a square to read what the model said.");
  page += fmt::format(
      "<h2>What does it cost?</h2>\n{}<p class=\"muted\">Sizes and times are means over the "
      "prompts. "
      "KV MiB: memory of the key/value cache after the prompt. Prefill: reading the prompt. "
      "Compress: choosing the tokens to keep. Decode: speed of writing the answer.</p>\n",
      table_html(needle_table(summarize(report), false)));
  if (!report.maps.empty()) {
    page += "<h2>What is remembered?</h2>\n";
    page += figure_html(
        kept_map_svg(report),
        "How to read it: one block per method, all for the same prompt. A row is one "
        "KV "
        "head of one layer, a column a few neighbouring tokens; the darker (in dark mode: the "
        "brighter) the blue, the more of them the head kept. The orange band is the needle: blue "
        "inside it means that the head still remembers it.");
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
