#include "document/pdf_text.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <string>

#include "document/document.h"
#include "support/pdf.h"
#include "support/refusal.h"

namespace restkv::document {
namespace {

using ::restkv::testing::make_pdf;
using ::restkv::testing::refusal;
using ::testing::HasSubstr;

class PdfText : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!can_read_pdf()) GTEST_SKIP() << "pdftotext is not installed (Debian: poppler-utils)";
  }
};

Document read(std::string bytes, const std::string& name = "report.pdf") {
  return read_document(std::move(bytes), {.name = name});
}

TEST_F(PdfText, ReadsPageAfterPage) {
  const Document document =
      read(make_pdf({"The harbour was opened in 1890.", "It cost 5 million."}), "no-ending");
  EXPECT_EQ(document.kind, Kind::kPdf);
  EXPECT_THAT(document.text, HasSubstr("The harbour was opened in 1890."));
  EXPECT_THAT(document.text, HasSubstr("It cost 5 million."));
  EXPECT_LT(document.text.find("1890"), document.text.find("5 million"));
  EXPECT_EQ(document.text.find('\f'), std::string::npos);
}

TEST_F(PdfText, TakesWhatPrintersPutBefore) {
  const std::string printed = "\x1B%-12345X@PJL\r\n" + make_pdf({"Printed text."});
  EXPECT_THAT(read(printed).text, HasSubstr("Printed text."));
}

TEST_F(PdfText, SaysWhatIsWrong) {
  EXPECT_THAT(refusal(ErrorCode::kInput, [] { (void)read("%PDF-1.4\nnothing of a PDF"); }),
              HasSubstr("report.pdf: is a PDF document, but pdftotext cannot read it"));
  EXPECT_THAT(refusal(ErrorCode::kInput, [] { (void)read(make_pdf({""})); }),
              HasSubstr("is a PDF document without text"));
}

TEST(PdfTextWithoutTheProgram, SaysWhatToInstall) {
  const std::string path = std::getenv("PATH");
  ASSERT_EQ(setenv("PATH", "/nowhere", 1), 0);
  EXPECT_FALSE(can_read_pdf());
  const std::string message =
      refusal(ErrorCode::kUnsupported, [] { (void)read(make_pdf({"text"})); });
  EXPECT_EQ(readable_kinds().size(), 2U);
  setenv("PATH", path.c_str(), 1);
  EXPECT_THAT(message, HasSubstr("report.pdf: is a PDF document, and pdftotext"));
  EXPECT_THAT(message, HasSubstr("apt install poppler-utils"));
}

}  // namespace
}  // namespace restkv::document
