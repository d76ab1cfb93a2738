#include <fmt/format.h>

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "base/text.h"
#include "report/page.h"
#include "report/percent.h"
#include "report/report.h"
#include "report/report_tables.h"
#include "report/svg.h"

namespace restkv::eval {
namespace {

/// Samples of a run that the page shows, and bytes of an answer.
constexpr size_t kShownSamples = 60;
constexpr size_t kShownBytes = 1500;

std::string list_html(const std::vector<std::string>& sentences, std::string_view css_class) {
  if (sentences.empty()) return "";
  std::string text = fmt::format("<ul class=\"{}\">\n", css_class);
  for (const auto& sentence : sentences) text += fmt::format("<li>{}</li>\n", escape(sentence));
  return text + "</ul>\n";
}

std::string tables_html(const std::vector<Table>& tables) {
  std::string text;
  for (const Table& table : tables) {
    text += fmt::format("<h4>{}</h4>\n", escape(table.title));
    if (!table.note.empty()) text += fmt::format("<p class=\"muted\">{}</p>\n", escape(table.note));
    text += table_html(table);
  }
  return text;
}

std::string shortened(const std::string& text) {
  if (text.size() <= kShownBytes) return text;
  return text.substr(0, complete_utf8(std::string_view(text).substr(0, kShownBytes))) + " ...";
}

/// Rounding of a mean over one sample aside.
bool is_right(const ReportAnswer& answer) { return answer.score > 1 - 1e-9; }

std::string sample_html(const RunReport& report, const ReportSample& sample) {
  const auto right = std::ranges::count_if(sample.answers, is_right);
  std::string text = fmt::format(
      "<details><summary>{}, {}{}</summary>\n", escape(sample.task), escape(sample.id),
      sample.lower_is_better ? "" : fmt::format(": {} of {} right", right, sample.answers.size()));
  if (sample.prompt_end.empty()) {
    text += "<p class=\"muted\">The version that made this run did not record prompts.</p>\n";
  } else {
    text += fmt::format(
        "<p class=\"muted\">The end of the prompt, which has {} tokens:</p>\n<pre>{}</pre>\n",
        grouped(sample.prompt_tokens), escape(sample.prompt_end));
  }
  if (!sample.reference.empty()) {
    text +=
        fmt::format("<p>Expected: <strong>{}</strong></p>\n", escape(shortened(sample.reference)));
  }
  text += "<div class=\"answers\">\n";
  for (size_t c = 0; c < sample.answers.size() && c < report.columns.size(); ++c) {
    const ReportAnswer& answer = sample.answers[c];
    const bool good = !sample.lower_is_better && is_right(answer);
    const std::string judged = sample.lower_is_better ? fmt::format("{:.3f}", answer.score)
                               : good                 ? std::string("✓ right")
                               : answer.score > 0     ? fmt::format("◐ {:.2f}", answer.score)
                                                      : std::string("✗ wrong");
    text += fmt::format("<div{}><strong>{}</strong> {}<p>{}</p></div>\n",
                        good ? " class=\"right\"" : "", escape(report.columns[c].name), judged,
                        escape(shortened(answer.text)));
  }
  return text + "</div>\n</details>\n";
}

std::string samples_html(const RunReport& report) {
  const size_t shown = std::min(report.samples.size(), kShownSamples);
  std::string text = fmt::format(
      "<p class=\"muted\">{} of {} samples, first those that the methods answer differently. All "
      "are "
      "in results.jsonl.</p>\n",
      grouped(shown), grouped(report.samples.size()));
  for (size_t i = 0; i < shown; ++i) text += sample_html(report, report.samples[i]);
  return text;
}

/// The picture that sums a run up, null if there is none.
const Picture* first_picture(std::span<const Picture> images) {
  return images.empty() || !images[0].html.empty() ? nullptr : &images[0];
}

/// A part of a run's section.
struct Part {
  std::string id, title, html;
};

std::vector<Part> parts_of(const RunReport& report, std::span<const Picture> images) {
  std::vector<Part> parts;
  const auto add = [&](std::string id, std::string title, std::string html) {
    if (!html.empty()) parts.push_back({std::move(id), std::move(title), std::move(html)});
  };
  std::string pictures;
  for (const Picture& image : images) {
    if (&image != first_picture(images) && image.html.empty()) {
      pictures += figure_html(image.svg, image.caption);
    }
  }
  if (!pictures.empty()) pictures = "<div class=\"pair\">" + pictures + "</div>\n";
  for (const Picture& image : images) {
    if (!image.html.empty()) {
      pictures += fmt::format("<h4>{}</h4>\n{}", escape(image.caption), image.html);
    }
  }
  add("pictures", "Pictures", pictures);
  add("scores", "Scores", tables_html(score_tables(report)));
  add("differences", "Differences", tables_html(difference_tables(report)));
  add("cost", "Cost", tables_html({cost_table(report)}));
  add("samples", "Samples", samples_html(report));
  add("settings", "Settings",
      tables_html({task_table(report), parameter_table(report), settings_table(report)}));
  return parts;
}

}  // namespace

std::string page(std::span<const RunReport> reports, std::span<const std::vector<Picture>> images) {
  const std::string title = "Benchmarks with a compressed KV cache";
  std::string contents;
  std::string body;
  for (size_t r = 0; r < reports.size(); ++r) {
    const RunReport& report = reports[r];
    const std::string run = fmt::format("run-{}", r + 1);
    const std::string heading = fmt::format("{}: {}", report.title(), report.model());
    const std::vector<Part> parts = parts_of(report, images[r]);
    contents += fmt::format("<ul>\n<li><a href=\"#{}\">{}</a></li>\n", run, escape(heading));
    body += fmt::format(
        "<section id=\"{}\">\n<h2>{}</h2>\n<div class=\"split\"><div>\n{}<p>{}</p>\n{}{}</div>\n",
        run, escape(heading), list_html(verdict(report), "verdict"), escape(what_was_run(report)),
        report.question().empty() ? "" : fmt::format("<p>{}</p>\n", escape(report.question())),
        list_html(warnings(report), "muted"));
    if (const Picture* image = first_picture(images[r])) {
      body += figure_html(image->svg, image->caption);
    }
    body += "</div>\n";
    for (const Part& part : parts) {
      const std::string id = fmt::format("{}-{}", run, part.id);
      contents += fmt::format("<li><a href=\"#{}\">{}</a></li>\n", id, part.title);
      body += fmt::format("<h3 id=\"{}\">{}</h3>\n{}", id, part.title, part.html);
    }
    contents += "</ul>\n";
    body += "</section>\n";
  }
  std::string text = fmt::format("<h1>{}</h1>\n<nav aria-label=\"Contents\">\n{}</nav>\n{}", title,
                                 contents, body);
  if (const std::string missing = missing_suites(reports); !missing.empty()) {
    text += fmt::format("<p class=\"muted\">{}</p>\n", escape(missing));
  }
  return html_page(title, text);
}

}  // namespace restkv::eval
