#include "eval/jsonl.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <zlib.h>

#include <fstream>
#include <string>
#include <vector>

#include "restkv/error.h"
#include "support/tiny_model.h"

namespace restkv::eval {
namespace {

using restkv::testing::TemporaryFolder;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

void write(const std::string& path, std::string_view content) {
  std::ofstream(path, std::ios::binary) << content;
}

void write_gz(const std::string& path, std::string_view content) {
  gzFile file = gzopen(path.c_str(), "wb");
  ASSERT_EQ(gzwrite(file, content.data(), static_cast<unsigned>(content.size())),
            static_cast<int>(content.size()));
  ASSERT_EQ(gzclose(file), Z_OK);
}

struct Contents {
  std::vector<std::string> texts;  ///< Field "t" of each record.
  std::vector<RecordPlace> places;
  std::vector<size_t> skipped;  ///< Line numbers.
  std::vector<std::string> reasons;
};

Contents read(const std::string& path) {
  Contents contents;
  std::vector<SkippedLine> skipped;
  read_jsonl(
      path,
      [&](const Json& record, RecordPlace place) {
        contents.texts.push_back(text_field(record, "t"));
        contents.places.push_back(place);
        return true;
      },
      skipped);
  for (const SkippedLine& line : skipped) {
    EXPECT_EQ(line.file, path);
    contents.skipped.push_back(line.line);
    contents.reasons.push_back(line.reason);
  }
  return contents;
}

class JsonlTest : public ::testing::Test {
 protected:
  TemporaryFolder folder_;
  std::string path_ = folder_.file("records.jsonl");
};

TEST_F(JsonlTest, ReportsEachMalformedLineAndGoesOn) {
  write(path_,
        "{\"t\": \"one\"}\n"
        "{\"t\": \"cut off\n"
        "\n"
        "{\"t\": \"two\"}\n"
        "[1, 2]\n"
        "{\"t\": 3}\n"
        "{\"u\": \"no t\"}\n"
        "{\"t\": \"bad byte \xff\"}\n"
        "{\"t\": \"a\"} {\"t\": \"b\"}\n"
        "{\"t\": [\"x\"]}\n"
        "{\"t\": \"half \\ud800 pair\"}\n"
        "  \t\n"
        "{\"t\": \"three\"}");
  const Contents contents = read(path_);
  EXPECT_THAT(contents.texts, ElementsAre("one", "two", "three"));
  EXPECT_THAT(contents.skipped, ElementsAre(2, 5, 6, 7, 8, 9, 10, 11));
  EXPECT_THAT(contents.reasons,
              ElementsAre(HasSubstr("parse error at column"), "not a JSON object but array",
                          "field 't' must be a text, not 3", "field 't' is missing",
                          HasSubstr("UTF-8"), HasSubstr("parse error at column"),
                          "field 't' must be a text, not of type array", HasSubstr("surrogate")));
}

TEST_F(JsonlTest, ZeroBytesAreRefusedAndNamed) {
  write(path_, R"({"t": "one"})"
               "\n"
               R"({"t": "before\u0000after"})"
               "\n"
               R"({"t": "x", "more": [{"deep\u0000": 1}]})"
               "\n"
               R"({"t": "a backslash: \\u0000"})"
               "\n"
               R"({"t": "\\\u0000"})"
               "\n");
  const Contents contents = read(path_);
  EXPECT_THAT(contents.texts, ElementsAre("one", "a backslash: \\u0000"));
  EXPECT_THAT(contents.skipped, ElementsAre(2, 3, 5));
  EXPECT_THAT(contents.reasons[0], HasSubstr("a text holds a zero byte (\\u0000, at column 14)"));
}

TEST_F(JsonlTest, OtherFilesAreRefusedAsAWhole) {
  for (const std::string& bytes : {std::string("\xFF\xFE{\0}\0", 6), std::string("\xFE\xFF\0{", 4),
                                   std::string("GGUF\3\0\0\0", 8)}) {
    write(path_, bytes);
    EXPECT_THROW(read(path_), Error);
  }
}

TEST_F(JsonlTest, LeavesOutLinesThatAreTooDeepOrTooLong) {
  const std::string deep =
      "{\"t\": \"x\", \"id\": " + std::string(100000, '[') + std::string(100000, ']') + "}\n";
  const std::string good = "{\"t\": \"good\"}\n";
  // Of zeros, which take 70 KiB in the file: what it unpacks to must not be held.
  const std::string endless = std::string(kMostLineBytes + 5, '0') + '\n';
  const std::string gz = folder_.file("records.jsonl.gz");
  write_gz(gz, deep + good + endless + good + std::string(kMostLineBytes + 1, '0'));
  const Contents contents = read(gz);
  EXPECT_THAT(contents.texts, ElementsAre("good", "good"));
  EXPECT_THAT(contents.skipped, ElementsAre(1, 3, 5));
  EXPECT_THAT(contents.reasons,
              ElementsAre(HasSubstr("more than 64 levels"),
                          HasSubstr("records.jsonl.gz:3: the line has 67108869 bytes, and a record "
                                    "has at most 64 MiB"),
                          HasSubstr("the line has 67108865 bytes")));
  EXPECT_EQ(read_record(gz, contents.places[1])["t"], "good");
}

TEST_F(JsonlTest, TakesByteOrderMarkAndWindowsLineEnds) {
  write(path_, "\xEF\xBB\xBF{\"t\": \"one\"}\r\n\r\n{\"t\": \"two\"}\r\n");
  const Contents contents = read(path_);
  EXPECT_THAT(contents.texts, ElementsAre("one", "two"));
  EXPECT_THAT(contents.skipped, IsEmpty());
  EXPECT_EQ(contents.places[1].line, 3U);
  for (size_t i = 0; i < 2; ++i) {
    EXPECT_EQ(read_record(path_, contents.places[i])["t"], contents.texts[i]);
  }
}

TEST_F(JsonlTest, ReadsLinesLongerThanItsBufferAgainByPlace) {
  std::string content;
  std::vector<std::string> texts;
  for (const size_t size : {300000, 0, 524288, 7, 1000003}) {
    texts.push_back(std::string(size, static_cast<char>('a' + texts.size())));
    content += Json{{"t", texts.back()}}.dump() + "\n";
  }
  write(path_, content);
  const std::string gz = folder_.file("records.jsonl.gz");
  write_gz(gz, content);
  for (const std::string& path : {path_, gz}) {
    const Contents contents = read(path);
    ASSERT_EQ(contents.texts, texts);
    for (const size_t i : {4, 0, 2}) {
      EXPECT_EQ(read_record(path, contents.places[i])["t"], texts[i]) << path;
    }
  }
}

TEST_F(JsonlTest, StopsWhereTheCallerHasEnough) {
  write(path_, "{\"t\": \"one\"}\n{\"t\": \"two\"}\nnever read\n");
  size_t count = 0;
  std::vector<SkippedLine> skipped;
  read_jsonl(
      path_, [&](const Json&, RecordPlace) { return ++count < 2; }, skipped);
  EXPECT_EQ(count, 2U);
  EXPECT_THAT(skipped, IsEmpty());
}

TEST_F(JsonlTest, ADamagedGzFileGivesWhatStandsBeforeTheDamage) {
  std::string content;
  for (size_t i = 0; i < 100000; ++i) {
    content += Json{{"t", std::to_string(i * 7919 % 99991)}}.dump() + "\n";
  }
  const std::string gz = folder_.file("records.jsonl.gz");
  write_gz(gz, content);
  std::filesystem::resize_file(gz, std::filesystem::file_size(gz) / 2);
  const Contents contents = read(gz);
  EXPECT_GT(contents.texts.size(), 1000U);
  EXPECT_LT(contents.texts.size(), 100000U);
  EXPECT_EQ(contents.texts[1], "7919");
  ASSERT_EQ(contents.reasons.size(), 1U);
  EXPECT_THAT(contents.reasons[0], HasSubstr("ends too early"));
}

TEST_F(JsonlTest, SaysWhyAFileCannotBeRead) {
  const auto reason = [&](const std::string& path) -> std::string {
    try {
      read(path);
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::kInput);
      return error.what();
    }
    return "no error";
  };
  EXPECT_THAT(reason(path_), HasSubstr("No such file"));
  EXPECT_THAT(reason(folder_.file(".")), HasSubstr("folder"));
  write(path_, "{\"t\": \"one\"}\n");
  EXPECT_THROW(read_record(path_, {.offset = 100, .line = 9}), Error);
}

TEST_F(JsonlTest, OtherErrorsOfTheCallerAreNotSkippedLines) {
  write(path_, "{\"t\": \"one\"}\n");
  std::vector<SkippedLine> skipped;
  EXPECT_THROW(read_jsonl(
                   path_,
                   [](const Json&, RecordPlace) -> bool {
                     throw Error(ErrorCode::kInvalidArgument, "not the file's fault");
                   },
                   skipped),
               Error);
  EXPECT_THAT(skipped, IsEmpty());
}

TEST(RecordFields, SayWhatTheyMustBe) {
  const Json record = {{"n", -1}, {"list", {"a", 2}}, {"real", 1.5}, {"object", Json::object()}};
  const auto reason = [](const auto& get) -> std::string {
    try {
      get();
    } catch (const Error& error) {
      return error.what();
    }
    return "no error";
  };
  EXPECT_EQ(reason([&] { count_field(record, "n"); }), "field 'n' must be 0 or more, not -1");
  EXPECT_EQ(reason([&] { integer_field(record, "real"); }),
            "field 'real' must be a whole number, not 1.5");
  EXPECT_EQ(reason([&] { texts_field(record, "list"); }),
            "field 'list' must be a list of texts; its item 2 is 2");
  EXPECT_EQ(reason([&] { list_field(record, "object"); }),
            "field 'object' must be a list, not of type object");
  EXPECT_EQ(reason([&] { object_field(record, "x"); }), "field 'x' is missing");
}

}  // namespace
}  // namespace restkv::eval
