#include "cli/question_file.h"

#include <fmt/format.h>

#include <set>
#include <utility>

#include "base/file.h"
#include "base/json.h"
#include "base/text.h"
#include "cli/numbered_lines.h"
#include "restkv/error.h"

namespace restkv::cli {
namespace {

constexpr size_t kMostTokens = size_t{1} << 20U;

std::string text_of(const Json& record) {
  const Json* text = record.find("question");
  if (text == nullptr) text = record.find("prompt");
  if (text == nullptr || !text->is_string()) {
    throw Error(ErrorCode::kInput, "needs a field 'question' with a text");
  }
  return text->text();
}

Question from_record(const Json& record, std::string number) {
  if (!record.is_object()) throw Error(ErrorCode::kInput, "is no JSON object");
  Question question{.id = std::move(number), .text = text_of(record)};
  if (const Json* id = record.find("id"); id != nullptr && !id->is_null()) {
    if (!id->is_string() && !id->is_number_integer()) {
      throw Error(ErrorCode::kInput, "field 'id' must be a text or a whole number");
    }
    question.id = id->is_string() ? id->text() : id->dump();
  }
  if (const Json* most = record.find("max_tokens"); most != nullptr && !most->is_null()) {
    const bool usable = most->is_number_unsigned() && most->get<uint64_t>() >= 1 &&
                        most->get<uint64_t>() <= kMostTokens;
    if (!usable) {
      throw Error(ErrorCode::kInput, fmt::format("field 'max_tokens' must be 1 to {}, not {}",
                                                 kMostTokens, most->dump()));
    }
    question.max_tokens = most->get<size_t>();
  }
  return question;
}

}  // namespace

std::vector<Question> read_questions(const std::string& path) {
  const std::string content = to_utf8(read_file(path), path);
  const bool records = trimmed(content).starts_with('{');
  std::vector<Question> questions;
  std::set<std::string> ids;
  for_each_line(content, path, [&](std::string_view line, size_t number) {
    Question question = records ? from_record(parse_json(line), fmt::format("{}", number))
                                : Question{fmt::format("{}", number), std::string(line)};
    if (trimmed(question.text).empty()) throw Error(ErrorCode::kInput, "the question is empty");
    if (!ids.insert(question.id).second) {
      throw Error(ErrorCode::kInput, fmt::format("the id '{}' stands twice", question.id));
    }
    questions.push_back(std::move(question));
  });
  if (questions.empty()) throw Error(ErrorCode::kInput, path + ": holds no question");
  return questions;
}

}  // namespace restkv::cli
