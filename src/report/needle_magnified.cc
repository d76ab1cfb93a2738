#include <fmt/format.h>

#include <algorithm>
#include <span>
#include <string>
#include <vector>

#include "report/heat_chart.h"
#include "report/needle_report.h"
#include "report/needle_summary.h"
#include "report/svg.h"

namespace restkv::eval {

double MagnifiedNeedle::share(size_t token) const {
  return heads == 0 ? 0 : static_cast<double>(keeping[token]) / static_cast<double>(heads);
}

std::string MagnifiedNeedle::text() const {
  if (answer_begin == answer_end) return "";
  const auto [least, most] =
      std::ranges::minmax(std::span(keeping).subspan(answer_begin, answer_end - answer_begin));
  const auto shown = [&](size_t count) {
    return fmt::format("{:.0f}%", 100 * static_cast<double>(count) /
                                      static_cast<double>(std::max<size_t>(heads, 1)));
  };
  return fmt::format(
      "Each token of the number is kept by {} to {} of the {} heads, the whole number by {} "
      "head{}.",
      shown(least), shown(most), heads, whole, whole == 1 ? "" : "s");
}

MagnifiedNeedle magnified(const KeptMap& map) {
  MagnifiedNeedle needle;
  const size_t tokens = map.needle_end - map.needle_begin;
  needle.keeping.resize(tokens);
  std::string text;
  std::vector<size_t> begins;
  for (const std::string& piece : map.needle_pieces) {
    begins.push_back(text.size());
    text += piece;
  }
  const size_t at = map.answer.empty() ? std::string::npos : text.find(map.answer);
  if (at != std::string::npos && begins.size() == tokens) {
    const auto token_of = [&](size_t byte) {
      return static_cast<size_t>(std::ranges::upper_bound(begins, byte) - begins.begin()) - 1;
    };
    needle.answer_begin = token_of(at);
    needle.answer_end = token_of(at + map.answer.size() - 1) + 1;
  }
  for (const auto& layer : map.keep) {
    for (const auto& head : layer) {
      ++needle.heads;
      size_t of_answer = 0;
      for (const int32_t position : head) {
        const auto token = static_cast<size_t>(position);
        if (token < map.needle_begin || token >= map.needle_end) continue;
        const size_t place = token - map.needle_begin;
        ++needle.keeping[place];
        if (place >= needle.answer_begin && place < needle.answer_end) ++of_answer;
      }
      if (of_answer > 0 && of_answer == needle.answer_end - needle.answer_begin) ++needle.whole;
    }
  }
  return needle;
}

std::string magnified_html(const NeedleReport& report) {
  std::string text;
  for (const KeptMap& map : report.maps) {
    const MagnifiedNeedle needle = magnified(map);
    if (map.needle_pieces.size() != needle.keeping.size()) continue;
    text += fmt::format("<div><h3>{}, {}</h3>\n<p class=\"tokens\">", escape(map.method),
                        budget_share_text(map.budget, map.prompt_tokens));
    for (size_t i = 0; i < needle.keeping.size(); ++i) {
      const bool number = i >= needle.answer_begin && i < needle.answer_end;
      const std::string share = fmt::format("{:.0f}%", 100 * needle.share(i));
      text += fmt::format(R"(<span class="{} {}{}" title="kept by {} of {} heads">{}{}</span>)",
                          shade_class(needle.share(i)), text_class(needle.share(i)),
                          number ? " number" : "", needle.keeping[i], needle.heads,
                          escape(map.needle_pieces[i]),
                          number ? fmt::format("<small>{}</small>", share) : "");
    }
    text += fmt::format("</p>\n<p>{}</p></div>\n", escape(needle.text()));
  }
  return text.empty() ? "" : "<div class=\"pair\">\n" + text + "</div>\n";
}

}  // namespace restkv::eval
