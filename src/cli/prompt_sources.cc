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
  void add_file(std::string bytes, const std::string& name, bool with_name = false) {
    const size_t size = bytes.size();
    document::Document document = document::read_document(std::move(bytes), {.name = name});
    if (document.kind != document::Kind::kText) {
      notice(fmt::format("{} is {}: its text is the prompt, {} bytes of {}", name,
                         document.kind == document::Kind::kPdf ? "a PDF document" : "an HTML page",
                         document.text.size(), size));
    }
    if (with_name && !document.text.empty()) document.text.insert(0, name + ":\n\n");
    add(document.text, name);
  }
  /// `piped` stands where "-" does.
  void add_files(const std::vector<InputFile>& files, const std::string& piped) {
    for (const InputFile& file : files) {
      if (file.path == kStandardInput) {
        add_file(piped, std::string(kStandardInputName));
      } else {
        add_file(read_file(file.path), file.path, file.from_folder);
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

std::string read_documents(const std::vector<InputFile>& files) {
  if (std::ranges::count(files, kStandardInput, &InputFile::path) > 1) {
    throw Error(ErrorCode::kInvalidArgument, "- is given twice; standard input has one end");
  }
  const bool named = std::ranges::find(files, kStandardInput, &InputFile::path) != files.end();
  Joined joined;
  joined.add_files(files, named ? read_to_end(STDIN_FILENO, kStandardInputName) : "");
  return joined.take();
}

void PromptSources::declare(ArgumentParser& parser) {
  parser.add("-p,--prompt,prompt", text_, "the prompt; behind a document, the question", "TEXT");
  parser.add_repeated(
      "-f,--file", files_,
      "file that holds the prompt or a part of it; may be given several times; - is "
      "standard input",
      "FILE");
  folders_.declare(parser);
}

std::string PromptSources::read() const {
  const auto dashes = std::ranges::count(found_, kStandardInput, &InputFile::path);
  const bool named = dashes > 0;
  const bool others = !found_.empty() || !text_.empty();
  if (dashes > 1) {
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
  joined.add_files(found_, piped);
  if (unasked || !others) joined.add_file(piped, std::string(kStandardInputName));
  if (!text_.empty()) joined.add(to_utf8(text_, "-p"), "-p");
  return joined.take();
}

}  // namespace restkv::cli
