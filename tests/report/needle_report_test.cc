#include "report/needle_report.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <regex>
#include <sstream>

#include "base/json.h"
#include "report/markup.h"
#include "report/needle_summary.h"
#include "restkv/error.h"

namespace restkv::eval {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::Not;

constexpr std::string_view kHostile = "<script>alert(\"&'|\")</script>\xC3";

NeedleCell cell(std::string method, int budget, double depth, bool found) {
  NeedleCell c;
  c.method = std::move(method);
  c.budget = budget;
  c.depth = depth;
  c.found = found;
  c.answer = "1234567";
  c.output = found ? " 1234567." : " nothing";
  c.kv_mib = budget == 0 ? 88 : budget / 32.0;
  c.prefill_seconds = 2 + depth;
  c.compress_seconds = budget == 0 ? 0 : 0.25;
  c.decode_tokens_per_second = budget == 0 ? 50 : 100;
  return c;
}

/// Two methods at two budgets and the full cache, given in a mixed order.
NeedleReport small_report() {
  NeedleReport report;
  report.model = "tiny & <small>";
  report.machine = "a CPU, 2 threads";
  report.version = "1.2.3";
  report.date = "2026-11-30";
  report.command = "restkv demo -m 'a b.gguf' --seed 42";
  report.prompt_tokens = 4000;
  for (const double depth : {1.0, 0.0, 0.5}) {
    report.cells.push_back(cell("snapkv", 128, depth, depth == 1));
    report.cells.push_back(cell("restkv", 128, depth, true));
    report.cells.push_back(cell("restkv", 64, depth, depth != 0.5));
    report.cells.push_back(cell("full", 0, depth, true));
    report.cells.push_back(cell("snapkv", 64, depth, false));
  }
  KeptMap map;
  map.method = "restkv";
  map.budget = 64;
  map.prompt_tokens = 40;
  map.needle_begin = 10;
  map.needle_end = 14;
  map.keep = {{{0, 1, 10, 11}, {12, 39}}, {{5, 6, 7}}};  // ragged
  report.maps.push_back(map);
  report.example_prompt = "Some text. The needle & more. The rest.";
  report.example_needle = "The needle & more.";
  return report;
}

NeedleReport hostile_report() {
  NeedleReport report = small_report();
  const std::string hostile(kHostile);
  for (auto& c : report.cells) c.method = c.answer = c.output = hostile;
  report.model = report.machine = report.maps[0].method = hostile;
  report.example_prompt = hostile + hostile;
  report.example_needle = hostile;
  return report;
}

size_t count(std::string_view text, std::string_view part) {
  size_t n = 0;
  for (size_t at = 0; (at = text.find(part, at)) != std::string_view::npos; ++at) ++n;
  return n;
}

TEST(NeedleSummary, GroupsByBudgetAndKeepsTheOrderOfMethods) {
  const auto summary = summarize(small_report());
  EXPECT_THAT(summary.depths, ElementsAre(0.0, 0.5, 1.0));
  std::vector<std::string> rows;
  for (const auto& row : summary.rows) {
    rows.push_back(row.method + " " + std::to_string(row.budget) + " " + row.tally.text());
  }
  EXPECT_THAT(rows, ElementsAre("full 0 3/3", "snapkv 64 0/3", "restkv 64 2/3", "snapkv 128 1/3",
                                "restkv 128 3/3"));
  EXPECT_EQ(summary.rows[2].by_depth[0].mark(), "✓");
  EXPECT_EQ(summary.rows[2].by_depth[1].mark(), "✗");
  EXPECT_DOUBLE_EQ(summary.rows[2].kv_mib, 2);
  EXPECT_DOUBLE_EQ(summary.prefill_seconds, 2.5);
}

TEST(NeedleSummary, CountsSeveralPromptsOfOneDepthTogether) {
  NeedleReport report;
  report.cells = {cell("m", 64, 0.5, true), cell("m", 64, 0.5, false), cell("m", 64, 0, true)};
  const auto summary = summarize(report);
  ASSERT_EQ(summary.rows.size(), 1u);
  EXPECT_EQ(summary.rows[0].by_depth[1].mark(), "1/2");
  EXPECT_EQ(summary.rows[0].tally.text(), "2/3");
  EXPECT_THAT(heatmap_svg(report), HasSubstr(">1/2</text>"));
}

TEST(NeedleTable, HasOneAlignedRowPerMethodAndBudget) {
  EXPECT_EQ(table(small_report()),
            "method  kept per head      found  cache MiB  choosing s  decode tokens/s\n"
            "full    all tokens           3/3      88.00       0.000             50.0\n"
            "\n"
            "snapkv  64 tokens (1.6%)     0/3       2.00       0.250            100.0\n"
            "restkv  64 tokens (1.6%)    *2/3       2.00       0.250            100.0\n"
            "\n"
            "snapkv  128 tokens (3.2%)    1/3       4.00       0.250            100.0\n"
            "restkv  128 tokens (3.2%)   *3/3       4.00       0.250            100.0\n"
            "\n"
            "With the whole cache the model finds 3 of 3 needles.\n"
            "With 64 of 4,000 tokens kept (1.6%), restkv finds 2 of 3 needles; snapkv none.\n"
            "With 128 of 4,000 tokens kept (3.2%), restkv finds 3 of 3 needles; snapkv 1.\n"
            "3 prompts: a difference of one or two needles may be chance.\n");
}

TEST(NeedleMarkdown, HasOneColumnPerDepth) {
  const std::string text = markdown(small_report());
  EXPECT_THAT(text, HasSubstr("decode tokens/s | 0% | 50% | 100% |\n"));
  EXPECT_THAT(text, HasSubstr("| restkv | 64 tokens (1.6%) | **2/3** | 2.00 | 0.250 | 100.0 | ✓ | "
                              "✗ | ✓ |\n"));
  EXPECT_THAT(text, HasSubstr("- With 64 of 4,000 tokens kept (1.6%), restkv finds 2 of 3"));
  EXPECT_THAT(text, HasSubstr("Again: `restkv demo -m 'a b.gguf' --seed 42`"));
}

TEST(NeedleMarkdown, HostileTextAddsNoColumns) {
  std::istringstream lines(markdown(hostile_report()));
  for (std::string line; std::getline(lines, line);) {
    if (!line.starts_with('|')) continue;
    const std::string bare = std::regex_replace(line, std::regex(R"(\\\|)"), "");
    EXPECT_EQ(count(bare, "|"), 6u + 3u + 1u) << line;
    EXPECT_EQ(count(line, "<script"), count(line, "\\<script")) << line;
  }
}

TEST(NeedleJson, HoldsEverything) {
  const auto report = small_report();
  const auto parsed = parse_json(json(report));
  EXPECT_EQ(parsed["model"], report.model);
  EXPECT_EQ(parsed["prompt_tokens"], 4000);
  EXPECT_EQ(parsed["version"], "1.2.3");
  EXPECT_EQ(parsed["command"], report.command);
  EXPECT_EQ(parsed["conclusion"].size(), 4U);
  ASSERT_EQ(parsed["cells"].size(), report.cells.size());
  EXPECT_EQ(parsed["cells"][0]["method"], "snapkv");
  EXPECT_EQ(parsed["cells"][0]["budget"], 128);
  EXPECT_EQ(parsed["cells"][0]["found"], true);
  EXPECT_EQ(parsed["cells"][0]["output"], " 1234567.");
  EXPECT_EQ(parsed["maps"][0]["keep"], Json(report.maps[0].keep));
  EXPECT_NO_THROW(parse_json(json(hostile_report())));
}

TEST(NeedleHeatmap, HasASignInEverySquare) {
  const std::string svg = heatmap_svg(small_report());
  EXPECT_EQ(markup_error(svg), "");
  // 9 of 15 found; the legend shows one of each kind.
  EXPECT_EQ(count(svg, "class=\"cell h10\""), 9u + 1u);
  EXPECT_EQ(count(svg, "class=\"tick\""), 9u + 1u);
  EXPECT_EQ(count(svg, "class=\"cell h0\""), 6u + 1u);
  EXPECT_EQ(count(svg, "class=\"cross\""), 6u + 1u);
  for (const auto* label :
       {">all tokens<", ">64 tokens (1.6%)<", ">128 tokens (3.2%)<", ">0% (start)<", ">50%<",
        ">100% (end)<", ">2/3<", "tiny &amp; &lt;small&gt;"}) {
    EXPECT_THAT(svg, HasSubstr(label));
  }
  EXPECT_THAT(svg, HasSubstr("asked for 1234567, said:  nothing"));
}

TEST(NeedleHeatmap, LeavesPromptsThatWereNotRunEmpty) {
  NeedleReport report;
  report.cells = {cell("a", 64, 0, true), cell("b", 64, 1, true)};
  EXPECT_EQ(count(heatmap_svg(report), "class=\"cell absent\""), 2u);
}

TEST(NeedleHeatmap, StaysInsideThePictureWithManyPanels) {
  NeedleReport report;
  for (int budget = 1; budget <= 12; ++budget) {
    for (const auto* method : {"a", "b", "c", "d", "e"}) {
      report.cells.push_back(cell(method, budget, 0.5, true));
    }
  }
  const std::string svg = heatmap_svg(report);
  std::smatch match;
  ASSERT_TRUE(std::regex_search(svg, match, std::regex("viewBox=\"0 0 (\\d+) ([\\d.]+)\"")));
  const double width = std::stod(match[1]);
  const double height = std::stod(match[2]);
  const std::regex square(
      "<rect x=\"([\\d.]+)\" y=\"([\\d.]+)\" width=\"([\\d.]+)\" "
      "height=\"([\\d.]+)\" class=\"cell");
  size_t squares = 0;
  for (std::sregex_iterator it(svg.begin(), svg.end(), square), end; it != end; ++it, ++squares) {
    EXPECT_LE(std::stod((*it)[1]) + std::stod((*it)[3]), width);
    EXPECT_LE(std::stod((*it)[2]) + std::stod((*it)[4]), height);
  }
  EXPECT_EQ(squares, 60u + 3u);
}

/// Pixels of a row's strokes, summed over the shades: shade -> pixels.
std::map<int, double> stroke_pixels(const std::string& svg) {
  std::map<int, double> pixels;
  const std::regex path("<path d=\"([^\"]*)\" class=\"share(\\d) row");
  const std::regex run("h([\\d.]+)");
  for (std::sregex_iterator it(svg.begin(), svg.end(), path), end; it != end; ++it) {
    const std::string d = (*it)[1];
    for (std::sregex_iterator r(d.begin(), d.end(), run); r != end; ++r) {
      pixels[std::stoi((*it)[2])] += std::stod((*r)[1]);
    }
  }
  return pixels;
}

TEST(KeptMap, DrawsEveryKeptTokenOfAShortPrompt) {
  const std::string svg = kept_map_svg(small_report());
  EXPECT_EQ(markup_error(svg), "");
  // 40 tokens on 1060 pixels: 26 pixels each; nine tokens are kept, each of them wholly.
  EXPECT_EQ(stroke_pixels(svg), (std::map<int, double>{{4, 9 * 26.0}}));
  // Neighbours share a stroke: {0,1} {10,11} in row 0, {12} {39} in row 1, {5,6,7} in row 2, which
  // is one pixel apart since it belongs to the next layer.
  EXPECT_THAT(svg, HasSubstr("\"M92 186h52M352 186h52M404 198h26M1106 198h26M222 211h78\""));
  EXPECT_THAT(svg, HasSubstr("<rect x=\"352\""));  // the needle begins at token 10
  EXPECT_THAT(svg, HasSubstr("width=\"104\""));    // and has four tokens
  EXPECT_THAT(svg, HasSubstr("keeps 3 of 40 tokens per head (7.5%), and 25% of the 4 needle"));
  EXPECT_THAT(svg, HasSubstr("restkv · 64 tokens (all) per head"));
}

TEST(KeptMap, ShadesBinsOfALongPromptByTheShareKept) {
  NeedleReport report;
  KeptMap map;
  map.method = "m";
  map.prompt_tokens = 4 * 1060;  // four tokens in a pixel
  map.keep = {{{0, 4, 5, 8, 9, 10, 12, 13, 14, 15, 4239}}};
  report.maps = {map};
  const std::string svg = kept_map_svg(report);
  EXPECT_EQ(stroke_pixels(svg), (std::map<int, double>{{1, 2.0}, {2, 1.0}, {3, 1.0}, {4, 1.0}}));
}

TEST(KeptMap, FullCacheIsOneStrokePerHeadAtAnyLength) {
  for (const size_t tokens : {1, 7, 1059, 1060, 1061, 1500, 2119, 4003, 10007}) {
    NeedleReport report;
    KeptMap map;
    map.prompt_tokens = tokens;
    map.keep = {{{}, {}}};
    for (auto& head : map.keep[0]) {
      for (size_t t = 0; t < tokens; ++t) head.push_back(static_cast<int32_t>(t));
    }
    report.maps = {map};
    const auto pixels = stroke_pixels(kept_map_svg(report));
    const size_t bins = std::min<size_t>(tokens, 1060);
    const size_t bin_pixels = 1060 / bins;
    EXPECT_EQ(pixels, (std::map<int, double>{{4, 2.0 * static_cast<double>(bins * bin_pixels)}}))
        << tokens;
  }
}

TEST(KeptMap, RefusesPositionsOutsideThePrompt) {
  for (const int32_t position : {-1, 40}) {
    NeedleReport report = small_report();
    report.maps[0].keep[0][0].push_back(position);
    EXPECT_THROW(kept_map_svg(report), Error);
  }
  NeedleReport report = small_report();
  report.maps[0].needle_end = 41;
  EXPECT_THROW(kept_map_svg(report), Error);
}

TEST(NeedlePage, IsWellFormedAndShowsEverything) {
  const std::string page = html(small_report());
  EXPECT_EQ(markup_error(page), "");
  EXPECT_EQ(count(page, "<svg "), 1u);
  EXPECT_LT(page.find("restkv finds 2 of 3 needles"), page.find("<h2>")) << "it is said first";
  EXPECT_THAT(page, HasSubstr("1.2.3"));
  EXPECT_THAT(page, HasSubstr("2026-11-30"));
  EXPECT_THAT(page, HasSubstr("restkv demo -m &#39;a b.gguf&#39; \\\n  --seed 42"));
  EXPECT_THAT(page, HasSubstr("64 = 1.6%, 128 = 3.2%"));
  for (const char* part : {"<main>", "<caption>", "scope=\"row\"", "scope=\"col\""}) {
    EXPECT_THAT(page, HasSubstr(part));
  }
  EXPECT_THAT(page, HasSubstr("<mark>The needle &amp; more.</mark> The rest."));
  EXPECT_THAT(page, HasSubstr("a CPU, 2 threads"));
  EXPECT_THAT(page, HasSubstr("128 tokens (3.2%)</th>"));
  EXPECT_THAT(page, HasSubstr("All 15 answers"));
  EXPECT_THAT(page, HasSubstr("prefers-color-scheme:dark"));
}

TEST(NeedlePage, AnswersCanBeReadWithoutAMouse) {
  const std::string page = html(small_report());
  // A button for every square, with an answer that it opens.
  EXPECT_EQ(count(page, "<button type=\"button\" popovertarget=\"answer-"), 15u);
  EXPECT_EQ(count(page, "<div popover=\"auto\" id=\"answer-"), 15u);
  EXPECT_THAT(page, HasSubstr("aria-label=\"restkv, 64 tokens kept, depth 50%"));
  EXPECT_EQ(count(page, ">✓</button>"), 9u);
  EXPECT_EQ(count(page, ">✗</button>"), 6u);
}

TEST(NeedleConclusion, SaysHowMuchTheSmoothingBrings) {
  NeedleReport report = small_report();
  const auto add = [&](bool found) {
    report.cells.push_back(cell("snapkv kernel=auto", 64, 0, found));
    report.cells.push_back(cell("snapkv kernel=auto", 128, 0, found));
  };
  add(true);
  EXPECT_THAT(
      conclusion(report),
      testing::Contains(HasSubstr(
          "restkv finds 5 of 6, snapkv 1, and snapkv with restkv's smoothing (kernel=auto) 2. The "
          "smoothing brings 1 of the difference of 4.")));
  add(true);
  add(true);
  EXPECT_THAT(conclusion(report),
              testing::Contains(HasSubstr("The smoothing brings all 4 of the difference.")));
  report = small_report();
  add(false);
  EXPECT_THAT(conclusion(report), testing::Contains(testing::EndsWith("(kernel=auto) 0.")));
}

/// `small_report` with the texts of the needle's four tokens.
NeedleReport with_pieces() {
  NeedleReport report = small_report();
  report.maps[0].needle_pieces = {" is", " 12", "34", "<."};
  report.maps[0].answer = "1234";
  return report;
}

TEST(MagnifiedNeedle, CountsTheHeadsOfEveryToken) {
  NeedleReport report = with_pieces();
  report.maps[0].keep[1][0] = {11, 12, 13};
  const MagnifiedNeedle needle = magnified(report.maps[0]);
  EXPECT_EQ(needle.heads, 3u);
  EXPECT_THAT(needle.keeping, ElementsAre(1, 2, 2, 1));
  EXPECT_EQ(needle.answer_begin, 1u);
  EXPECT_EQ(needle.answer_end, 3u);
  EXPECT_EQ(needle.whole, 1u);
  EXPECT_EQ(needle.text(),
            "Each token of the number is kept by 67% to 67% of the 3 heads, the whole number by 1 "
            "head.");
}

TEST(MagnifiedNeedle, IsShownInThePageAndInThePicture) {
  const NeedleReport report = with_pieces();
  const std::string page = html(report);
  EXPECT_EQ(markup_error(page), "");
  EXPECT_THAT(page, HasSubstr("title=\"kept by 1 of 3 heads\"> 12<small>33%</small></span>"));
  EXPECT_THAT(page, HasSubstr("&lt;.</span>"));
  const std::string svg = kept_map_svg(report);
  EXPECT_EQ(markup_error(svg), "");
  EXPECT_THAT(svg, HasSubstr("the whole number by 0 heads"));
  EXPECT_THAT(svg, HasSubstr("> 12</text>"));
}

TEST(NeedlePage, LoadsNothing) {
  const std::string page = html(small_report());
  for (const auto* loader :
       {" src=", " href=\"h", "url(", "@import", "<script", "<link", "<img", "https://"}) {
    EXPECT_THAT(page, Not(HasSubstr(loader)));
  }
  // The only address is the name of SVG's namespace.
  EXPECT_EQ(count(page, "http:"), count(page, "xmlns=\"http://www.w3.org/2000/svg\""));
}

TEST(NeedlePage, EscapesHostileText) {
  const auto report = hostile_report();
  for (const auto& text : {html(report), heatmap_svg(report), kept_map_svg(report)}) {
    EXPECT_EQ(markup_error(text), "");
    EXPECT_THAT(text, Not(HasSubstr("<script")));
    EXPECT_THAT(text, HasSubstr("&lt;script&gt;"));
    EXPECT_THAT(text, Not(HasSubstr("\xC3<")));
  }
}

TEST(NeedleReport, EmptyReportIsStillAReport) {
  const NeedleReport empty;
  EXPECT_EQ(markup_error(html(empty)), "");
  EXPECT_EQ(markup_error(heatmap_svg(empty)), "");
  EXPECT_EQ(markup_error(kept_map_svg(empty)), "");
  EXPECT_THAT(table(empty), HasSubstr("method"));
}

}  // namespace
}  // namespace restkv::eval
