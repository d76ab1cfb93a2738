#include "cli/prompt_sources.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <string_view>
#include <utility>

#include "base/file.h"
#include "base/text.h"
#include "cli/output_file.h"
#include "cli/process.h"
#include "cli/standard_input.h"
#include "document/document.h"
#include "restkv/error.h"

namespace restkv::cli {
namespace {

/// Texts one after the other, an empty line between them whatever their own line ends.
class Joined {
 public:
  void add_file(std::string bytes, const std::string& name) {
    const size_t size = bytes.size();
    const document::Document document = document::read_document(std::move(bytes), {.name = name});
    if (document.kind != document::Kind::kText) {
      notice(fmt::format("{} is {}: its text is the prompt, {} bytes of {}", name,
                         document.kind == document::Kind::kPdf ? "a PDF document" : "an HTML page",
                         document.text.size(), size));
    }
    add(document.text, name);
  }
  /// `piped` stands where "-" does.
  void add_files(const std::vector<std::string>& files, const std::string& piped) {
    for (const std::string& file : files) {
      if (file == kStandardInput) {
        add_file(piped, std::string(kStandardInputName));
      } else {
        add_file(read_file(file), file);
      }
    }
  }
  void add(std::string_view text, std::string_view source) {
    if (text.empty()) {
      throw Error(ErrorCode::kInvalidArgument,
                  fmt::format("the prompt from {} is empty; give it some text", source));
    }
    if (!text_.empty()) {
      text_.resize(text_.find_last_not_of("\r\n") + 1);
      text_ += "\n\n";
    }
    text_ += text;
  }
  [[nodiscard]] std::string take() { return std::move(text_); }

 private:
  std::string text_;
};

}  // namespace

std::string read_documents(const std::vector<std::string>& files) {
  if (std::ranges::count(files, kStandardInput) > 1) {
    throw Error(ErrorCode::kInvalidArgument, "- is given twice; standard input has one end");
  }
  const bool named = std::ranges::find(files, kStandardInput) != files.end();
  Joined joined;
  joined.add_files(files, named ? read_to_end(STDIN_FILENO, kStandardInputName) : "");
  return joined.take();
}

void PromptSources::declare(ArgumentParser& parser) {
  parser.add("-p,--prompt", text_, "the prompt; behind a document, the question", "TEXT");
  parser.add_repeated(
      "-f,--file", files_,
      "file that holds the prompt or a part of it; may be given several times; - is "
      "standard input",
      "FILE");
}

std::string PromptSources::read() const {
  const bool named = std::ranges::find(files_, kStandardInput) != files_.end();
  const bool others = !files_.empty() || !text_.empty();
  if (std::ranges::count(files_, kStandardInput) > 1) {
    throw Error(ErrorCode::kInvalidArgument, "-f - is given twice; standard input has one end");
  }
  if (!named && !others && isatty(STDIN_FILENO) != 0) {
    throw Error(ErrorCode::kInvalidArgument,
                "no prompt: give -p TEXT or -f FILE, or pipe one into standard input");
  }
  // First of all, since a closed standard input leaves its number to the next file that is opened.
  const std::string piped = named || !others ? read_to_end(STDIN_FILENO, kStandardInputName)
                                             : read_if_piped(STDIN_FILENO);
  const bool unasked = !named && others && !piped.empty();
  if (unasked) {
    notice(
        fmt::format("{} bytes of standard input are part of the prompt; < /dev/null leaves them "
                    "out",
                    piped.size()));
  }
  Joined joined;
  joined.add_files(files_, piped);
  if (unasked || !others) joined.add_file(piped, std::string(kStandardInputName));
  if (!text_.empty()) joined.add(to_utf8(text_, "-p"), "-p");
  return joined.take();
}

}  // namespace restkv::cli
