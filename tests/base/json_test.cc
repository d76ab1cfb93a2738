#include "base/json.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <bit>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <limits>
#include <nlohmann/json.hpp>
#include <string>

#include "base/file.h"
#include "base/random.h"
#include "restkv/error.h"
#include "support/refusal.h"

namespace restkv {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;
using testing::refusal;
using ::testing::StartsWith;
using ::testing::UnorderedElementsAre;

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
                          parse_json("{\n\"x\": " + nested(levels, "{\"a\":", "1", "}") + "}",
                                     "run.json");
                        }),
                StartsWith("run.json:2: has more than 64 levels"));
  }
}

TEST(Json, RefusesFieldsThatStandTwice) {
  EXPECT_EQ(parse_json(R"([{"a": 1, "b": {"a": 2}}, {"a": 3}])").size(), 2U);
  EXPECT_EQ(refusal(ErrorCode::kInput, [] { parse_json(R"({"a": 1, "b": 2, "a": 3})"); }),
            "field 'a' occurs twice in one object; keep one of them");
  EXPECT_EQ(
      refusal(ErrorCode::kInput, [] { parse_json(R"([{"x": [{"a": {}, "a": 1}]}])", "x.json"); }),
      "x.json: field 'a' occurs twice in one object; keep one of them");
}

TEST(Json, FilesHoldNoZeroBytes) {
  // The parser takes one for the end of the input.
  for (const std::string& text : {std::string("{}\n\0 and more", 13),
                                  std::string("{\"a\"\n:\0 1}", 10), std::string("[1]\n\0", 5)}) {
    EXPECT_EQ(refusal(ErrorCode::kInput, [&] { parse_json(text, "x.json"); }),
              "x.json:2: has a zero byte, which JSON does not allow; remove it");
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
  EXPECT_EQ(shown(Json(std::string(1000, 'x'))).size(), 80U);
}

TEST(Json, IsWrittenInItsOrder) {
  const Json value = {{"text", "a\"\n\u00e9"},
                      {"numbers", {1, -2, 0.1, 1e300, 2.0, std::numeric_limits<uint64_t>::max()}},
                      {"object", {{"b", true}, {"a", nullptr}}},
                      {"empty", {Json::array(), Json::object()}},
                      {"pair", {"a", 1}},
                      {"nan", std::nan("")}};
  EXPECT_EQ(value.dump(),
            R"({"text":"a\"\né","numbers":[1,-2,0.1,1e+300,2.0,18446744073709551615],)"
            R"("object":{"b":true,"a":null},"empty":[[],{}],"pair":["a",1],"nan":null})");
  EXPECT_EQ(Json("\u00e9\xff").dump(), "\"\u00e9\uFFFD\"");
  EXPECT_EQ(Json("\u00e9\xff").dump_ascii(), R"("\u00e9\ufffd")");
  EXPECT_EQ(value.sorted().at("object").dump(), R"({"a":null,"b":true})");
}

TEST(Json, ComparesByValueWhateverTheOrderOfFields) {
  const Json value = {{"a", {1, 2.5, "x"}}, {"b", {{"c", nullptr}, {"d", false}}}};
  EXPECT_EQ(value, parse_json(R"({"b": {"d": false, "c": null}, "a": [1.0, 2.5, "x"]})"));
  EXPECT_NE(value, parse_json(R"({"b": {"d": false, "c": null}, "a": [2.5, 1.0, "x"]})"));
  EXPECT_NE(value, parse_json(R"({"b": {"d": false, "e": null}, "a": [1.0, 2.5, "x"]})"));
  EXPECT_NE(Json(-1), Json(std::numeric_limits<uint64_t>::max()));
  EXPECT_NE(Json(), Json(0));
  EXPECT_NE(Json(false), Json(0));
  EXPECT_NE(Json::array(), Json::object());
  EXPECT_EQ(Json(3), 3.0);
  EXPECT_EQ(Json("x"), "x");
}

TEST(Json, GivesNoValueOfAnotherType) {
  const Json value = {{"n", -1}, {"r", 1.5}, {"t", "x"}, {"l", {1, 2}}};
  EXPECT_EQ(value.at("l").get<std::vector<size_t>>(), (std::vector<size_t>{1, 2}));
  EXPECT_EQ(value.at("n").get<double>(), -1.0);
  EXPECT_EQ(value.value("n", 7), -1);
  EXPECT_EQ(value.value("none", "y"), "y");
  EXPECT_EQ(refusal(ErrorCode::kInput, [&] { (void)value.at("n").get<uint64_t>(); }),
            "expected a whole number from 0 to 18446744073709551615, not -1");
  EXPECT_EQ(refusal(ErrorCode::kInput, [&] { (void)Json(int64_t{1} << 40).get<int>(); }),
            "expected a whole number from -2147483648 to 2147483647, not 1099511627776");
  EXPECT_THAT(refusal(ErrorCode::kInput, [&] { (void)value.at("r").get<int>(); }),
              HasSubstr("not 1.5"));
  EXPECT_EQ(refusal(ErrorCode::kInput, [&] { (void)value.at("n").text(); }),
            "expected a text, not -1");
  EXPECT_EQ(refusal(ErrorCode::kInput, [&] { (void)value.at("n").get<bool>(); }),
            "expected true or false, not -1");
  EXPECT_EQ(refusal(ErrorCode::kInput, [&] { (void)value.at("l").at(2); }),
            "expected a list with an item 2, not [1,2]");
  EXPECT_EQ(refusal(ErrorCode::kInput, [&] { (void)value.at("l").at("x"); }),
            "expected an object with field 'x', not [1,2]");
  EXPECT_EQ(refusal(ErrorCode::kInput, [&] { (void)value.at("x"); }), "field 'x' is missing");
  EXPECT_EQ(refusal(ErrorCode::kInput, [&] { (void)value.begin(); }).substr(0, 20),
            "expected a list, not");
  EXPECT_EQ(refusal(ErrorCode::kInput, [&] { (void)value.at("l").items(); }),
            "expected an object, not [1,2]");
}

TEST(Json, ReadsObjectsOfManyFields) {
  std::string text = "{";
  for (size_t i = 0; i < 100000; ++i) text += fmt::format("\"{}\":{},", i, i);
  text.back() = '}';
  const Json json = parse_json(text);
  EXPECT_EQ(json.size(), 100000U);
  EXPECT_EQ(json.dump(), text);
  EXPECT_EQ(json, json.sorted());
}

/// Any value, as the library that reads and writes it has it.
nlohmann::ordered_json random_value(Random& random, size_t levels) {
  const auto text = [&] {
    std::string bytes;
    for (size_t i = random.below(12); i > 0; --i) {
      bytes += random.below(4) == 0 ? static_cast<char>(random.below(256))
                                    : static_cast<char>(random.between(32, 126));
    }
    return bytes;
  };
  const auto number = [&] { return random.bits() >> random.below(64); };
  switch (random.below(levels == 0 ? 6 : 8)) {
    case 0:
      return nullptr;
    case 1:
      return random.below(2) == 0;
    case 2:
      return number();
    case 3:
      return -static_cast<int64_t>(number() >> 1);
    case 4:
      return std::bit_cast<double>(random.bits());
    case 5:
      return text();
    case 6: {
      auto list = nlohmann::ordered_json::array();
      for (size_t i = random.below(5); i > 0; --i) list.push_back(random_value(random, levels - 1));
      return list;
    }
    default: {
      auto object = nlohmann::ordered_json::object();
      for (size_t i = random.below(5); i > 0; --i) {
        object[std::to_string(i) + text()] = random_value(random, levels - 1);
      }
      return object;
    }
  }
}

TEST(Json, ReadsAndWritesWhateverTheLibraryWrites) {
  using Handler = nlohmann::ordered_json::error_handler_t;
  Random random(1);
  for (int i = 0; i < 3000; ++i) {
    const auto value = random_value(random, 4);
    const std::string text = value.dump(-1, ' ', false, Handler::replace);
    const Json json = parse_json(text);
    EXPECT_EQ(json.dump(), text);
    EXPECT_EQ(json.dump(2), value.dump(2, ' ', false, Handler::replace));
    EXPECT_EQ(json.dump_ascii(), value.dump(-1, ' ', true, Handler::replace));
    EXPECT_EQ(json.sorted().dump(), nlohmann::json::parse(text).dump());
    EXPECT_EQ(json, json.sorted());
  }
}

TEST(Json, WritesTextsThatAreNoUtf8AsTheLibraryDoes) {
  using Handler = nlohmann::json::error_handler_t;
  Random random(2);
  for (int i = 0; i < 3000; ++i) {
    std::string bytes;
    for (size_t k = random.below(20); k > 0; --k) bytes += static_cast<char>(random.below(256));
    EXPECT_EQ(Json(bytes).dump(), nlohmann::json(bytes).dump(-1, ' ', false, Handler::replace));
  }
}

/// Other files would take long to compile, and JSON from outside that is parsed there would have
/// no limit on nesting.
TEST(Json, OneFileKnowsTheLibrary) {
  const fs::path root = fs::path(RESTKV_TEST_DATA_DIR).parent_path().parent_path();
  std::vector<std::string> elsewhere;
  size_t files = 0;
  for (const char* folder : {"src", "tools", "benchmarks", "tests", "include"}) {
    for (const auto& entry : fs::recursive_directory_iterator(root / folder)) {
      const std::string name = entry.path().filename().string();
      if (!name.ends_with(".cc") && !name.ends_with(".h")) continue;
      ++files;
      if (read_file(entry.path().string()).find("nlohmann") == std::string::npos) continue;
      elsewhere.push_back(name);
    }
  }
  EXPECT_GT(files, 200U);
  EXPECT_THAT(elsewhere, UnorderedElementsAre("json_text.cc", "json_test.cc"));
}

}  // namespace
}  // namespace restkv
