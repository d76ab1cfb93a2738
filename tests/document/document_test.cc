// Which kind of file it is, and in which encoding.
#include "document/document.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "support/refusal.h"

namespace restkv::document {
namespace {

using namespace std::string_literals;
using ::restkv::testing::refusal;
using ::testing::HasSubstr;

Document read(const std::string& bytes, const std::string& name = "file",
              const std::string& content_type = "") {
  return read_document(bytes, {.name = name, .content_type = content_type});
}
std::string refused(const std::string& bytes, const std::string& name = "file") {
  return refusal(ErrorCode::kInput, [&] { (void)read(bytes, name); });
}

TEST(ReadDocument, LeavesTextsAsTheyAre) {
  for (const std::string text :
       {"# A title\r\n\r\n- one\n", "#include <html>\nint main() {}\n", "a < b\t and \u00E9\n\n\n",
        "Text that names <html> and %PDF-1.4 later", "<htmlish>", "<!-- only a comment", ""}) {
    const Document document = read(text, "notes.md", "text/markdown");
    EXPECT_EQ(document.kind, Kind::kText) << text;
    EXPECT_EQ(document.text, text);
  }
}

TEST(ReadDocument, ContentDecidesBeforeNames) {
  for (const char* begin :
       {"<!doctype html>", "<!DOCTYPE HTML PUBLIC \"-//W3C//DTD HTML 4.01//EN\">",
        "\n <html lang=de>", "\xEF\xBB\xBF<HTML>",
        "<?xml version=\"1.0\"?>\n<!-- saved --><html xmlns='x'>"}) {
    const Document document = read(std::string(begin) + "<p>Hello", "notes.txt", "text/plain");
    EXPECT_EQ(document.kind, Kind::kHtml) << begin;
    EXPECT_EQ(document.text, "Hello\n") << begin;
  }
  const std::string part = "<p>One<p>Two";
  EXPECT_EQ(read(part, "part.txt").text, part);
  for (const char* name : {"page.html", "PAGE.HTM", "page.xhtml"}) {
    EXPECT_EQ(read(part, name).text, "One\n\nTwo\n") << name;
  }
  EXPECT_EQ(read(part, "part", "text/html; charset=utf-8").kind, Kind::kHtml);
  EXPECT_EQ(read(part, "part.pdf").kind, Kind::kText);
}

TEST(ReadDocument, TakesEncodingsThatAreMarkedOrDeclared) {
  EXPECT_EQ(read("\xEF\xBB\xBFh\xC3\xA9").text, "h\u00E9");
  EXPECT_EQ(read("\xFF\xFEh\0\xE9\0"s).text, "h\u00E9");
  EXPECT_EQ(read("\xFE\xFF\0<\0h\0t\0m\0l\0>\0\xE9"s).text, "\u00E9\n");
  const std::string latin = "Caf\xE9 \x96 5 \x80";
  const std::string want = "Caf\u00E9 \u2013 5 \u20AC";
  EXPECT_EQ(read(latin, "a.txt", "text/plain; charset=ISO-8859-1").text, want);
  EXPECT_EQ(read("<html><meta charset=\"windows-1252\"><p>" + latin).text, want + "\n");
  EXPECT_EQ(
      read("<html><META http-equiv=Content-Type content='text/html; charset=latin1'><p>" + latin)
          .text,
      want + "\n");
  EXPECT_EQ(read("<?xml version='1.0' encoding='windows-1252'?><html><p>" + latin).text,
            want + "\n");
  EXPECT_EQ(read("<html><meta charset=shift_jis><p>\x93\xFA\x96\x7B").text, "\u65E5\u672C\n");
  EXPECT_EQ(read("<html><meta charset=iso-2022-jp><p>\x1B$BF|K\\\x1B(B").text, "\u65E5\u672C\n");
  // Declared by mistake.
  EXPECT_EQ(read("<html><meta charset=iso-8859-1><p>h\xC3\xA9").text, "h\u00E9\n");
}

TEST(ReadDocument, RefusesOtherEncodingsAndFiles) {
  EXPECT_THAT(refused("Caf\xE9", "menu.txt"), HasSubstr("menu.txt: is not UTF-8: byte 0xE9"));
  EXPECT_THAT(refused("<html><meta charset=klingon-8><p>\xE9", "page.html"),
              HasSubstr("page.html: declares the encoding 'klingon-8', which is not known"));
  EXPECT_THAT(refused("<html><meta charset=euc-jp><p>\xE9", "page.html"),
              HasSubstr("'euc-jp', but is not in it"));
  EXPECT_THAT(refused("PK\x03\x04rest\xFF", "book.epub"), HasSubstr("book.epub: is a zip archive"));
  EXPECT_THAT(refused("{\\rtf1\\ansi Hello}", "letter.rtf"), HasSubstr("is an RTF document"));
  EXPECT_THAT(refused("\x89PNG\r\n\x1A\n\0"s, "photo.png"), HasSubstr("is a PNG picture"));
  EXPECT_THAT(refused("abc\0def"s), HasSubstr("is binary"));
  EXPECT_THAT(refused("<html><script>make_page()</script></html>", "app.html"),
              HasSubstr("app.html: is an HTML page without text"));
}

}  // namespace
}  // namespace restkv::document
