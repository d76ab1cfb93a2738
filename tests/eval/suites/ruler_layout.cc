#include "eval/suites/ruler_layout.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <regex>
#include <set>
#include <string_view>

#include "eval/suites/words.h"

namespace restkv::eval {
namespace {

using ::testing::UnorderedElementsAreArray;

constexpr std::string_view kNoise =
    "The grass is green. The sky is blue. The sun is yellow. Here we go. There and back again.";

/// Takes text apart from the front; what is not as expected fails the test.
class Reader {
 public:
  explicit Reader(std::string_view text) : rest_(text) {}

  bool accept(std::string_view expected) {
    if (!rest_.starts_with(expected)) return false;
    rest_.remove_prefix(expected.size());
    return true;
  }
  void expect(std::string_view expected) {
    if (accept(expected)) return;
    ADD_FAILURE() << "expected \"" << expected << "\" at \"" << rest_.substr(0, 80) << "\"";
    rest_ = {};
  }
  /// Text before `stop`, which is taken, too.
  std::string until(std::string_view stop) {
    const size_t at = rest_.find(stop);
    if (at == std::string_view::npos) {
      ADD_FAILURE() << "no \"" << stop << "\" in \"" << rest_.substr(0, 80) << "\"";
      rest_ = {};
      return {};
    }
    std::string before(rest_.substr(0, at));
    rest_.remove_prefix(at + stop.size());
    return before;
  }
  /// Text before the last `stop`.
  std::string until_last(std::string_view stop) {
    const size_t at = rest_.rfind(stop);
    if (at == std::string_view::npos) return until(stop);
    std::string before(rest_.substr(0, at));
    rest_.remove_prefix(at + stop.size());
    return before;
  }
  [[nodiscard]] std::string_view rest() const { return rest_; }
  void expect_end() const { EXPECT_EQ(rest_, ""); }

 private:
  std::string_view rest_;
};

std::vector<std::string> split(const std::string& text, const std::string& separator) {
  std::vector<std::string> parts;
  size_t begin = 0;
  for (size_t end; (end = text.find(separator, begin)) != std::string::npos;) {
    parts.push_back(text.substr(begin, end - begin));
    begin = end + separator.size();
  }
  parts.push_back(text.substr(begin));
  return parts;
}

bool is_one_of(const std::vector<std::string_view>& words, std::string_view word) {
  return std::ranges::find(words, word) != words.end();
}

// --- niah ----------------------------------------------------------------------------------------

struct NeedleTask {
  std::string haystack;
  std::string key_type = "words";
  std::string value_type = "numbers";
  size_t keys = 1;
  size_t values = 1;
  size_t queries = 1;
};

const std::map<std::string, NeedleTask>& needle_tasks() {
  static const std::map<std::string, NeedleTask> kTasks = {
      {"niah_single_1", {"repeat"}},
      {"niah_single_2", {"essay"}},
      {"niah_single_3", {"essay", "words", "uuids"}},
      {"niah_multikey_1", {"essay", "words", "numbers", 4}},
      {"niah_multikey_2", {"needle"}},
      {"niah_multikey_3", {"needle", "uuids", "uuids"}},
      {"niah_multivalue", {"essay", "words", "numbers", 1, 4}},
      {"niah_multiquery", {"essay", "words", "numbers", 4, 1, 4}}};
  return kTasks;
}

void expect_of_type(const std::string& text, const std::string& type) {
  if (type == "words") {
    bool found = false;  // both parts may have hyphens
    for (size_t i = text.find('-'); i != std::string::npos; i = text.find('-', i + 1)) {
      found = found || (is_one_of(adjectives(), text.substr(0, i)) &&
                        is_one_of(nouns(), text.substr(i + 1)));
    }
    EXPECT_TRUE(found) << text;
    return;
  }
  static const std::regex kNumber("[1-9][0-9]{6}");
  static const std::regex kUuid(
      "[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}");
  EXPECT_TRUE(std::regex_match(text, type == "numbers" ? kNumber : kUuid)) << text;
}

struct FoundNeedle {
  std::string key, value;
  size_t begin = 0;  ///< In the context.
  size_t size = 0;
};

std::vector<FoundNeedle> find_needles(const std::string& context, const NeedleTask& task) {
  std::vector<FoundNeedle> needles;
  const std::string head = fmt::format("One of the special magic {} for ", task.value_type);
  for (size_t at = 0; (at = context.find(head, at)) != std::string::npos;) {
    Reader reader(std::string_view(context).substr(at + head.size()));
    FoundNeedle needle{.key = reader.until(" is: "), .value = reader.until("."), .begin = at};
    expect_of_type(needle.key, task.key_type);
    expect_of_type(needle.value, task.value_type);
    needle.size = head.size() + needle.key.size() + 5 + needle.value.size() + 1;
    at += needle.size;
    needles.push_back(std::move(needle));
  }
  return needles;
}

/// The stretches of essay before, between and after the needles; a needle has a space on each side
/// even where a stretch is empty.
std::vector<std::string> stretches(const std::string& context,
                                   const std::vector<FoundNeedle>& needles) {
  std::vector<std::string> texts;
  Reader reader(context);
  for (const FoundNeedle& needle : needles) {
    const std::string sentence = context.substr(needle.begin, needle.size);
    if (!texts.empty()) reader.expect(" ");
    const std::string before = reader.until(sentence);
    EXPECT_TRUE(before.ends_with(' ')) << sentence;
    texts.push_back(before.substr(0, before.size() - 1));
  }
  if (!texts.empty()) reader.expect(" ");
  texts.emplace_back(reader.rest());
  return texts;
}

/// The essay without its needles is the beginning of the essays, and needles stand after as many
/// sentences as the 40 depths say.
size_t read_essay(const std::string& context, const std::vector<FoundNeedle>& needles,
                  const Essays& essays) {
  std::string rest;
  std::vector<size_t> before;  // characters of essay before each needle
  for (const std::string& stretch : stretches(context, needles)) {
    if (!rest.empty() && !stretch.empty()) rest += ' ';
    rest += stretch;
    before.push_back(rest.size());
  }
  before.pop_back();
  // Sentences are joined by spaces even where none stood between them.
  const auto joined = [&](size_t words) {
    return fmt::format("{}", fmt::join(essays.first(words), " "));
  };
  size_t words = 500;
  while (words < essays.words.size() && joined(words).size() < rest.size()) words += 500;
  words = std::min(words, essays.words.size());
  EXPECT_TRUE(rest == joined(words)) << "not the first " << words << " words of the essays";
  const std::vector<std::string_view> sentences = essays.first(words);

  std::vector<size_t> ends{0};
  for (const std::string_view sentence : sentences) {
    ends.push_back(ends.back() + (ends.back() > 0 ? 1 : 0) + sentence.size());
  }
  std::multiset<size_t> allowed;
  for (int i = 0; i < 40; ++i) {
    const double depth = std::nearbyint(i * 100.0 / 39) / 100;
    allowed.insert(ends[static_cast<size_t>(static_cast<double>(sentences.size()) * depth)]);
  }
  for (const size_t place : before) {  // a depth is used once
    const auto found = allowed.find(place);
    EXPECT_NE(found, allowed.end()) << place;
    if (found != allowed.end()) allowed.erase(found);
  }
  return words;
}

size_t read_niah(const RulerSample& sample, const RulerSources& sources) {
  const NeedleTask& task = needle_tasks().at(sample.task);
  const bool one = task.queries * task.values == 1;
  const std::string type =
      one ? task.value_type.substr(0, task.value_type.size() - 1) : task.value_type;
  Reader reader(sample.input);
  reader.expect(
      fmt::format("{} special magic {} {} hidden within the following text. Make sure to "
                  "memorize it. I will quiz you about the {} afterwards.\n",
                  one ? "A" : "Some", type, one ? "is" : "are", type));
  const std::string context = reader.until_last("\nWhat ");
  reader.expect(fmt::format("{} the special magic {} for ", one ? "is" : "are all", type));
  const std::string query = reader.until(" mentioned in the provided text? ");
  reader.expect(fmt::format("The special magic {} for {} mentioned in the provided text {}", type,
                            query, one ? "is" : "are"));
  reader.expect_end();

  std::vector<std::string> asked = split(query, ", ");
  if (asked.size() > 1) {
    EXPECT_TRUE(asked.back().starts_with("and "));
    asked.back().erase(0, 4);
  }
  EXPECT_EQ(asked.size(), task.queries);

  const std::vector<FoundNeedle> needles = find_needles(context, task);
  std::map<std::string, std::vector<std::string>> values;
  for (const FoundNeedle& needle : needles) values[needle.key].push_back(needle.value);
  EXPECT_EQ(sample.answers.size(), task.queries * task.values);
  for (size_t q = 0; q < asked.size(); ++q) {
    const auto first = sample.answers.begin() + static_cast<std::ptrdiff_t>(q * task.values);
    const std::vector<std::string> wanted(first, first + static_cast<std::ptrdiff_t>(task.values));
    EXPECT_THAT(values[asked[q]], UnorderedElementsAreArray(wanted)) << asked[q];
  }

  const std::vector<std::string> lines = split(context, "\n");
  if (task.haystack == "essay") {
    EXPECT_EQ(needles.size(), task.keys * task.values);
    return read_essay(context, needles, *sources.essays);
  }
  if (task.haystack == "needle") {
    EXPECT_EQ(lines.size(), needles.size());
  } else {
    EXPECT_EQ(needles.size(), task.keys * task.values);
    EXPECT_EQ(std::ranges::count(lines, kNoise),
              static_cast<std::ptrdiff_t>(lines.size() - needles.size()));
  }
  for (const FoundNeedle& needle : needles) {  // a whole line each
    EXPECT_TRUE(needle.begin == 0 || context[needle.begin - 1] == '\n');
    EXPECT_TRUE(needle.begin + needle.size == context.size() ||
                context[needle.begin + needle.size] == '\n');
  }
  return lines.size() - task.keys * task.values;
}

// --- vt ------------------------------------------------------------------------------------------

struct Chain {
  std::vector<std::string> names;
  std::string value;
  size_t noise = 0;
};

/// `context` to its end: noise sentences and statements joined by spaces.
Chain read_chain(const std::string& context, size_t name_length) {
  Chain chain;
  Reader reader(context);
  for (bool first = true; !reader.rest().empty(); first = false) {
    if (!first) reader.expect(" ");
    if (reader.accept(fmt::format("{}\n", kNoise))) {
      ++chain.noise;
      continue;
    }
    reader.expect("VAR ");
    const std::string name = reader.until(" = ");
    EXPECT_EQ(name.size(), name_length) << name;
    EXPECT_TRUE(std::ranges::all_of(name, [](char c) { return c >= 'A' && c <= 'Z'; })) << name;
    if (chain.names.empty()) {
      chain.value = reader.rest().substr(0, 5);
      reader.expect(chain.value);
      EXPECT_TRUE(std::regex_match(chain.value, std::regex("[1-9][0-9]{4}")));
    } else {
      reader.expect(fmt::format("VAR {} ", chain.names.back()));
    }
    chain.names.push_back(name);
  }
  EXPECT_EQ(chain.names.size(), 5U);
  EXPECT_EQ(std::set(chain.names.begin(), chain.names.end()).size(), 5U);
  return chain;
}

std::string vt_answer_prefix(const std::string& value) {
  return fmt::format(
      " Answer: According to the chain(s) of variable assignment in the text above, "
      "5 variables are assgined the value {}, they are: ",
      value);
}

size_t read_vt(const RulerSample& sample) {
  Reader reader(sample.input);
  reader.expect(
      " Memorize and track the chain(s) of variable assignment hidden in the following text. ");
  const Chain example =
      read_chain(reader.until(" Question: Find all variables that are assigned the value "), 3);
  EXPECT_EQ(example.noise % 5, 0U);
  reader.expect(fmt::format("{} in the text{} {}\n\n\n\n", example.value,
                            vt_answer_prefix(example.value), fmt::join(example.names, " ")));

  reader.expect(
      "Memorize and track the chain(s) of variable assignment hidden in the following text.\n\n");
  const Chain chain =
      read_chain(reader.until("\nQuestion: Find all variables that are assigned the value "), 5);
  reader.expect(fmt::format("{} in the text above.{}", chain.value, vt_answer_prefix(chain.value)));
  reader.expect_end();
  EXPECT_EQ(sample.answers, chain.names);
  EXPECT_EQ(chain.noise % 10, 0U);
  return chain.noise;
}

// --- cwe -----------------------------------------------------------------------------------------

/// Different words of a numbered list, in which `common` appear `often` times each and the others
/// `seldom` times.
size_t read_numbered(const std::string& context, const std::vector<std::string>& common,
                     size_t often, size_t seldom) {
  const std::string with_end = context + " ";
  Reader reader(with_end);
  std::map<std::string, size_t> counts;
  for (size_t i = 1; !reader.rest().empty(); ++i) {
    reader.expect(fmt::format("{}. ", i));
    ++counts[reader.until(" ")];
  }
  for (const auto& [word, count] : counts) {
    const bool frequent = std::ranges::find(common, word) != common.end();
    EXPECT_EQ(count, frequent ? often : seldom) << word;
    EXPECT_TRUE(is_one_of(nouns(), word) || is_one_of(adjectives(), word) ||
                is_one_of(verbs(), word))
        << word;
  }
  EXPECT_EQ(std::set(common.begin(), common.end()).size(), 10U);
  return counts.size();
}

size_t read_cwe(const RulerSample& sample) {
  constexpr std::string_view kHead =
      "Below is a numbered list of words. In these words, some appear more often than others. "
      "Memorize the ones that appear most often.\n";
  constexpr std::string_view kTail =
      "\nQuestion: What are the 10 most common words in the above list? Answer: The top 10 words "
      "that appear most often in the list are:";
  const bool small = sample.length < 4096;
  Reader reader(sample.input);
  reader.expect(kHead);
  const std::string example = reader.until(kTail);
  std::vector<std::string> answers;
  for (int i = 1; i <= 10; ++i) {
    reader.expect(fmt::format("{}. ", i));
    answers.push_back(reader.until(i < 10 ? " " : "\n"));
  }
  EXPECT_EQ(read_numbered(example, answers, small ? 3 : 10, small ? 1 : 3), small ? 20U : 40U);
  reader.expect(kHead);
  const std::string list = reader.until(kTail);
  reader.expect_end();
  return read_numbered(list, sample.answers, small ? 6 : 30, small ? 1 : 3);
}

// --- fwe -----------------------------------------------------------------------------------------

size_t read_fwe(const RulerSample& sample) {
  Reader reader(sample.input);
  reader.expect(
      "Read the following coded text and track the frequency of each coded word. Find the three "
      "most frequently appeared coded words. ");
  const std::string context = reader.until(
      "\nQuestion: Do not provide any explanation. Please ignore the dots '....'. What are the "
      "three most frequently appeared words in the above coded text? Answer: According to the "
      "coded text above, the three most frequently appeared words are:");
  reader.expect_end();
  std::map<std::string, size_t> counts;
  for (const std::string& word : split(context, " ")) ++counts[word];
  std::vector<size_t> falling;
  for (const auto& [word, count] : counts) {
    EXPECT_TRUE(word == "..." || std::regex_match(word, std::regex("[a-z]{6}"))) << word;
    falling.push_back(count);
  }
  std::ranges::sort(falling, std::greater<>());
  EXPECT_EQ(falling.at(0), counts["..."]);
  for (size_t i = 0; i < 3; ++i) EXPECT_EQ(counts[sample.answers.at(i)], falling.at(i + 1));

  // The number of words that explains all counts, among those that the search can reach.
  const size_t step = sample.length / 32;
  const auto explains = [&](size_t words) {
    size_t rank = 1;
    for (; rank <= sample.length / 50; ++rank) {
      const auto expected =
          static_cast<size_t>(static_cast<double>(words) *
                              std::pow(static_cast<double>(rank), -2.0) / 1.6449340668482264);
      const size_t found = rank <= falling.size() ? falling[rank - 1] : 0;
      if (expected != found) return false;
    }
    return rank > falling.size();
  };
  for (size_t words = sample.length / 6 % step; words < 2 * sample.length; words += step) {
    if (explains(words)) return words;
  }
  ADD_FAILURE() << "no number of words has these counts";
  return 0;
}

// --- qa ------------------------------------------------------------------------------------------

size_t read_qa(const RulerSample& sample, const RulerSources& sources) {
  constexpr std::string_view kInstruction =
      "Answer the question based on the given documents. Only give me the answer and do not output "
      "any other words.\n\n";
  Reader reader(sample.input);
  reader.expect(kInstruction);
  reader.expect("The following are given documents.\n\n");
  const std::string context = reader.until_last(fmt::format("\n\n{}Question: ", kInstruction));
  const std::string question = reader.until_last(" Answer:");
  EXPECT_FALSE(question.empty());
  reader.expect_end();
  std::set<std::string> seen;
  Reader documents(context);
  bool answered = false;
  for (size_t i = 1; !documents.rest().empty(); ++i) {
    documents.expect(fmt::format("Document {}:\n", i));
    const std::string next = fmt::format("\n\nDocument {}:\n", i + 1);
    const std::string_view rest = documents.rest();
    const std::string document(rest.substr(0, rest.find(next)));
    documents.expect(document);
    documents.accept("\n\n");
    EXPECT_TRUE(seen.insert(document).second) << "twice: " << document;
    if (sources.documents != nullptr) {
      EXPECT_TRUE(std::ranges::binary_search(*sources.documents, document)) << document;
    }
    for (const std::string& answer : sample.answers) {
      answered = answered || document.find(answer) != std::string::npos;
    }
  }
  EXPECT_FALSE(sample.answers.empty());
  const bool from_text = sample.answers != std::vector<std::string>{"yes"} &&
                         sample.answers != std::vector<std::string>{"no"};
  EXPECT_TRUE(answered || !from_text) << question;
  return seen.size();
}

}  // namespace

size_t read_ruler_sample(const RulerSample& sample, const RulerSources& sources) {
  SCOPED_TRACE(sample.task);
  if (sample.task == "vt") return read_vt(sample);
  if (sample.task == "cwe") return read_cwe(sample);
  if (sample.task == "fwe") return read_fwe(sample);
  if (sample.task.starts_with("qa")) return read_qa(sample, sources);
  return read_niah(sample, sources);
}

}  // namespace restkv::eval
