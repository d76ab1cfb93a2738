#include "generate/gbnf.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "base/text.h"
#include "restkv/error.h"

namespace restkv {
namespace {

constexpr size_t kMostGroups = 64;
constexpr size_t kMostRepetitions = 2000;
constexpr size_t kMostElements = 1'000'000;
constexpr size_t kMostBeginnings = 512;  // each costs time with every token

/// One item of a rule, with how often it may stand there.
struct Item {
  bool is_rule = false;  ///< Otherwise characters or a token.
  size_t rule = 0;
  size_t elements = 1;    ///< That libllama makes of it, if it stands there once.
  bool is_empty = false;  ///< No character at all: "".
  size_t least = 1;       ///< Repetitions.
  size_t copies = 1;      ///< That libllama unrolls.
};
using Sequence = std::vector<Item>;

struct Rule {
  std::string name;
  size_t defined_at = std::string::npos;
  size_t used_at = std::string::npos;
  std::vector<Sequence> alternatives = {};
};

class Reader {
 public:
  explicit Reader(std::string_view text) : text_(text) {}

  std::vector<Rule> rules;

  void read() {
    skip_space(true);
    while (at_ < text_.size()) read_rule();
    const auto root = names_.find("root");
    if (root == names_.end() || rules[root->second].defined_at == std::string::npos) {
      refuse_at(text_.size(),
                "there is no rule 'root', which the text as a whole follows; add one");
    }
    for (const Rule& rule : rules) {
      if (rule.defined_at == std::string::npos) {
        refuse_at(rule.used_at, fmt::format("there is no rule '{}'; define it", rule.name));
      }
    }
  }

  [[noreturn]] void refuse_at(size_t at, const std::string& reason) const {
    const std::string_view before = text_.substr(0, at);
    const size_t line_begin = before.rfind('\n') + 1;  // npos + 1 is 0
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("grammar:{}:{}: {}", 1 + std::ranges::count(before, '\n'),
                            at - line_begin + 1, reason));
  }

 private:
  [[noreturn]] void refuse(const std::string& reason) const { refuse_at(at_, reason); }

  [[nodiscard]] char peek(size_t ahead = 0) const {
    return at_ + ahead < text_.size() ? text_[at_ + ahead] : '\0';
  }
  static bool is_digit(char c) { return c >= '0' && c <= '9'; }
  static bool is_word(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '-' || is_digit(c);
  }
  static bool is_hex(char c) {
    return is_digit(c) || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F');
  }

  void skip_space(bool lines) {
    for (;;) {
      const char c = peek();
      if (c == '#') {
        at_ = std::min(text_.find_first_of("\r\n", at_), text_.size());
      } else if (c == ' ' || c == '\t' || (lines && (c == '\r' || c == '\n'))) {
        ++at_;
      } else {
        return;
      }
    }
  }

  size_t rule_named(std::string_view name) {
    const auto [place, is_new] = names_.emplace(name, rules.size());
    if (is_new) rules.push_back({.name = std::string(name), .used_at = at_});
    return place->second;
  }

  std::string_view read_name() {
    const size_t begin = at_;
    while (is_word(peek())) ++at_;
    if (at_ == begin) refuse("expected the name of a rule: letters, digits and -");
    return text_.substr(begin, at_ - begin);
  }

  void read_rule() {
    const size_t begin = at_;
    const size_t rule = rule_named(read_name());
    skip_space(false);
    if (text_.substr(at_, 3) != "::=") refuse("expected ::= after the name of the rule");
    at_ += 3;
    skip_space(true);
    rules[rule].defined_at = begin;
    std::vector<Sequence> alternatives = read_alternatives(0);
    if (peek() != '\0' && peek() != '\r' && peek() != '\n') refuse("expected the end of the rule");
    rules[rule].alternatives = std::move(alternatives);
    skip_space(true);
  }

  std::vector<Sequence> read_alternatives(size_t depth) {
    std::vector<Sequence> alternatives;
    alternatives.push_back(read_sequence(depth));
    while (peek() == '|') {
      ++at_;
      skip_space(true);
      alternatives.push_back(read_sequence(depth));
    }
    return alternatives;
  }

  Sequence read_sequence(size_t depth) {
    const bool nested = depth > 0;
    Sequence sequence;
    for (;;) {
      const char c = peek();
      if (c == '"') {
        sequence.push_back(read_literal());
      } else if (c == '[') {
        sequence.push_back(read_range());
      } else if (c == '<' || c == '!') {
        sequence.push_back(read_token());
      } else if (is_word(c)) {
        const size_t begin = at_;
        const std::string_view name = read_name();
        const size_t end = std::exchange(at_, begin);
        sequence.push_back({.is_rule = true, .rule = rule_named(name)});
        at_ = end;
      } else if (c == '(') {
        sequence.push_back(read_group(depth));
      } else if (c == '.') {
        ++at_;
        sequence.push_back({});
      } else if (c == '*' || c == '+' || c == '?' || c == '{') {
        repeat(sequence, nested);
      } else {
        return sequence;
      }
      skip_space(nested);
    }
  }

  void read_character() {
    if (peek() == '\0') refuse("the grammar ends within characters; close them");
    if (peek() == '\n') refuse("a line break within characters; write \\n");
    if (peek() != '\\') {
      at_ += utf8_length(text_.substr(at_));
      return;
    }
    const char kind = peek(1);
    const size_t digits = kind == 'x' ? 2 : kind == 'u' ? 4 : kind == 'U' ? 8 : 0;
    if (digits == 0 && std::string_view("trn\\\"[]-").find(kind) == std::string_view::npos) {
      refuse(
          "unknown escape; expected \\t \\r \\n \\\\ \\\" \\[ \\] \\- \\xHH \\uHHHH or "
          "\\UHHHHHHHH");
    }
    for (size_t i = 0; i < digits; ++i) {
      if (!is_hex(peek(2 + i))) refuse(fmt::format("expected {} hexadecimal digits", digits));
    }
    at_ += 2 + digits;
  }

  Item read_literal() {
    ++at_;
    size_t count = 0;
    for (; peek() != '"'; ++count) read_character();
    ++at_;
    return {.elements = count, .is_empty = count == 0};
  }

  Item read_range() {
    const size_t begin = at_;
    ++at_;
    if (peek() == '^') ++at_;
    size_t count = 0;
    while (peek() != ']') {
      read_character();
      ++count;
      if (peek() == '-' && peek(1) != ']') {
        ++at_;
        read_character();
        ++count;
      }
    }
    if (count == 0) refuse_at(begin, "a range of no characters; put some between [ and ]");
    ++at_;
    return {.elements = count};
  }

  Item read_token() {
    if (peek() == '!') ++at_;
    if (peek() != '<') refuse("expected < after !");
    const size_t end = text_.find('>', at_);
    if (end == std::string_view::npos) refuse("expected > after the name of a token");
    at_ = end + 1;
    return {};
  }

  Item read_group(size_t depth) {
    if (depth == kMostGroups) refuse(fmt::format("more than {} groups within each other", depth));
    const size_t begin = at_++;
    skip_space(true);
    const size_t rule = rules.size();
    rules.push_back({.name = "(", .defined_at = begin, .used_at = begin});
    std::vector<Sequence> alternatives = read_alternatives(depth + 1);
    rules[rule].alternatives = std::move(alternatives);
    if (peek() != ')') refuse("expected )");
    ++at_;
    return {.is_rule = true, .rule = rule};
  }

  size_t read_count(bool nested) {
    size_t value = 0;
    if (!is_digit(peek())) refuse("expected a number");
    for (; is_digit(peek()); ++at_) {
      value = value * 10 + static_cast<size_t>(peek() - '0');
      if (value > kMostRepetitions) {
        refuse(fmt::format("more than {} repetitions", kMostRepetitions));
      }
    }
    skip_space(nested);
    return value;
  }

  void repeat(Sequence& sequence, bool nested) {
    if (sequence.empty() || sequence.back().is_empty) refuse("nothing stands here to be repeated");
    Item& item = sequence.back();
    size_t least = 0;
    size_t copies = 1;
    switch (text_[at_++]) {
      case '*':
      case '?':
        break;
      case '+':
        least = 1;
        copies = 2;
        break;
      default:
        skip_space(nested);
        least = copies = read_count(nested);
        if (peek() == ',') {
          ++at_;
          skip_space(nested);
          copies = peek() == '}' ? least + 1 : read_count(nested);
          if (copies < least) refuse("expected a number that is not below the first");
        }
        if (peek() != '}') refuse("expected , or } after the number of repetitions");
        ++at_;
    }
    item.least = item.least * least;
    item.copies = std::min(item.copies * std::max<size_t>(copies, 1), kMostElements);
  }

  std::string_view text_;
  size_t at_ = 0;
  std::map<std::string, size_t, std::less<>> names_;
};

/// What follows from the rules together.
class Rules {
 public:
  explicit Rules(const Reader& reader) : reader_(reader), rules_(reader.rules) {
    find_empty_rules();
    size_t elements = 0;
    beginnings_.assign(rules_.size(), 0);
    states_.assign(rules_.size(), State::kNew);
    for (size_t i = 0; i < rules_.size(); ++i) {
      for (const Sequence& sequence : rules_[i].alternatives) {
        for (const Item& item : sequence) elements += item.elements * item.copies;
      }
      if (elements > kMostElements) {
        reader_.refuse_at(rules_[i].defined_at,
                          fmt::format("the grammar unrolls to more than {} elements; use fewer "
                                      "repetitions",
                                      kMostElements));
      }
      count_beginnings(i);
    }
  }

 private:
  enum class State { kNew, kOpen, kDone };

  [[nodiscard]] bool may_be_empty(const Item& item) const {
    return item.least == 0 || item.is_empty || (item.is_rule && empty_[item.rule]);
  }

  void find_empty_rules() {
    empty_.assign(rules_.size(), false);
    for (bool changed = true; changed;) {
      changed = false;
      for (size_t i = 0; i < rules_.size(); ++i) {
        const auto is_empty = [&](const Sequence& sequence) {
          return std::ranges::all_of(sequence,
                                     [&](const Item& item) { return may_be_empty(item); });
        };
        if (!empty_[i] && std::ranges::any_of(rules_[i].alternatives, is_empty)) {
          empty_[i] = changed = true;
        }
      }
    }
  }

  /// In how many ways the rule may begin: libllama goes through all of them for each character.
  void count_beginnings(size_t first) {
    // Rules may follow each other by the thousand: no recursion.
    std::vector<size_t> open{first};
    while (!open.empty()) {
      const size_t rule = open.back();
      if (states_[rule] == State::kDone) {
        open.pop_back();
        continue;
      }
      const bool is_return = states_[rule] == State::kOpen;
      states_[rule] = State::kOpen;
      size_t count = 0;
      for_leftmost(rule, [&](const Item& item) {
        count += item.is_rule ? beginnings_[item.rule] * (empty_[item.rule] ? item.copies : 1) : 1;
        if (!item.is_rule || states_[item.rule] == State::kDone) return;
        if (states_[item.rule] == State::kOpen) {
          reader_.refuse_at(rules_[rule].defined_at,
                            fmt::format("left recursion: '{}' may begin with itself; let it begin "
                                        "with something else",
                                        name_of(item.rule)));
        }
        if (!is_return) open.push_back(item.rule);
      });
      if (!is_return && open.back() != rule) continue;
      if (count > kMostBeginnings) {
        reader_.refuse_at(
            rules_[rule].defined_at,
            fmt::format("the rule may begin in more than {} ways; simplify it", kMostBeginnings));
      }
      beginnings_[rule] = count + 1;
      states_[rule] = State::kDone;
      open.pop_back();
    }
  }

  void for_leftmost(size_t rule, auto&& call) const {
    for (const Sequence& sequence : rules_[rule].alternatives) {
      for (const Item& item : sequence) {
        call(item);
        if (!may_be_empty(item)) break;
      }
    }
  }

  [[nodiscard]] const std::string& name_of(size_t rule) const { return rules_[rule].name; }

  const Reader& reader_;
  const std::vector<Rule>& rules_;
  std::vector<bool> empty_;
  std::vector<size_t> beginnings_;
  std::vector<State> states_;
};

}  // namespace

void check_gbnf(std::string_view grammar) {
  Reader reader(grammar);
  if (const size_t at = grammar.find('\0'); at != std::string_view::npos) {
    reader.refuse_at(at, "has a zero byte; remove it");
  }
  // libllama prints what it refuses, so that a line must not look like one of somebody else.
  const auto is_control = [](char c) {
    return (static_cast<unsigned char>(c) < ' ' && c != '\t' && c != '\n' && c != '\r') ||
           c == 0x7f;
  };
  if (const auto at = std::ranges::find_if(grammar, is_control); at != grammar.end()) {
    reader.refuse_at(static_cast<size_t>(at - grammar.begin()),
                     "has a control character; write it as \\xHH");
  }
  if (replace_invalid_utf8(grammar) != grammar) reader.refuse_at(0, "is no UTF-8");
  reader.read();
  const Rules rules(reader);
}

}  // namespace restkv
