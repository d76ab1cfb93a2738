#include "server/openai/call_grammar.h"

#include <fmt/format.h>

#include <cstddef>
#include <cstdint>
#include <set>
#include <string_view>
#include <utility>
#include <vector>

#include "base/text.h"
#include "server/openai/call_pattern.h"
#include "server/openai/generic_tools.h"
#include "server/openai/schema_grammar.h"

namespace restkv::server {
namespace {

/// A character within [] of a grammar, or within a literal.
std::string escaped(char32_t c) { return fmt::format("\\U{:08X}", static_cast<uint32_t>(c)); }

std::u32string characters(std::string_view text) {
  std::u32string all;
  while (!text.empty()) {
    const size_t bytes = utf8_length(text);
    const auto first = static_cast<unsigned char>(text[0]);
    char32_t c = bytes == 1 ? first : first & (0xFFU >> (bytes + 1));
    for (size_t i = 1; i < bytes; ++i) {
      c = c << 6U | (static_cast<unsigned char>(text[i]) & 0x3FU);
    }
    all += c;
    text.remove_prefix(bytes);
  }
  return all;
}

std::string literal(std::string_view text) {
  std::string out = "\"";
  for (const char32_t c : characters(text)) out += escaped(c);
  return out + '"';
}

/// Rules "thought0", ...: a text that ends with its first `close`; `next` follows.
std::string thought_rules(const std::string& close, std::string_view next) {
  const std::u32string tag = characters(close);
  const std::set<char32_t> distinct(tag.begin(), tag.end());
  std::string rules;
  for (size_t matched = 0; matched < tag.size(); ++matched) {
    std::string others;
    std::string matches;
    for (const char32_t c : distinct) {
      others += escaped(c);
      const std::u32string text = tag.substr(0, matched) + c;
      size_t most = text.size();
      while (!text.ends_with(tag.substr(0, most))) --most;
      const std::string rule =
          most == tag.size() ? std::string(next) : fmt::format("thought{}", most);
      matches += fmt::format(" | \"{}\" {}", escaped(c), rule);
    }
    rules += fmt::format("thought{} ::= [^{}] thought0{}\n", matched, others, matches);
  }
  return rules;
}

std::string one_character(char c) { return escaped(static_cast<unsigned char>(c)); }

/// What goes on behind the names of the tools that end at `node`.
std::string rests(const CallPattern::Node& node) {
  std::string rules;
  for (const size_t tool : node.tools) {
    rules += fmt::format("{}rest{}", rules.empty() ? "" : " | ", tool);
  }
  return rules;
}

/// Rules "name..." behind the quote before a name. Many names beside each other would each be
/// looked at for every token.
std::string name_rules(const CallPattern& pattern) {
  std::string rules;
  std::vector<size_t> open{pattern.name()};
  while (!open.empty()) {
    const size_t at = open.back();
    open.pop_back();
    const CallPattern::Node& node = pattern.nodes()[at];
    std::string ways = rests(node);
    if (ways.empty()) {
      for (const auto& [c, next] : node.next) {
        ways += fmt::format("{}\"{}\" name{}", ways.empty() ? "" : " | ", one_character(c), next);
        open.push_back(next);
      }
    }
    rules += fmt::format("name{} ::= {}\n", at, ways);
  }
  return rules;
}

/// Rules "text" and "line0", ...: any text, but what `pattern` takes for the beginning of a call
/// goes on as one.
std::string text_rules(const CallPattern& pattern) {
  const std::string newline = one_character('\n');
  std::string rules = fmt::format("text ::= [^{}] text | \"{}\" line0 | \"\"\n", newline, newline);
  for (size_t i = 0; i < pattern.nodes().size(); ++i) {
    const CallPattern::Node& node = pattern.nodes()[i];
    if (!node.tools.empty()) {
      rules += fmt::format("line{} ::= ({}) more\n", i, rests(node));
      continue;
    }
    std::string others;
    std::string matches;
    for (const auto& [c, next] : node.next) {
      others += one_character(c);
      matches += fmt::format(" | \"{}\" line{}", one_character(c), next);
    }
    if (node.skips_space) {
      std::string spaces;
      for (const char c : CallPattern::kSpace) spaces += one_character(c);
      others += spaces;
      matches += fmt::format(" | [{}] line{}", spaces, i);
    } else {
      others += newline;
      matches += fmt::format(" | \"{}\" line0", newline);
    }
    rules += fmt::format("line{} ::= [^{}] text{} | \"\"\n", i, others, matches);
  }
  return rules;
}

/// Rules "call", "more" and "rest0", ...
std::string call_rules(const Chat& chat, const CallPattern& pattern) {
  std::string rules = name_rules(pattern);
  for (size_t i = 0; i < chat.tools.size(); ++i) {
    const Tool& tool = chat.tools[i];
    rules += fmt::format("rest{} ::= gap \",\" gap {} gap \":\" gap tool{}-root gap \"}}\"\n", i,
                         literal("\"arguments\""), i);
    rules += schema_rules(parameters_of(tool), fmt::format("tools.{}", tool.name),
                          fmt::format("tool{}-", i));
  }
  rules += fmt::format("call ::= \"{{\" gap {} gap \":\" gap {} name{}\n", literal("\"name\""),
                       literal("\""), pattern.name());
  const bool is_parallel = chat.parallel_tool_calls.value_or(false);
  rules += is_parallel ? "more ::= (\"\\n\" call)*\n" : "more ::= \"\"\n";
  // A small model that may write more white space sometimes writes nothing else.
  return rules + "gap ::= \" \"?\n";
}

}  // namespace

CallForm call_form(const Chat& chat, const AnswerBeginning& beginning) {
  std::vector<std::string> names;
  for (const Tool& tool : chat.tools) names.push_back(tool.name);
  const bool in_line = !beginning.begun.empty() && !beginning.begun.ends_with('\n');
  CallPlace place = in_line ? CallPlace::kLaterLines : CallPlace::kLines;
  const CallPattern pattern(names);
  std::string rules = call_rules(chat, pattern);
  std::string body;
  if (chat.tool_choice == ToolChoice::kRequired) {
    place = CallPlace::kBeginning;
    body = "call more";
  } else if (chat.schema) {
    place = CallPlace::kBeginning;
    body = "call more | answer-root";
    rules += schema_rules(*chat.schema, chat.schema_path, "answer-");
  } else {
    body = in_line ? "text" : "line0";
    rules += text_rules(pattern);
  }
  rules += fmt::format("body ::= {}\n", body);
  std::string root = "body";
  if (beginning.thought) {
    rules += thought_rules(beginning.thought->close, "pause");
    rules += "pause ::= \"\\n\"{0,2} body\n";
    root = beginning.is_inside_thought
               ? "thought0"
               : fmt::format("body | {} thought0", literal(beginning.thought->open));
  }
  return {.reader = CallReader(std::move(names), place),
          .gbnf = fmt::format("root ::= {}\n{}", root, rules)};
}

}  // namespace restkv::server
