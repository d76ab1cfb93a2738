#include <fmt/format.h>

#include <string>
#include <string_view>

#include "report/needle_report.h"
#include "report/needle_summary.h"
#include "report/svg.h"

namespace restkv::eval {
namespace {

constexpr std::string_view kStyle = R"(
:root{color-scheme:light dark}
body{margin:0 auto;padding:2rem 1.25rem 4rem;max-width:1200px;background:#fff;color:#1f2328;
font:16px/1.55 system-ui,-apple-system,"Segoe UI",Roboto,"DejaVu Sans",sans-serif}
h1{font-size:1.9rem;line-height:1.2;margin:0 0 .5rem}h2{font-size:1.3rem;margin:2.6rem 0 .5rem}
p,figcaption{max-width:75ch;margin:.5rem 0}figcaption,.muted{color:#57606a}
figure{margin:0}.wide{overflow-x:auto}svg{max-width:100%;min-width:760px;height:auto;display:block}
table{border-collapse:collapse;font-variant-numeric:tabular-nums;margin:.75rem 0}
th,td{padding:.3rem .8rem;text-align:right;vertical-align:top;white-space:nowrap;border-bottom:1px solid #d0d7de}
th:first-child,td:first-child,td.said{text-align:left}th{border-bottom-width:2px}
tr.group td{border-top:2px solid #afb8c1}td.said{white-space:pre-wrap;overflow-wrap:anywhere}
pre{white-space:pre-wrap;padding:1rem;background:#f6f8fa;border-radius:6px;font-size:.85rem}
mark{background:#ffd59a;color:#1f2328}summary{cursor:pointer}
@media(prefers-color-scheme:dark){
body{background:#0d1117;color:#e6edf3}figcaption,.muted{color:#9da7b3}
th,td{border-color:#30363d}tr.group td{border-top-color:#57606a}pre{background:#161b22}
}
)";

std::string table_html(const NeedleSummary& summary) {
  std::string text = "<div class=\"wide\"><table>\n<tr>";
  for (const auto& column : needle_columns()) text += fmt::format("<th>{}</th>", column.header);
  text += "</tr>\n";
  for (const auto& row : summary.rows) {
    const bool starts_group = &row != &summary.rows.front() && (&row)[-1].budget != row.budget;
    text += starts_group ? "<tr class=\"group\">" : "<tr>";
    for (const auto& column : needle_columns()) {
      text += fmt::format("<td>{}</td>", escape(column.text(row)));
    }
    text += "</tr>\n";
  }
  return text + "</table></div>\n";
}

std::string answers_html(const NeedleReport& report) {
  std::string text =
      "<div class=\"wide\"><table>\n<tr><th>method</th><th>kept per head</th><th>depth</th>"
      "<th>found</th><th>asked for</th><th>the model said</th></tr>\n";
  for (const auto& cell : report.cells) {
    text += fmt::format(
        "<tr><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td class=\"said\">{}</td>"
        "</tr>\n",
        escape(cell.method), budget_text(cell.budget), percent(cell.depth), cell.found ? "✓" : "✗",
        escape(cell.answer), escape(cell.output));
  }
  return text + "</table></div>\n";
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
  const NeedleSummary summary = summarize(report);
  std::string page = fmt::format(
      "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
      "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n"
      "<title>Needle in a haystack: {0}</title>\n<style>{1}</style>\n</head>\n<body>\n"
      "<h1>Needle in a haystack with a small KV cache</h1>\n"
      "<p>A sentence with a seven-digit number (the needle) is hidden in a long text, and the "
      "model "
      "is asked for the number. After reading the prompt, each method keeps only a few tokens per "
      "layer and KV head and forgets the rest: if the needle is forgotten, the answer is "
      "lost.</p>\n"
      "<p class=\"muted\">Model: {0}<br>Machine: {2}<br>Prompt: {3} tokens</p>\n",
      escape(report.model), kStyle, escape(report.machine), report.prompt_tokens);
  page += fmt::format(
      "<h2>Which method finds the needle?</h2>\n<figure><div class=\"wide\">{}</div>\n"
      "<figcaption>How to read it: each panel gives every method the same number of tokens to "
      "keep; a column is a method, a row is the place of the needle in the text, from its start "
      "(0%) to its end (100%). Blue with a tick: the number came back. Orange with a cross: it did "
      "not. Below each column: needles found. Point at a square to read what the model said."
      "</figcaption></figure>\n",
      heatmap_svg(report));
  page += fmt::format(
      "<h2>What does it cost?</h2>\n{}<p class=\"muted\">Sizes and times are means over the "
      "prompts. "
      "KV MiB: memory of the key/value cache after the prompt. Prefill: reading the prompt. "
      "Compress: choosing the tokens to keep. Decode: speed of writing the answer.</p>\n",
      table_html(summary));
  if (!report.maps.empty()) {
    page += fmt::format(
        "<h2>What is remembered?</h2>\n<figure><div class=\"wide\">{}</div>\n"
        "<figcaption>How to read it: one block per method, all for the same prompt. A row is one "
        "KV "
        "head of one layer, a column a few neighbouring tokens; the darker (in dark mode: the "
        "brighter) the blue, the more of them the head kept. The orange band is the needle: blue "
        "inside it means that the head still remembers it.</figcaption></figure>\n",
        kept_map_svg(report));
  }
  page += fmt::format(
      "<h2>What did the models say?</h2>\n<details><summary>All {} answers</summary>\n"
      "{}</details>\n",
      report.cells.size(), answers_html(report));
  if (!report.example_prompt.empty()) {
    page += fmt::format(
        "<h2>What does a prompt look like?</h2>\n<details><summary>The prompt, its needle "
        "highlighted</summary>\n<pre>{}</pre>\n</details>\n",
        example_html(report));
  }
  return page + "</body>\n</html>\n";
}

}  // namespace restkv::eval
