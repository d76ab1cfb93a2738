#include "base/json.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <string>

#include "base/file.h"
#include "restkv/error.h"
#include "support/refusal.h"

namespace restkv {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;
using nlohmann::ordered_json;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using testing::refusal;
using ::testing::StartsWith;

std::string nested(size_t levels, const std::string& open, const std::string& inner,
                   const std::string& close) {
  std::string text;
  for (size_t i = 0; i < levels; ++i) text += open;
  text += inner;
  for (size_t i = 0; i < levels; ++i) text += close;
  return text;
}

TEST(Json, RefusesDeepNesting) {
  EXPECT_TRUE(parse_json(nested(kMostJsonLevels, "[", "", "]")).is_array());
  EXPECT_TRUE(parse_json(nested(kMostJsonLevels, "{\"a\":", "1", "}")).is_object());
  // As wide as one likes, and brackets in texts are no levels.
  EXPECT_EQ(parse_json("[" + nested(1000, "[],", "[]", "") + "]").size(), 1001U);
  EXPECT_EQ(
      parse_json("[\"" + std::string(1000, '[') + "\\\"" + std::string(1000, '{') + "\"]").size(),
      1U);
  for (const size_t levels : {kMostJsonLevels + 1, size_t{1000000}}) {
    EXPECT_THAT(refusal(ErrorCode::kInput, [&] { parse_json(nested(levels, "[", "", "]")); }),
                HasSubstr("more than 64 levels"));
    EXPECT_THAT(refusal(ErrorCode::kInput,
                        [&] {
                          parse_json<ordered_json>(
                              "{\n\"x\": " + nested(levels, "{\"a\":", "1", "}") + "}", "run.json");
                        }),
                StartsWith("run.json:2: has more than 64 levels"));
  }
}

TEST(Json, RefusesFieldsThatStandTwice) {
  EXPECT_EQ(parse_json(R"([{"a": 1, "b": {"a": 2}}, {"a": 3}])").size(), 2U);
  EXPECT_EQ(refusal(ErrorCode::kInput, [] { parse_json(R"({"a": 1, "b": 2, "a": 3})"); }),
            "field 'a' stands twice in one object; keep one of them");
  EXPECT_EQ(refusal(ErrorCode::kInput,
                    [] { parse_json<ordered_json>(R"([{"x": [{"a": {}, "a": 1}]}])", "x.json"); }),
            "x.json: field 'a' stands twice in one object; keep one of them");
}

TEST(Json, FilesHoldNoZeroBytes) {
  // nlohmann's lexer takes one for the end of the input.
  for (const std::string& text : {std::string("{}\n\0 and more", 13),
                                  std::string("{\"a\"\n:\0 1}", 10), std::string("[1]\n\0", 5)}) {
    EXPECT_EQ(refusal(ErrorCode::kInput, [&] { parse_json(text, "x.json"); }),
              "x.json:2: has a zero byte, which is none of JSON; remove it");
  }
  EXPECT_EQ(parse_json("[\"a\\u0000b\"]").at(0).get<std::string>().size(), 3U);  // as models say
  const fs::path path = fs::path(::testing::TempDir()) / fmt::format("restkv-{}.json", getpid());
  for (const auto& [content, place] :
       {std::pair(R"({"x": "a\\u0000", "y": "\u00001"})",
                  "1: a text holds a zero byte (\\u0000, at column 25)"),
        {"{\n  \"\\u0000\": 1}", "2: a text holds a zero byte (\\u0000, at column 4)"}}) {
    std::ofstream(path) << content;
    EXPECT_THAT(refusal(ErrorCode::kInput, [&] { read_json(path.string()); }),
                StartsWith(fmt::format("{}:{}", path.string(), place)));
  }
  fs::remove(path);
}

TEST(Json, NamesSourceAndLine) {
  EXPECT_THAT(refusal(ErrorCode::kInput, [] { parse_json("{\n \"a\": 1,\n oops}", "a.json"); }),
              StartsWith("a.json:3: parse error at column 2"));
  EXPECT_THAT(refusal(ErrorCode::kInput, [] { parse_json("{\"a\""); }),
              StartsWith("parse error at column 5"));
  EXPECT_THAT(refusal(ErrorCode::kInput, [] { parse_json("", "empty.json"); }),
              StartsWith("empty.json:1: "));
  EXPECT_THAT(refusal(ErrorCode::kInput, [] { parse_json("[1e999]", "x"); }), StartsWith("x:1: "));
  const std::string long_word =
      refusal(ErrorCode::kInput, [] { parse_json("[" + std::string(100000, 'x')); });
  EXPECT_LT(long_word.size(), 400U);
  EXPECT_THAT(refusal(ErrorCode::kInput, [] { read_json("no/such.json"); }),
              HasSubstr("no/such.json"));
}

TEST(Json, FieldsNameThemselvesAndWhatTheyAre) {
  const auto record = parse_json(R"({"t": "x", "n": -1, "l": [1], "o": {}, "b": true, "r": 0.5})");
  EXPECT_EQ(text_field(record, "t"), "x");
  EXPECT_TRUE(bool_field(record, "b"));
  EXPECT_EQ(number_field(record, "r"), 0.5);
  EXPECT_EQ(integer_field(record, "n"), -1);
  EXPECT_EQ(refusal(ErrorCode::kInput, [&] { text_field(record, "none"); }),
            "field 'none' is missing");
  EXPECT_EQ(refusal(ErrorCode::kInput, [&] { text_field(record, "n"); }),
            "field 'n' must be a text, not -1");
  EXPECT_EQ(refusal(ErrorCode::kInput, [&] { count_field(record, "n"); }),
            "field 'n' must be 0 or more, not -1");
  EXPECT_EQ(refusal(ErrorCode::kInput, [&] { integer_field(record, "r"); }),
            "field 'r' must be a whole number, not 0.5");
  EXPECT_EQ(refusal(ErrorCode::kInput, [&] { bool_field(record, "t"); }),
            "field 't' must be true or false, not of type string");
  EXPECT_EQ(refusal(ErrorCode::kInput, [&] { texts_field(record, "l"); }),
            "field 'l' must be a list of texts; its item 1 is 1");
  EXPECT_EQ(refusal(ErrorCode::kInput, [&] { object_field(record, "l"); }),
            "field 'l' must be an object, not of type array");
  EXPECT_EQ(refusal(ErrorCode::kInput, [&] { list_field(record, "o"); }),
            "field 'o' must be a list, not of type object");
  EXPECT_EQ(refusal(ErrorCode::kInput, [&] { field(record.at("l"), "x"); }),
            "expected an object with field 'x', not [1]");
  EXPECT_EQ(shown(json(std::string(1000, 'x'))).size(), 80U);
}

/// JSON from outside that is parsed elsewhere would have no limit on nesting.
TEST(Json, IsParsedInOnePlace) {
  const fs::path root = fs::path(RESTKV_TEST_DATA_DIR).parent_path().parent_path();
  std::vector<std::string> elsewhere;
  size_t files = 0;
  for (const char* folder : {"src", "tools", "bench"}) {
    for (const auto& entry : fs::recursive_directory_iterator(root / folder)) {
      const std::string name = entry.path().filename().string();
      if (!name.ends_with(".cc") && !name.ends_with(".h")) continue;
      ++files;
      if (name == "json.cc") continue;
      const std::string text = read_file(entry.path().string());
      for (const char* way : {"json::parse(", "Json::parse(", "json::sax_parse", "json::accept("}) {
        if (text.find(way) != std::string::npos) elsewhere.push_back(name);
      }
    }
  }
  EXPECT_GT(files, 200U);
  EXPECT_THAT(elsewhere, IsEmpty());
}

}  // namespace
}  // namespace restkv
