#include "server/http/multipart.h"

#include <gtest/gtest.h>

#include "server/http/http_error.h"

namespace restkv::server {
namespace {

constexpr const char* kType = "multipart/form-data; boundary=xx";

std::string part(const std::string& disposition, const std::string& content,
                 const std::string& more = "") {
  return "--xx\r\nContent-Disposition: " + disposition + "\r\n" + more + "\r\n" + content + "\r\n";
}

int refused(const std::string& body, const std::string& type = kType,
            const MultipartLimits& limits = {}) {
  try {
    parse_multipart(type, body, limits);
  } catch (const HttpError& error) {
    return error.status();
  }
  return 0;
}

TEST(Multipart, ReadsFieldsAndFiles) {
  const std::string bytes("a\r\n--x\0\r\n--xxx"[0] + std::string("\r\n--x\0--", 8));
  const std::string body = "preamble\r\n" + part("form-data; name=\"purpose\"", "assistants") +
                           part("form-data; name=\"file\"; filename=\"a \\\"b\\\"; c.txt\"", bytes,
                                "content-type: text/plain; charset=utf-8\r\n") +
                           part("form-data; name=empty", "") + "--xx--\r\nepilogue";
  const std::vector<FormPart> parts = parse_multipart(kType, body);
  ASSERT_EQ(parts.size(), 3U);
  EXPECT_EQ(parts[0].name, "purpose");
  EXPECT_EQ(parts[0].content, "assistants");
  EXPECT_EQ(parts[0].file_name, "");
  EXPECT_EQ(parts[1].file_name, "a \"b\"; c.txt");
  EXPECT_EQ(parts[1].content_type, "text/plain; charset=utf-8");
  EXPECT_EQ(parts[1].content, bytes);
  EXPECT_EQ(parts[2].name, "empty");
  EXPECT_EQ(parts[2].content, "");
}

TEST(Multipart, KeepsNamesAsTheyAre) {
  const auto name = [](const std::string& file) {
    return parse_multipart(kType,
                           part("form-data; name=f; filename=\"" + file + "\"", "") + "--xx--")[0]
        .file_name;
  };
  EXPECT_EQ(name("../../etc/passwd"), "../../etc/passwd");
  EXPECT_EQ(name("C:\\dir\\a.txt"), "C:\\dir\\a.txt");
  EXPECT_EQ(name("caf\xC3\xA9.pdf"), "caf\xC3\xA9.pdf");
}

TEST(Multipart, AcceptsBoundariesInQuotes) {
  EXPECT_EQ(parse_multipart("Multipart/Form-Data; charset=x; boundary=\"xx\"",
                            part("form-data; name=a", "1") + "--xx--")
                .size(),
            1U);
  EXPECT_TRUE(parse_multipart(kType, "--xx--").empty());
}

TEST(Multipart, RefusesWhatIsBroken) {
  const std::string good = part("form-data; name=a", "1");
  EXPECT_EQ(refused(good + "--xx--"), 0);
  EXPECT_EQ(refused(good + "--xx--", "text/plain"), 415);
  EXPECT_EQ(refused(good + "--xx--", ""), 415);
  EXPECT_EQ(refused(good + "--xx--", "multipart/form-data"), 400);
  EXPECT_EQ(refused(good + "--xx--", "multipart/form-data; boundary="), 400);
  EXPECT_EQ(refused(good + "--xx--", "multipart/form-data; boundary=\"xx"), 400);
  EXPECT_EQ(refused(good + "--xx--", "multipart/form-data; boundary=" + std::string(71, 'x')), 400);
  for (const std::string& body : std::vector<std::string>{
           "",
           "x",
           good,
           good + "--xx",
           good + "--xx\r\n",
           "--xx\r\n",
           "--xx\r\n\r\n",
           "--xxy\r\n" + good,
           part("attachment; name=a", "1") + "--xx--",
           part("form-data", "1") + "--xx--",
           part("form-data; name", "1") + "--xx--",
           part("form-data; name=\"a", "1") + "--xx--",
           part("form-data; name=a; name=b", "1") + "--xx--",
           part("form-data; name=\"a\"b", "1") + "--xx--",
           part("form-data; name=\"\xFF\"", "1") + "--xx--",
           part("form-data; name=a; filename=\"a\nb\"", "1") + "--xx--",
           part(std::string("form-data; name=\"a\0b\"", 21), "1") + "--xx--",
           part("form-data; name=a", "1", "no colon\r\n") + "--xx--",
           part("form-data; name=a", "1", "Content-Transfer-Encoding: base64\r\n") + "--xx--",
           "--xx\r\n\r\n1\r\n--xx--"}) {
    EXPECT_EQ(refused(body), 400) << body;
  }
}

TEST(Multipart, HasLimits) {
  const std::string good = part("form-data; name=abcd", "1");
  EXPECT_EQ(refused(good + good + "--xx--", kType, {.parts = 2}), 0);
  EXPECT_EQ(refused(good + good + good + "--xx--", kType, {.parts = 2}), 413);
  EXPECT_EQ(refused(good + "--xx--", kType, {.header_bytes = 20}), 413);
  EXPECT_EQ(refused(good + "--xx--", kType, {.name_bytes = 4}), 0);
  EXPECT_EQ(refused(good + "--xx--", kType, {.name_bytes = 3}), 413);
}

}  // namespace
}  // namespace restkv::server
