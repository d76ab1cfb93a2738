#include "cli/message_reader.h"

#include <fmt/format.h>

#include <string_view>

#include "base/text.h"
#include "restkv/error.h"

namespace restkv::cli {
namespace {

constexpr std::string_view kQuotes = R"(""")";
constexpr const char* kFirst = "> ";
constexpr const char* kMore = ". ";

}  // namespace

bool MessageReader::add_line(Message& message, const char* prompt) {
  std::optional<std::string> line = lines_.next(prompt);
  if (!line) return false;
  try {
    message.text += to_utf8(std::move(*line), fmt::format("line {}", lines_.number()));
  } catch (const Error& e) {
    if (message.fault.empty()) message.fault = e.what();
  }
  return true;
}

std::optional<Message> MessageReader::next() {
  Message message;
  if (!add_line(message, kFirst)) return std::nullopt;
  std::string& text = message.text;
  if (text.starts_with('/')) return message;
  if (text.starts_with(kQuotes)) {
    const size_t begun = lines_.number();
    text.erase(0, kQuotes.size());
    while (!text.ends_with(kQuotes)) {
      text += '\n';
      if (add_line(message, kMore)) continue;
      message.fault =
          fmt::format(R"(line {}: """ begins a message that nothing ends; end it with """)", begun);
      return message;
    }
    text.resize(text.size() - kQuotes.size());
    while (text.starts_with('\n')) text.erase(0, 1);
    while (text.ends_with('\n')) text.pop_back();
    return message;
  }
  while (text.ends_with('\\')) {
    text.back() = '\n';
    if (!add_line(message, kMore)) break;
  }
  return message;
}

}  // namespace restkv::cli
