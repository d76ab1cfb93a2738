#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <map>
#include <regex>
#include <set>
#include <sstream>

#include "eval/suites/benchmark_data.h"
#include "eval/suites/infinitebench/generators.h"
#include "restkv/error.h"

namespace restkv::eval {
namespace {

std::string text(const Json& record, const char* field) {
  return record.at(field).get<std::string>();
}

std::vector<std::string> lines(const std::string& all) {
  std::vector<std::string> result;
  std::istringstream stream(all);
  for (std::string line; std::getline(stream, line);) result.push_back(line);
  return result;
}

bool matches(const std::string& all, const char* pattern, std::smatch& groups) {
  return std::regex_match(all, groups, std::regex(pattern));
}

// Each reader checks what a record says of itself, works out the answer and returns what the suite
// may vary. They read the published generators' records and ours alike.

struct HiddenDigits {
  size_t noise_lines = 0;
  size_t before = 0;
  std::string digits;
};

HiddenDigits read_hidden_digits(const Json& record, const std::string& name) {
  HiddenDigits found;
  EXPECT_EQ(text(record, "input"), "What is the " + name + "?");
  EXPECT_EQ(text(record, "context").back(), '\n');
  std::smatch groups;
  const std::regex key_line("The " + name + R"( is (\d+)\. Remember it\. (\d+) is the )" + name +
                            R"(\.)");
  for (const std::string& line : lines(text(record, "context"))) {
    if (std::regex_match(line, groups, key_line)) {
      EXPECT_EQ(groups[1], groups[2]);
      EXPECT_EQ(found.digits, "") << "one line with digits only";
      found.digits = groups[1];
      found.before = found.noise_lines;
    } else {
      EXPECT_EQ(line,
                "The grass is green. The sky is blue. The sun is yellow. Here we go. There and "
                "back again.");
      ++found.noise_lines;
    }
  }
  EXPECT_EQ(record.at("answer"), Json(found.digits));
  return found;
}

/// Whether five duplications in place can have made these ten digits.
bool has_five_repeats(const std::string& digits) {
  const auto repeats = [&] {
    size_t n = 0;
    for (size_t i = 1; i < digits.size(); ++i) n += digits[i] == digits[i - 1] ? 1 : 0;
    return n;
  };
  return digits.size() == 10 && repeats() >= 5;
}

struct Pairs {
  size_t pairs = 0;
  size_t wanted = 0;
};

Pairs read_kv_retrieval(const Json& record) {
  const std::string context = text(record, "context");
  const std::string uuid = "[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}";
  const std::string head = "JSON data:\n{";
  EXPECT_EQ(context.substr(0, head.size()), head);
  EXPECT_EQ(context.back(), '}');
  std::smatch question;
  const std::string input = text(record, "input");
  EXPECT_TRUE(std::regex_match(
      input, question,
      std::regex("\nKey: \"(" + uuid + ")\"\nThe value associated with the specified key is: ")))
      << input;

  Pairs found;
  std::string value;
  const std::regex pair("\"(" + uuid + ")\": \"(" + uuid + ")\"");
  std::string again = head;
  for (std::sregex_iterator it(context.begin(), context.end(), pair), end; it != end; ++it) {
    if (found.pairs > 0) again += ", ";
    again += (*it)[0];
    if ((*it)[1] == question[1]) {
      found.wanted = found.pairs;
      value = (*it)[2];
    }
    ++found.pairs;
  }
  EXPECT_EQ(context, again + "}");
  EXPECT_EQ(record.at("answer"), Json(value));
  return found;
}

struct Numbers {
  std::string question;
  std::vector<int64_t> numbers;
};

Numbers read_math_find(const Json& record) {
  const std::string input = text(record, "input");
  std::smatch groups;
  EXPECT_TRUE(matches(input,
                      "You should answer with only one number, no other words\\. The (.+) of the "
                      "list is: ",
                      groups))
      << input;
  Numbers found;
  found.question = groups[1];
  found.numbers = parse_json(text(record, "context")).get<std::vector<int64_t>>();
  EXPECT_EQ(text(record, "context"), [&] {
    std::string list = "[";
    for (const int64_t n : found.numbers) {
      list += (list.size() > 1 ? ", " : "") + std::to_string(n);
    }
    return list + "]";
  }());
  std::vector<int64_t> sorted = found.numbers;
  std::ranges::sort(sorted);
  std::vector<int64_t> distinct = sorted;
  distinct.erase(std::unique(distinct.begin(), distinct.end()), distinct.end());
  EXPECT_GE(distinct.front(), 0);
  EXPECT_LE(distinct.back(), 99);
  std::map<std::string, Json> answers = {
      {"median number", sorted.size() % 2 == 1
                            ? Json(sorted[sorted.size() / 2])
                            : Json(0.5 * static_cast<double>(sorted[sorted.size() / 2] +
                                                             sorted[sorted.size() / 2 - 1]))}};
  const std::array<std::string, 3> ranks = {"", "second ", "third "};
  for (size_t k = 0; k < std::min(ranks.size(), distinct.size()); ++k) {  // short lists repeat
    answers[ranks[k] + "largest number"] = distinct[distinct.size() - 1 - k];
    answers[ranks[k] + "smallest number"] = distinct[k];
  }
  EXPECT_TRUE(answers.contains(found.question)) << found.question;
  EXPECT_EQ(record.at("answer").dump(), answers.at(found.question).dump());  // 57.0 is not 57
  return found;
}

size_t read_math_calc(const Json& record) {
  EXPECT_EQ(text(record, "input"), "The value of the numerical expression is: ");
  std::istringstream expression(text(record, "context"));
  int64_t value = 0;
  expression >> value;
  std::vector<int64_t> values;
  char sign = 0;
  int64_t operand = 0;
  std::string again = std::to_string(value);
  while (expression >> sign >> operand) {
    EXPECT_TRUE(sign == '+' || sign == '-');
    again += fmt::format(" {} {}", sign, operand);
    value += sign == '+' ? operand : -operand;
    EXPECT_TRUE(value >= 0 && value <= 99) << value;
    values.push_back(value);
  }
  EXPECT_EQ(text(record, "context"), again);
  EXPECT_EQ(record.at("answer"), Json(values));
  return values.size() + 1;
}

struct Program {
  size_t functions = 0;
  size_t layers = 0;
};

Program read_code_run(const Json& record, size_t size) {
  struct Body {
    std::string calls;
    int64_t constant = 0;
  };
  std::map<std::string, Body> functions;
  std::vector<int64_t> order;
  const auto all = lines(text(record, "context"));
  EXPECT_EQ(all.at(0), "");
  EXPECT_EQ(all.at(1), "Here is the content of functions_module.py:");
  EXPECT_EQ(all.at(2), "");
  std::smatch groups;
  for (size_t i = 3; i < all.size(); i += 3) {
    EXPECT_TRUE(matches(all[i], R"(def func_(\d+)\(x\):)", groups)) << all[i];
    const std::string name = groups[1];
    order.push_back(std::stoll(name));
    EXPECT_TRUE(
        matches(all.at(i + 1), R"(    return (?:func_(\d+)\(x\)|x)(?: ([+-]) (\d+))?)", groups))
        << all[i + 1];
    Body body{groups[1], groups[3].length() > 0 ? std::stoll(groups[3]) : 0};
    if (groups[2] == "-") body.constant = -body.constant;
    EXPECT_TRUE(body.constant >= -12 && body.constant <= 17);
    functions[name] = body;
    EXPECT_EQ(all.at(i + 2), "");
  }
  EXPECT_TRUE(std::ranges::is_sorted(order));
  EXPECT_EQ(functions.size(), order.size()) << "distinct names";
  EXPECT_GE(order.front(), 1);
  EXPECT_LE(order.back(), static_cast<int64_t>(2 * size));

  const std::string input = text(record, "input");
  EXPECT_TRUE(matches(input,
                      "Please give me the exact number of the return value of "
                      R"(func_(\d+)\((-?\d+)\)\. Your response should end with the sentence )"
                      "'The return value is:'\\.",
                      groups))
      << input;
  int64_t value = std::stoll(groups[2]);
  EXPECT_TRUE(value >= -10 && value <= 10);
  Program found{functions.size(), 0};
  for (std::string next = groups[1]; !next.empty(); next = functions.at(next).calls) {
    value += functions.at(next).constant;
    ++found.layers;
  }
  EXPECT_EQ(record.at("answer"), Json(value));
  return found;
}

Json make(const char* task, size_t index, size_t records, size_t size) {
  const InfiniteBenchGenerator* generator = find_infinitebench_generator(task);
  const Json record =
      generator->make({.index = index, .records = records, .size = size, .seed = 42});
  EXPECT_EQ(record.at("id"), Json(index));
  EXPECT_EQ(record.at("options"), Json::array());
  return record;
}

TEST(InfiniteBenchGenerators, PasskeyStandsAtEveryPublishedDepth) {
  std::map<size_t, size_t> depths;
  for (size_t i = 0; i < 110; ++i) {
    const auto found = read_hidden_digits(make("passkey", i, 110, 326), "pass key");
    EXPECT_EQ(found.noise_lines, 326U);
    EXPECT_EQ(found.digits.size(), 5U);
    ++depths[found.before];
  }
  EXPECT_EQ(depths.size(), 55U);  // 0, 6, ..., 324
  for (const auto& [before, count] : depths) {
    EXPECT_EQ(before % 6, 0U);
    EXPECT_EQ(count, 2U);
  }
}

TEST(InfiniteBenchGenerators, NumberStringRepeatsDigits) {
  for (size_t i = 0; i < 59; ++i) {
    const auto found = read_hidden_digits(make("number_string", i, 59, 580), "sequence of digits");
    EXPECT_EQ(found.before, i * 10);
    EXPECT_TRUE(has_five_repeats(found.digits)) << found.digits;
  }
}

TEST(InfiniteBenchGenerators, KeyValuePairsAreAskedForEvenly) {
  for (const size_t i : {0, 1, 7, 49}) {
    const auto found = read_kv_retrieval(make("kv_retrieval", i, 50, 250));
    EXPECT_EQ(found.pairs, 250U);
    EXPECT_EQ(found.wanted, i * 5);
  }
}

TEST(InfiniteBenchGenerators, MathFindAsksSevenQuestions) {
  std::set<std::string> questions;
  for (size_t i = 0; i < 14; ++i) {
    const auto found = read_math_find(make("math_find", i, 14, i % 2 == 0 ? 300 : 301));
    EXPECT_EQ(found.numbers.size(), i % 2 == 0 ? 300U : 301U);
    questions.insert(found.question);
  }
  EXPECT_EQ(questions.size(), 7U);
  for (size_t i = 0; i < 70; ++i) read_math_find(make("math_find", i, 70, 3));
}

TEST(InfiniteBenchGenerators, MathCalcStaysWithinBounds) {
  for (size_t i = 0; i < 5; ++i) EXPECT_EQ(read_math_calc(make("math_calc", i, 5, 500)), 500U);
}

TEST(InfiniteBenchGenerators, CodeRunHasEachNumberOfLayers) {
  for (size_t i = 0; i < 10; ++i) {
    const auto found = read_code_run(make("code_run", i, 10, 110), 110);
    EXPECT_EQ(found.layers, 2 + 2 * (i / 2));
    EXPECT_EQ(found.functions, 110 / found.layers * found.layers);
  }
}

TEST(InfiniteBenchGenerators, RecordsDependOnSeedAndIndexOnly) {
  for (const InfiniteBenchGenerator& generator : infinitebench_generators()) {
    const size_t size = std::max<size_t>(generator.smallest, 40);
    GeneratedRecord request{.index = 3, .records = 8, .size = size, .seed = 1};
    const Json record = generator.make(request);
    EXPECT_EQ(record, generator.make(request)) << generator.task;
    request.seed = 2;
    EXPECT_NE(record, generator.make(request)) << generator.task;
  }
}

TEST(InfiniteBenchGenerators, FitIsTheLargestSize) {
  for (const InfiniteBenchGenerator& generator : infinitebench_generators()) {
    const auto words = [](const Json& record) {  // a counter that grows with the size
      const std::string context = text(record, "context");
      return 1 + static_cast<size_t>(
                     std::ranges::count_if(context, [](char c) { return c == ' ' || c == '\n'; }));
    };
    const auto size_of = [&](size_t size) {
      return words(
          generator.make({.index = 0, .records = generator.records, .size = size, .seed = 42}));
    };
    const size_t fitted = fit_infinitebench(generator, 700, 42, words);
    EXPECT_LE(size_of(fitted), 700U) << generator.task;
    EXPECT_GT(size_of(fitted + (generator.task == "code_run" ? 2 : 1)), 700U) << generator.task;
    EXPECT_THROW(fit_infinitebench(generator, 1, 42, words), Error) << generator.task;
  }
}

/// The same readers on records of the published generators.
TEST(InfiniteBenchGenerators, PublishedRecordsHaveTheSameForm) {
  RESTKV_FOLDER_OR_SKIP(data, "RESTKV_DATA_DIR");
  const std::filesystem::path folder = data / "infinitebench/generated";
  for (const Json& record : test::read_jsonl(folder / "passkey_8k.jsonl")) {
    const auto found = read_hidden_digits(record, "pass key");
    EXPECT_EQ(found.noise_lines, 326U);
    EXPECT_EQ(found.before % 6, 0U);
  }
  for (const Json& record : test::read_jsonl(folder / "passkey_32k.jsonl")) {
    EXPECT_EQ(read_hidden_digits(record, "pass key").noise_lines, 1305U);
  }
  const auto* number_string = find_infinitebench_generator("number_string");
  for (const Json& record : test::read_jsonl(folder / "number_string_128k.jsonl")) {
    const auto found = read_hidden_digits(record, "sequence of digits");
    EXPECT_EQ(found.noise_lines, number_string->size);
    EXPECT_EQ(found.before % 90, 0U);
    EXPECT_TRUE(has_five_repeats(found.digits)) << found.digits;
  }
  for (const Json& record : test::read_jsonl(folder / "kv_retrieval.jsonl")) {
    EXPECT_EQ(read_kv_retrieval(record).pairs, find_infinitebench_generator("kv_retrieval")->size);
  }
  for (const Json& record : test::read_jsonl(folder / "math_find.jsonl")) {
    EXPECT_EQ(read_math_find(record).numbers.size(),
              find_infinitebench_generator("math_find")->size);
  }
  for (const Json& record : test::read_jsonl(folder / "math_calc.jsonl")) {
    EXPECT_EQ(read_math_calc(record), find_infinitebench_generator("math_calc")->size);
  }
  for (const Json& record : test::read_jsonl(folder / "code_run.jsonl")) {
    const size_t size = find_infinitebench_generator("code_run")->size;
    const auto found = read_code_run(record, size);
    EXPECT_EQ(found.functions, size / found.layers * found.layers);
  }
}

}  // namespace
}  // namespace restkv::eval
