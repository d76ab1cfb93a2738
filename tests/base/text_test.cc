#include "base/text.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <string_view>
#include <utility>

#include "base/ascii.h"
#include "restkv/error.h"
#include "support/refusal.h"

namespace restkv {
namespace {

using namespace std::string_literals;

const std::string kText = "Grüße, 世界 \U0001F600\r\nEnde";

std::string refusal(const std::string& bytes) {
  std::string message =
      testing::refusal(ErrorCode::kInput, [&] { (void)to_utf8(bytes, "notes.txt"); });
  EXPECT_TRUE(message.starts_with("notes.txt: ")) << message;
  return message;
}

void expect_refusal(const std::string& bytes, std::initializer_list<const char*> parts) {
  const std::string message = refusal(bytes);
  for (const char* part : parts) EXPECT_NE(message.find(part), std::string::npos) << message;
}

/// `text` in units of 2 or 4 bytes behind a byte order mark.
std::string in_units(const std::u32string& text, int unit_bytes, bool big_endian) {
  std::string bytes;
  const auto put = [&](uint32_t unit) {
    for (int b = 0; b < unit_bytes; ++b) {
      const int shift = 8 * (big_endian ? unit_bytes - 1 - b : b);
      bytes += static_cast<char>(unit >> static_cast<unsigned>(shift) & 0xFFU);
    }
  };
  put(0xFEFF);
  for (const char32_t c : text) {
    if (unit_bytes == 2 && c > 0xFFFF) {
      put(0xD800 + ((c - 0x10000) >> 10U));
      put(0xDC00 + ((c - 0x10000) & 0x3FFU));
    } else {
      put(c);
    }
  }
  return bytes;
}

TEST(Text, Utf8StaysAsItIs) {
  EXPECT_EQ(to_utf8(kText, ""), kText);
  EXPECT_EQ(to_utf8("", ""), "");
  EXPECT_EQ(to_utf8("\uFFFD \uE000 \U0010FFFF", ""), "\uFFFD \uE000 \U0010FFFF");
  // Texts about files are no such files.
  for (const char* text : {"GGUF is a format", "PK", "BZh?", "%PDF-1.7 begins a document"}) {
    EXPECT_EQ(to_utf8(text, ""), text);
  }
}

TEST(Text, ByteOrderMarksAreUnderstood) {
  EXPECT_EQ(to_utf8("\xEF\xBB\xBF" + kText, ""), kText);
  EXPECT_EQ(to_utf8("\xEF\xBB\xBF", ""), "");
  for (const bool big_endian : {false, true}) {
    for (const int unit_bytes : {2, 4}) {
      EXPECT_EQ(to_utf8(in_units(U"Grüße, 世界 \U0001F600\r\nEnde", unit_bytes, big_endian), ""),
                kText)
          << unit_bytes << " bytes, big endian " << big_endian;
      EXPECT_EQ(to_utf8(in_units(U"", unit_bytes, big_endian), ""), "");
    }
  }
}

TEST(Text, DamagedUtf16IsRefused) {
  const std::string whole = in_units(U"Grüße \U0001F600", 2, false);
  expect_refusal(whole.substr(0, whole.size() - 1), {"UTF-16LE", "offset"});
  expect_refusal(whole.substr(0, whole.size() - 2), {"UTF-16LE", "offset 14"});
  expect_refusal("\xFE\xFF\xDC\x00"s, {"UTF-16BE", "offset 2"});
  expect_refusal("\xFE\xFF\x00\x41\x00\x00\x00\x42"s, {"UTF-16BE", "offset 4"});
  expect_refusal("\xFF\xFE\x00\x00\x00\x00\x11\x00"s, {"UTF-32LE", "offset 4"});
  expect_refusal("\xFF\xFE\x00\x00\x41\x00"s, {"UTF-32LE", "offset 4"});
}

TEST(Text, WhatIsNoTextIsNamed) {
  const std::string noise = "\x01\0\xFF\x02"s;
  for (const auto& [begin, name] : {std::pair{"rkv-snap", "a saved session"},
                                    {"GGUF", "a GGUF model"},
                                    {"%PDF-1.7\n%", "a PDF document"},
                                    {"PK\x03\x04", "a zip archive"},
                                    {"\xD0\xCF\x11\xE0", "an old Office document"},
                                    {"\x1F\x8B", "gzip"},
                                    {"BZh9", "bzip2"},
                                    {"\xFD\x37zXZ", "xz"},
                                    {"\x28\xB5\x2F\xFD", "zstd"},
                                    {"\x89PNG", "PNG"},
                                    {"\xFF\xD8\xFF", "JPEG"},
                                    {"\x7F\x45LF", "a program"}}) {
    expect_refusal(begin + noise, {name, "not a text"});
  }
  expect_refusal("h\0e\0"s, {"zero byte at offset 1", "iconv -f UTF-16LE -t UTF-8"});
}

TEST(Text, InvalidUtf8IsRefused) {
  expect_refusal("one\ntwo caf\xE9 three",
                 {"byte 0xE9 at offset 11 (line 2)", "iconv -f WINDOWS-1252 -t UTF-8"});
  for (const char* bad :
       {"\x80", "\xC0\xAF", "\xED\xA0\x80", "\xF4\x90\x80\x80", "\xE4\xB8", "\xFF"}) {
    expect_refusal("ab" + std::string(bad), {"offset 2", "line 1"});
    EXPECT_EQ(replace_invalid_utf8("ab" + std::string(bad) + "c").substr(0, 5), "ab\uFFFD");
  }
  EXPECT_EQ(replace_invalid_utf8(kText), kText);
  EXPECT_EQ(replace_invalid_utf8("\xE4\xB8"), "\uFFFD");
  EXPECT_EQ(replace_invalid_utf8("\xE4\xB8!\xFF"), "\uFFFD!\uFFFD");
}

TEST(Text, IncompleteCharactersAreFound) {
  for (const std::string& text : {"a"s, "ab\U0001F600"s, "x世"s, "xü"s, kText}) {
    EXPECT_EQ(complete_utf8(text), text.size());
  }
  EXPECT_EQ(complete_utf8(""), 0U);
  EXPECT_EQ(complete_utf8("ab\xF0\x9F\x98"), 2U);
  EXPECT_EQ(complete_utf8("ab\xF0\x9F"), 2U);
  EXPECT_EQ(complete_utf8("ab\xF0"), 2U);
  EXPECT_EQ(complete_utf8("\xE4\xB8"), 0U);
  EXPECT_EQ(complete_utf8("\xC3"), 0U);
  EXPECT_EQ(complete_utf8("ab\x9F\x98"), 4U);  // no character will ever come of these
}

TEST(Text, FilesAreJudgedByTheirFirstBytes) {
  EXPECT_NO_THROW(require_text_file("{\"text\": \"caf\xC3", "data.jsonl"));
  EXPECT_NO_THROW(require_text_file("\xEF\xBB\xBF{}", "data.jsonl"));
  EXPECT_NO_THROW(require_text_file("", "data.jsonl"));
  for (const auto& [bytes, part] : {std::pair{in_units(U"{}", 2, false), "UTF-16"},
                                    {in_units(U"{}", 2, true), "UTF-16"},
                                    {in_units(U"{}", 4, true), "UTF-32"},
                                    {"GGUF\3\0\0\0"s, "a GGUF model"},
                                    {"{\0}\0"s, "zero byte at offset 1"}}) {
    EXPECT_THAT(
        testing::refusal(ErrorCode::kInput, [&] { require_text_file(bytes, "data.jsonl"); }),
        ::testing::HasSubstr(part));
  }
}

TEST(Text, ZeroBytesAreRefused) {
  EXPECT_NO_THROW(require_no_zero_byte("text", "the message"));
  EXPECT_THAT(testing::refusal(ErrorCode::kInvalidArgument,
                               [] { require_no_zero_byte("te\0xt"s, "the message"); }),
              ::testing::HasSubstr("the message holds a zero byte at offset 2"));
}

TEST(Ascii, LowerCaseChangesNothingElse) {
  EXPECT_EQ(lower_case("Model.GGUF @[`{ \xc3\x84"), "model.gguf @[`{ \xc3\x84");
  EXPECT_EQ(lower_case(""), "");
}

}  // namespace
}  // namespace restkv
